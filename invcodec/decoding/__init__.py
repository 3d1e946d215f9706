"""Reading files: frames, playback, camera poses, and evaluation against a capture."""
