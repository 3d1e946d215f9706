"""Lookup of profiles by id or name.

Other packages add profiles through the entry-point group `invcodec.profiles`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from invcodec.errors import UnsupportedError
from invcodec.field.grid import GridProfile
from invcodec.field.nerf import NerfProfile
from invcodec.field.profile import Profile
from invcodec.names import PROFILE_GROUP, plugins


@cache
def _registry() -> tuple[type[Profile], ...]:
    return (NerfProfile, GridProfile, *(point.load() for point in plugins(PROFILE_GROUP).values()))


def build(key: int | str, config: Mapping[str, Any], version: int | None = None) -> Profile:
    """The profile with this id or name, configured.

    Raises:
        UnsupportedError: the profile, or this version of it, is not installed.
        TypeError: the configuration does not fit the profile.
    """
    for kind in _registry():
        if key in (kind.id, kind.name):
            if version is not None and version != kind.version:
                raise UnsupportedError(
                    f"profile '{kind.name}' version {version}: this decoder knows {kind.version}; update invcodec"
                )
            for value in config.values():
                if any(type(each) is not int for each in (value if isinstance(value, (list, tuple)) else [value])):
                    raise TypeError("a configuration holds integers and lists of integers")
            return kind(**config)
    raise UnsupportedError(f"unknown profile {key!r}: it needs a newer invcodec, or the package that provides it")
