"""What clients see: HTTP, in OpenAI's shapes. One folder per OpenAI resource."""
