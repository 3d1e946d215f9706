"""From a file to pictures."""
