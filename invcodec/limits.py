"""Limits on what a file may ask of a decoder, checked before memory is allocated (FORMAT.md, "Limits")."""

from __future__ import annotations

MAX_HEAD_BYTES = 1 << 20
"""Of HEAD, and of a frame header."""
MAX_INDEX_BYTES = 16 << 20
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
