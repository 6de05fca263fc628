"""Loading an OpenAI-compatible server and measuring it over HTTP."""
