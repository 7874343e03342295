"""What hostile bytes reach: everything here runs in a sampler process that opens nothing."""
