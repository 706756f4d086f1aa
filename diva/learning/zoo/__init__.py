"""Networks of our own for images, by name."""
