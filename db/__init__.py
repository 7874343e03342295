"""Bottom layer: settings, errors, the schema and every SQL statement."""
