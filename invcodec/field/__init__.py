"""Part III of FORMAT.md: network profiles, which map positions and directions to density and colour."""
