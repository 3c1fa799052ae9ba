"""The record of replaced blocks in `model.config.qkan` of a transformers model.

`from_pretrained` builds the blocks again from this record: {"format": 1, "read_with": …, "modules":
{name: {"kind": class, "config": …}}}. The config is None for a class that cannot be built from one,
and read_with tells readers of the file how to load it.

A model with a record has its own `save_pretrained`, which calls that of its class and then changes
the folder so that a loader without this package stops with an error; see `save`.
"""

from __future__ import annotations

import copy
import functools
import os
import sys
from collections.abc import Iterable
from typing import Any

from torch import nn

from qkan._kinds import kind_of
from qkan.errors import QKANError

from .model_card import GUARD, METHOD, finish, unguarded

FORMAT = 2
"""The version of the record; `from_pretrained` reads this one and all earlier ones."""

READ_WITH = (
    "qkan.from_pretrained(folder), or AutoModel.from_pretrained and its relatives in transformers "
    "after import qkan. Without that import they would build the old blocks with random weights; "
    "transformers_weights therefore stops them with an error."
)

Record = dict[str, dict[str, Any]]
"""From the names of modules to their descriptions."""


def own_config(model: nn.Module) -> None:
    """Give a model its own configuration if it shares one with another replaced model.

    Models that are built from one configuration object all refer to that object, so the record of
    one model would overwrite that of another.
    """
    for _, outer in _outermost(model):
        shared, record = outer.config, _current(outer)
        if record.keys() != _written(outer).keys():
            own = copy.copy(shared)
            for part in outer.modules():
                if getattr(part, "config", None) is shared:
                    part.config = own
            _write(outer, record)


def add(model: nn.Module, names: Iterable[str]) -> None:
    """Describe the modules of these names in the configuration of their model."""
    for prefix, outer in _outermost(model):
        own = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        if own:
            _write(outer, _current(outer) | {n: describe(outer.get_submodule(n)) for n in own})


def remove(model: nn.Module, names: Iterable[str]) -> None:
    """Remove the modules of these names from the configuration."""
    for prefix, outer in _outermost(model):
        gone = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        _write(outer, {n: entry for n, entry in _current(outer).items() if n not in gone})


def update(model: nn.Module) -> None:
    """Describe the replaced modules again, after one of them has changed."""
    for _, outer in _outermost(model):
        if record := _current(outer):
            _write(outer, record)


def recorded(model: nn.Module) -> set[str]:
    """Return the names, in this model, of all described modules."""
    return {
        f"{prefix}{resolved(outer, name)}"
        for prefix, outer in _outermost(model)
        for name in _current(outer)
    }


def describe(module: nn.Module) -> dict[str, Any]:
    """Return the kind of a module, and its configuration if the module can be built from it."""
    known: Any = module
    described = kind_of(module) is not None and not _is_folded(module)
    return {"kind": type(module).__name__, "config": known.config() if described else None}


def _is_folded(module: nn.Module) -> bool:
    """Whether `fold`, which this room may not import, has removed the circuits of a module."""
    return any(type(part).__name__.startswith("Folded") for part in module.modules())


def resolved(model: nn.Module, name: str) -> str | None:
    """Return the name in this model of a module that has this name in an outer or inner model."""
    prefix = getattr(model, "base_model_prefix", "") + "."
    for found in (name, name.removeprefix(prefix), prefix + name):
        try:
            model.get_submodule(found)
        except AttributeError:
            continue
        return found
    return None


def _outermost(model: nn.Module) -> list[tuple[str, Any]]:
    """The transformers models that are not part of another one, with prefixes of names."""
    modeling = sys.modules.get("transformers.modeling_utils")
    found: list[tuple[str, Any]] = []
    if modeling is None:
        return found
    for name, module in model.named_modules():
        prefix = name and name + "."
        inside = any(prefix.startswith(outer) for outer, _ in found)
        if isinstance(module, modeling.PreTrainedModel) and not inside:
            found.append((prefix, module))
    return found


def _written(outer: Any) -> Record:
    """The record in the configuration."""
    found = getattr(outer.config, "qkan", None)
    record: Record = found.get("modules", {}) if isinstance(found, dict) else {}
    return record


def _current(outer: Any) -> Record:
    """The record of the modules that still have the recorded kind, with their present options."""
    record: Record = {}
    for name, entry in _written(outer).items():
        found = resolved(outer, name)
        now = None if found is None else describe(outer.get_submodule(found))
        if now is not None and now["kind"] == entry["kind"]:
            record[name] = now
    return record


def _write(outer: Any, record: Record) -> None:
    _describe_in(outer.config, record)
    sharing = (part for part in outer.modules() if getattr(part, "config", None) is outer.config)
    for part in sharing:
        if record and hasattr(type(part), "save_pretrained"):
            # a partial can be copied and pickled together with its model
            part.save_pretrained = functools.partial(save, part)
        else:
            vars(part).pop("save_pretrained", None)


def _describe_in(config: Any, record: Record) -> None:
    if record:
        config.qkan = {"format": FORMAT, "read_with": READ_WITH, "modules": record}
        # also this one must not build the old blocks, when it is passed on to another model
        config.transformers_weights = getattr(config, "transformers_weights", None) or GUARD
    elif hasattr(config, "qkan"):
        del unguarded(config).qkan


def save(model: Any, folder: str | os.PathLike[str], *args: Any, **options: Any) -> None:
    """Save a model with replaced modules by `save_pretrained` of its class, with their record.

    `config.json` gets the record of the modules as they are now, and the name of the hook by which
    transformers calls this package; README.md says how to load the folder.

    Args:
        model: A model of transformers.
        folder: As in `save_pretrained`.
        *args: As in `save_pretrained`.
        **options: As in `save_pretrained`.

    Raises:
        QKANError: The model was folded.
    """
    config, record = model.config, _current(model)
    for name in _written(model):
        found = resolved(model, name)
        if found is not None and _is_folded(model.get_submodule(found)):
            raise QKANError(
                f"save_pretrained: {name} was folded and keeps no circuit from which it could be "
                "built again; save the model that was folded, and fold it after loading."
            )
    passing = ("qkan", "quantization_config", "transformers_weights")
    kept = {name: vars(config)[name] for name in passing if name in vars(config)}
    _describe_in(config, record)
    marked = bool(record) and kept.get("quantization_config") is None
    if marked:
        config.quantization_config = {"quant_method": METHOD}
    try:
        type(model).save_pretrained(model, folder, *args, **options)
    finally:
        for name in passing:
            vars(config).pop(name, None)
        vars(config).update(kept)
    main = options.get("is_main_process", args[0] if args else True)
    if record and getattr(model, "should_save_on_this_rank", bool)(main):
        finish(folder, record)
