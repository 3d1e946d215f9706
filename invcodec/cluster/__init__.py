"""Segments on many machines: schedulers of what `invcodec.segments` describes."""
