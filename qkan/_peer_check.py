"""Two distributions that install the import name `qkan` overwrite each other: say so at once.

Imported first by the package, for what it checks.
"""

from __future__ import annotations

from importlib import metadata


def refuse_other_distribution() -> None:
    """Raise ImportError when the distribution named `qkan`, another project, is installed too."""
    try:
        version = metadata.version("qkan")
    except metadata.PackageNotFoundError:
        return
    raise ImportError(
        f"The distribution 'qkan' {version}, another project, is installed beside 'qkan-hybrid' "
        "and both own the import name 'qkan'. Keep one of them in an environment: "
        "pip uninstall qkan, then pip install --force-reinstall --no-deps qkan-hybrid; or use an "
        "environment of its own for each. qkan.from_qkan reads the other one's checkpoints."
    )


refuse_other_distribution()
