"""One file per command, each a thin edge."""
