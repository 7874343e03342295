"""Middle layer: takes one video from a message to committed vectors."""
