"""Lookup of profiles by id or name.

Other packages add profiles through the entry-point group `invcodec.profiles`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invcodec.errors import UnsupportedError
from invcodec.field.grid import GridProfile
from invcodec.field.image import ImageProfile
from invcodec.field.nerf import NerfProfile
from invcodec.field.profile import Profile
from invcodec.names import PROFILE_GROUP, load_plugin, loaded_plugins, plugins

BUILT_IN: tuple[type[Profile], ...] = (NerfProfile, GridProfile, ImageProfile)


def _find(key: int | str) -> type[Profile]:
    """The class of a profile. Plug-ins are loaded only if no built-in one matches, and by name only the named one."""
    for kind in BUILT_IN:
        if key in (kind.id, kind.name):
            return kind
    if isinstance(key, str):
        if (point := plugins(PROFILE_GROUP).get(key)) is not None:
            return load_plugin(point)
    else:
        for _, kind in loaded_plugins(PROFILE_GROUP):
            if key == kind.id:
                return kind
    raise UnsupportedError(f"unknown profile {key!r}: it needs a newer invcodec, or the package that provides it")


def build(key: int | str, config: Mapping[str, Any], version: int | None = None) -> Profile:
    """The profile with this id or name, configured.

    Raises:
        UnsupportedError: the profile, or this version of it, is not installed.
        UsageError: the plug-in of this name cannot be loaded.
        TypeError: the configuration does not fit the profile.
    """
    kind = _find(key)
    if version is not None and version != kind.version:
        raise UnsupportedError(
            f"profile '{kind.name}' version {version}: this decoder knows {kind.version}; update invcodec"
        )
    for value in config.values():
        if any(type(each) is not int for each in (value if isinstance(value, (list, tuple)) else [value])):
            raise TypeError("a configuration holds integers and lists of integers")
    return kind(**config)
