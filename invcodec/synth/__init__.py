"""A synthetic capture, the same on every machine."""
