"""What users take out: vectors in bulk, and the videos they are of."""
