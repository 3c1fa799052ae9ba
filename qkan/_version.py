"""The version of the package: pyproject.toml and the files of `save` take it from here."""

__version__ = "0.2.0"
