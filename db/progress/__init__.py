"""What people read of the ledger: counts, rates, models, workers, and what holds things up."""
