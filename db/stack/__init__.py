"""Which servers a command uses, and the embedded ones."""
