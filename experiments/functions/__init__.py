"""Studies that fit functions, of which the true values are known."""
