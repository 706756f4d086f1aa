"""Comparing runs and studies: what went into them, what came out, and where two runs part."""
