"""Studies that classify images."""
