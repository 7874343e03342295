"""Videos read and computed right here, without a fleet: `embed` and `sample`."""
