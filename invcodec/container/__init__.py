"""Part I of FORMAT.md: records, their structured fields, and files as sequences of records."""
