"""Limits on what a file may ask of a decoder, checked before memory is allocated (FORMAT.md, "Limits")."""

from __future__ import annotations

MAX_HEAD_BYTES = 1 << 20
"""Of HEAD, and of a frame header."""
MAX_INDEX_BYTES = 1 << 21
"""Of an INDEX record's payload, compressed or not."""
PAGE_FRAMES = 1 << 10
"""Of an INDEX of level 0."""
MAX_FRAMES = 1 << 26
MAX_TICKS = 1 << 53
"""Magnitude of frame times."""
MAX_RECORD_BYTES = 1 << 30
MAX_NESTING = 32
"""Depth of maps and lists in structured fields."""
MAX_CAMERAS = 1024
MAX_NETWORKS = 8
MAX_TENSORS = 256
"""Per network."""
MAX_TENSOR_DIMS = 4
MAX_WEIGHTS = 1 << 27
"""Values in one frame's state, all networks together."""
MAX_NAME_BYTES = 255
MAX_IMAGE_SIDE = 16384
MAX_SAMPLES_PER_RAY = 4096
MIN_QP, MAX_QP = -160, 64
"""Range of quantisation parameters."""
