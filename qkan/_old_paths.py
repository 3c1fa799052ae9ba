"""The modules of version 0.1.0 that have moved, so that its pickles and imports still work.

A pickle names the module of each class. The finder at the end of `sys.meta_path` is asked only for
modules that are not found otherwise, and answers an old name with today's module.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_MOVED = {
    "nn": "layer network functional kan basis splines start>starts activation_fit>starts "
    "hybrid.hqkan hybrid.attention hybrid.conv _watch",
    "training": "fit _training>fit_loop _data>batches optim checkpoint history _ranks _inputs "
    "_units",
    "interpret": "importance fisher explain plot _draw_edge _draw_network _figure symbolic formula "
    "_formula_writer _edge_formula>formula _forms _search _refit edges",
    "surgery": "extend _growth prune fold to_kan export",
    "io": "kan_files peer>from_qkan hybrid._record>hugging_face feynman",
    "tabular": "_roughness table_model estimators _estimator _estimator_options "
    "table_columns>columns cli.tables>reading",
    "devices": "qnode pennylane_layer devices.stage>layer_circuits devices.store>run_folder "
    "devices.reading>error_propagation devices.shift>parameter_shift",
    "hybrid": "hybrid._blocks hybrid._checks hybrid._choice hybrid._flops hybrid._probe "
    "hybrid._stages hybrid._swap hybrid._twins>block_pairs",
}
"""For each room of today, the old names of its modules and, where it differs, the new one."""

OLD_PATHS = {
    f"qkan.{old}": f"qkan.{room}.{new or old.rpartition('.')[2].lstrip('_')}"
    for room, names in _MOVED.items()
    for old, _, new in (name.partition(">") for name in names.split())
}
"""The old name of a module and its name of today."""


class _Finder(MetaPathFinder, Loader):
    """Finds a module under its old name."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in OLD_PATHS else None

    def exec_module(self, module: ModuleType) -> None:
        # the import system takes from sys.modules what stands there once a module has been executed
        sys.modules[module.__name__] = importlib.import_module(OLD_PATHS[module.__name__])


sys.meta_path.append(_Finder())
