"""Replace the feed-forward blocks and activations of a network, and distil into the new ones."""
