"""A live view of a gateway, its engines and its machine."""
