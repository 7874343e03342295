"""What the frame store holds: its objects by the videos they are of, and those that must go."""
