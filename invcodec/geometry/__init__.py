"""Cameras, the spaces that rays run through, and the geometry of a rig."""
