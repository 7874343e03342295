"""What `enqueue` is given, read as a stream of videos."""
