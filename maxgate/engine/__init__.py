"""Starting MAX, keeping it up, stopping it, and preparing models for it."""
