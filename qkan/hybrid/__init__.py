"""The feed-forward blocks of other people's networks: replace them, distil into them."""
