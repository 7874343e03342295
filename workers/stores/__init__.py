"""Where bytes come from: one module per kind of place. `workers.storage` is the door."""
