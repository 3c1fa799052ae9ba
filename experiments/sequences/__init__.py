"""Studies of sequences: sunspots many years ahead, and the next step of simulated traces."""
