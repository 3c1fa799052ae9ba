"""`python -m qkan` is the command line `qkan`."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
