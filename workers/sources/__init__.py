"""Where bytes come from: one module per kind of place. `workers.sources.storage` is the door."""
