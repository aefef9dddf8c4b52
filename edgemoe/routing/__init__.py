"""The prompt router: what a prompt is about, whether it needs a strong model, and whether it is unsafe."""
