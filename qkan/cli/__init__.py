"""The command line: `qkan --help`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, as the entry point `qkan`."""
    try:
        from .app import app
    except ImportError as error:
        # the message says how to install the extra
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    app()
