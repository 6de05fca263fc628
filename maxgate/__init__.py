"""OpenAI-compatible gateway in front of MAX Serve."""

__version__ = "0.1.0"
