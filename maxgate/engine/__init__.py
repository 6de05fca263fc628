"""Starting and supervising MAX, and preparing models for it."""
