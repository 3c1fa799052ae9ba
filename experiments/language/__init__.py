"""Studies of language models and of their feed-forward blocks."""
