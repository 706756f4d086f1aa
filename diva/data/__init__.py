"""Data sets: the catalogue, what is in a folder, and how batches are read from it."""
