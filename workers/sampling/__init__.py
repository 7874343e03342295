"""From the bytes of a video to 96 frames: plan, decode, isolate."""
