"""What `model.config.qkan` of a transformers model says about its replaced blocks.

{"format": 1, "read_with": …, "modules": {name: {"kind": class, "config": …}}}, where config is None
for a class that `from_pretrained` cannot build, and read_with is for people who open the file.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable
from typing import Any

from torch import nn

from qkan._kinds import kind_of

FORMAT = 1
"""Of the record; `from_pretrained` reads this one and all before."""

READ_WITH = (
    "qkan.from_pretrained(folder). AutoModel.from_pretrained and its kin in transformers do not "
    "know these modules: they build the blocks that were replaced, with random weights."
)

Record = dict[str, dict[str, Any]]
"""From the names of modules to what they are."""


def settle(model: nn.Module) -> None:
    """Give a model a configuration of its own where it shares one with another replaced model.

    Models built from one configuration object hold that very object, and what it says of the
    replaced blocks of one would be lost with those of the next.
    """
    for _, home in _homes(model):
        old, record = home.config, _current(home)
        if record.keys() != _written(home).keys():
            new = copy.copy(old)
            for part in home.modules():
                if getattr(part, "config", None) is old:
                    part.config = new
            _write(home, record)


def note(model: nn.Module, names: Iterable[str]) -> None:
    """Describe the modules of these names in the configuration of the model they belong to."""
    for prefix, home in _homes(model):
        own = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        if own:
            _write(home, {**_current(home), **{n: describe(home.get_submodule(n)) for n in own}})


def forget(model: nn.Module, names: Iterable[str]) -> None:
    """Take the modules of these names out of the configuration."""
    for prefix, home in _homes(model):
        gone = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        kept = {name: entry for name, entry in _current(home).items() if name not in gone}
        _write(home, kept)


def recorded(model: nn.Module) -> set[str]:
    """The names, in this model, of all modules that are described."""
    homes = _homes(model)
    return {f"{prefix}{resolved(home, name)}" for prefix, home in homes for name in _current(home)}


def refresh(model: nn.Module) -> None:
    """Describe the replaced modules again, after one of them has changed."""
    for _, home in _homes(model):
        if record := _current(home):
            _write(home, record)


def describe(module: nn.Module) -> dict[str, Any]:
    """The kind of a module, and its configuration if `from_pretrained` can build it from that."""
    known: Any = module
    config = None if kind_of(module) is None else known.config()
    return {"kind": type(module).__name__, "config": config}


def resolved(model: nn.Module, name: str) -> str | None:
    """The name in this model of a module of that name in a model around it or inside it."""
    prefix = getattr(model, "base_model_prefix", "") + "."
    for found in (name, name.removeprefix(prefix), prefix + name):
        try:
            model.get_submodule(found)
        except AttributeError:
            continue
        return found
    return None


def _homes(model: nn.Module) -> list[tuple[str, Any]]:
    """The transformers models that are no part of another one, and what their names begin with."""
    modeling = sys.modules.get("transformers.modeling_utils")
    homes: list[tuple[str, Any]] = []
    if modeling is None:
        return homes
    for name, module in model.named_modules():
        prefix = name and name + "."
        if isinstance(module, modeling.PreTrainedModel) and not any(
            prefix.startswith(outer) for outer, _ in homes
        ):
            homes.append((prefix, module))
    return homes


def _written(home: Any) -> Record:
    found = getattr(home.config, "qkan", None)
    record: Record = found.get("modules", {}) if isinstance(found, dict) else {}
    return record


def _current(home: Any) -> Record:
    """The record of the modules that are still what it says, described as they are now."""
    record: Record = {}
    for name, entry in _written(home).items():
        found = resolved(home, name)
        if found is not None:
            now = describe(home.get_submodule(found))
            if now["kind"] == entry["kind"]:
                record[name] = now
    return record


def _write(home: Any, record: Record) -> None:
    if record:
        home.config.qkan = {"format": FORMAT, "read_with": READ_WITH, "modules": record}
    elif hasattr(home.config, "qkan"):
        del home.config.qkan
