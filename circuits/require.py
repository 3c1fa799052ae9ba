"""`require`: the one place where an optional package is imported."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module, or raise an error that says how to install it.

    Args:
        module: The module's full name, such as "matplotlib.pyplot".
        extra: The extra that installs its package, such as "plot".

    Returns:
        The module.

    Raises:
        ImportError: The package is not installed; the message has the command that installs it. A
            package that is installed but fails to import raises its own error.

    Example:
        >>> require("math", "plot").sqrt(4.0)
        2.0
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # the package is installed, but a module inside it or one that it needs is missing
        if error.name != package:
            raise
        raise ImportError(
            f"This needs {package}, which is not installed. "
            f'Install it with: pip install "qkan-hybrid[{extra}]"',
            name=package,
        ) from error
