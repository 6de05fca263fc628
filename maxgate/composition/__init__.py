"""Builds what the application is made of, each object once."""
