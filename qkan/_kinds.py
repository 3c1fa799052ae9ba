"""The kinds of models that `save` writes: the names of their classes, as stored in files.

A class joins by a line in `_HOMES`, by `config()`, which returns JSON values, and by a classmethod
`from_config(config, **factory)`, which builds a model from these values. The classes are imported
when a file names them, so this module depends on none of them.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "QKAN": "qkan.nn.network",
    "QKANLayer": "qkan.nn.layer",
    "KAN": "qkan.nn.kan",
    "KANLayer": "qkan.nn.kan",
    "DARUAN": "qkan.nn.activation",
    "HQKAN": "qkan.nn.hqkan",
    "QKANConv2d": "qkan.nn.conv",
    "QKANAttention": "qkan.nn.attention",
    "QKANLSTM": "qkan.nn.recurrent",
    "QKANGRU": "qkan.nn.recurrent",
    "QKANLSTMCell": "qkan.nn.recurrent_cells",
    "QKANGRUCell": "qkan.nn.recurrent_cells",
    "FastWeightQKAN": "qkan.nn.fast_weights",
    "QKANExperts": "qkan.hybrid.experts",
    "TableModel": "qkan.tabular.table_model",
}

KINDS = (*_HOMES,)
"""The names of all kinds."""


def kind_of(model: object) -> str | None:
    """Return the kind of a model, or None if it has none, as for an instance of a subclass."""
    cls = type(model)
    return cls.__qualname__ if _HOMES.get(cls.__qualname__) == cls.__module__ else None


def class_of(kind: str) -> Any:
    """Return the class of a kind in `KINDS`, which is imported if necessary."""
    return getattr(importlib.import_module(_HOMES[kind]), kind)
