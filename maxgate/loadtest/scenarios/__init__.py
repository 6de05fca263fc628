"""The requests of a load test: built-in prompts, files, and synthetic prompts."""
