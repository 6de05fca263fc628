"""What is asked: built-in prompts, files, and synthetic prompts."""
