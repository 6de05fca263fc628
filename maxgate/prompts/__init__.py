"""From messages to token ids, and from generated text to what the client sees."""
