"""The command line: `qkan --help`."""
