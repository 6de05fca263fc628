"""The client: sends, stamps what arrives, and reads it afterwards."""
