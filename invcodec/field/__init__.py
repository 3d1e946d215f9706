"""Part III of FORMAT.md: the networks (profiles) that turn positions into density and colour."""
