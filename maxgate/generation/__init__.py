"""The internal vocabulary: requests, chunks, and the interfaces between layers."""
