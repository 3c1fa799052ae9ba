"""The version of the package, which pyproject.toml and the files of `save` take from here."""

__version__ = "0.2.0"
