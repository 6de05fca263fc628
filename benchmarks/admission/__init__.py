"""Measure admission: overload, Retry-After, fairness and cost."""
