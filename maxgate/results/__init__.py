"""The report of a load test: its published schema, its files, and the statistics behind it."""
