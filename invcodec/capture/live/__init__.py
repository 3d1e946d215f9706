"""Live sources: cameras read through FFmpeg, raw frames from a pipe, or a capture played back in real time."""
