"""Make `AutoModel` of transformers build replaced modules once both packages are imported.

The hook is a subclass of a class in transformers, so it cannot be defined before transformers is
imported, and `import qkan` imports neither transformers nor torch. A finder is therefore put before
the others; it waits for one name, the module of transformers that lists the quantisers.
"""

import contextlib
import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

_AWAITED, _HOOK = "transformers.quantizers.auto", "qkan.hybrid.auto_loading"


class _Finder(MetaPathFinder, Loader):
    """Finds the awaited module as the other finders do, and imports the hook after it."""

    def __init__(self) -> None:
        self._found: Loader | None = None

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _AWAITED or self._found is not None:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            self._found, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        assert self._found is not None
        return self._found.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert self._found is not None and module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._found
        self._found.exec_module(module)
        _register()


def _register() -> None:
    # an older transformers has no place for the hook and must still work; our folders then fail to
    # load, because of the missing file that their config.json names
    with contextlib.suppress(ImportError):
        importlib.import_module(_HOOK)


if _AWAITED in sys.modules:
    _register()
else:
    sys.meta_path.insert(0, _Finder())
