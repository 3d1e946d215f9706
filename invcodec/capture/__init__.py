"""Input: multi-view captures on disk and cameras that film live."""
