"""Compute the results in a report from raw records."""
