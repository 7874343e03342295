"""Every way a worker process ends in order."""
