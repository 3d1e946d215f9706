"""Files over HTTP while they grow, and the viewer."""
