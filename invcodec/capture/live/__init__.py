"""Live sources: cameras read through ffmpeg, raw frames from a pipe, or a capture played back in real time."""
