"""Top layer: everything that runs at the operator's desk."""
