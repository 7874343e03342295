"""What `reelvec status` says, and what that is made of."""
