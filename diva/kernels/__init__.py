"""How numbers are computed."""
