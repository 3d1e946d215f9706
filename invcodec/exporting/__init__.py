"""Frames as other programs read them: points and surfaces from fields, and the files that hold them."""
