"""A server that speaks the APIs of OpenAI and Anthropic: one loaded model answers several requests together."""
