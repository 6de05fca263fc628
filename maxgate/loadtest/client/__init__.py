"""The HTTP client: sends requests, stamps arriving data, and parses it afterwards."""
