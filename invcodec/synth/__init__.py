"""Ray-traced synthetic captures, identical on every machine."""
