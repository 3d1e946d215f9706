"""Files made from files without a capture: cut, concat, repair, verify, transcode."""
