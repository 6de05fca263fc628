"""Makes the pictures of docs/images from the current output of the tools."""
