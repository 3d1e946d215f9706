"""Capture layouts: each turns a folder into cameras with the files that hold their images.

A new layout is a module here that defines `LAYOUT` (`listing.Layout`), plus its name in `invcodec.names.LAYOUTS`.
Other packages register theirs in the entry-point group `invcodec.layouts`.
"""
