"""Compare a new engine with the running ones, on a share of the real requests."""
