"""What `reelvec doctor` looks at: one module per group of checks, judgements apart from facts."""
