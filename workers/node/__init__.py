"""One node: its processes, GPUs, cores and memory."""
