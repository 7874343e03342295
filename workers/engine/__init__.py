"""From windows of many videos to vectors: batches and the device."""
