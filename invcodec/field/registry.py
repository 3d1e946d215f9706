"""Lookup of profiles by id or name.

Other packages add profiles through the entry-point group `invcodec.profiles`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invcodec.errors import DamagedError, UnsupportedError, UsageError
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


def build(key: int | str, config: Mapping[str, Any]) -> Profile:
    """The profile with this id or name, configured; what the configuration does not say is as usual.

    Raises:
        UnsupportedError: the profile is not installed.
        UsageError: the plug-in of this name cannot be loaded, or the profile has no such setting.
        DamagedError, LimitError: a setting is out of range.
    """
    kind = _find(key)
    if unknown := config.keys() - kind.settings.keys():
        raise UsageError(f"{kind.name} profile: has no setting '{min(unknown)}'")
    kind.check(config)
    return kind(**config)


def declared(key: int, config: Mapping[str, Any], version: int) -> Profile:
    """The profile that a file declares, by its id.

    Raises:
        UnsupportedError: the profile, or this version of it, is not installed.
        DamagedError, LimitError: the configuration is not one of this profile.
    """
    kind = _find(key)
    if version != kind.version:
        raise UnsupportedError(
            f"profile '{kind.name}' version {version}: this decoder knows {kind.version}; update invcodec"
        )
    missing = [key for key, setting in kind.settings.items() if setting.required and key not in config]
    if missing:
        raise DamagedError(f"{kind.name} profile: {missing[0]}: is missing")
    # Keys that are not known are ignored.
    config = {key: value for key, value in config.items() if key in kind.settings}
    kind.check(config)
    return kind(**config)
