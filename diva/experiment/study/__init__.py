"""Studies: many runs that were planned together, what they have in common, and what moves them."""
