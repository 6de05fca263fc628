"""Everything about talking to MAX servers."""
