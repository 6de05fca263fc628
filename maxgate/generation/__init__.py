"""The internal vocabulary: what is asked, what comes back, and who answers."""
