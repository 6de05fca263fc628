"""The HTTP API, in OpenAI's shapes. One folder per OpenAI resource."""
