"""Streaming over HTTP while a file is being written, and the viewer."""
