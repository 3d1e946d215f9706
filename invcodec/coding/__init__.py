"""Part II of FORMAT.md: a frame's integers to and from the bytes of a record."""
