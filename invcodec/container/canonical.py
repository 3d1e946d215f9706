"""The canonical form of MessagePack that structured fields have (FORMAT.md, "Structured fields").

Every value has exactly one spelling: `unpack` packs again and compares, which refuses duplicate keys, wasteful integer
widths and the like.
"""

from __future__ import annotations

import math
from typing import Any

import msgpack

from invcodec.errors import DamagedError, LimitError
from invcodec.limits import MAX_HEAD_BYTES, MAX_NESTING


def pack(value: Any) -> bytes:
    """Canonical msgpack: keys in the order given, shortest integers, 64-bit floats."""
    return msgpack.packb(value, use_bin_type=True)


def unpack(data: bytes, what: str, limit: int = MAX_HEAD_BYTES) -> Any:
    """Inverse of `pack`; `what` names the value in messages.

    Raises:
        LimitError: more than `limit` bytes.
        DamagedError: not msgpack, not in canonical form, or with values that have no place in a file.
    """
    if len(data) > limit:
        raise LimitError(f"{what}: {len(data)} bytes, more than {limit} allowed")
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True)
        canonical = pack(value) == data
        _check_plain(value, what, 0)
    except (ValueError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise DamagedError(f"{what}: not valid msgpack ({error})") from None
    if not canonical:
        raise DamagedError(f"{what}: msgpack is not in canonical form")
    return value


def packed_size(data: bytes, what: str, limit: int = MAX_HEAD_BYTES) -> int:
    """Size in bytes of the packed value that `data` begins with.

    Raises:
        LimitError: more than `limit` bytes.
        DamagedError: not msgpack, or cut short.
    """
    # No string or list is too long in itself: a value that does not end within the limit is over it.
    endless = dict.fromkeys(("max_str_len", "max_bin_len", "max_array_len", "max_map_len", "max_ext_len"), 2**32)
    unpacker = msgpack.Unpacker(max_buffer_size=limit, **endless)
    unpacker.feed(data[:limit])
    try:
        unpacker.skip()
    except msgpack.OutOfData:
        if len(data) > limit:
            raise LimitError(f"{what}: more than {limit} bytes") from None
        raise DamagedError(f"{what}: exceeds its record") from None
    except (ValueError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise DamagedError(f"{what}: not valid msgpack ({error})") from None
    return unpacker.tell()


def _check_plain(value: Any, what: str, depth: int) -> None:
    """Refuse deep nesting, NaN and infinity, extension types, and keys that are not text."""
    if depth > MAX_NESTING:
        raise DamagedError(f"{what}: nested deeper than {MAX_NESTING}")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DamagedError(f"{what}: not a finite number")
    elif isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str):
                raise DamagedError(f"{what}: a key is not text")
            _check_plain(each, what, depth + 1)
    elif isinstance(value, list):
        for each in value:
            _check_plain(each, what, depth + 1)
    elif not (value is None or isinstance(value, (bool, int, str, bytes))):
        raise DamagedError(f"{what}: holds an extension type")
