"""`from_pretrained`: load a transformers model with replaced blocks from its folder."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

from qkan._kinds import KINDS, class_of
from qkan.circuits import require
from qkan.errors import QKANError
from qkan.io.hugging_face import FORMAT, resolved, update
from qkan.io.model_card import unguarded

from .activations import rebuild as rebuild_activations
from .blocks import block_of, find_blocks
from .swap import Swap

_WHERE_FROM = (
    "cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token",
    "trust_remote_code",
)  # fmt: skip
_OURS = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""Options that make transformers report weights that do not fit."""
_WRONG = {
    "missing_keys": "The file lacks", "unexpected_keys": "The model has no place for",
    "mismatched_keys": "Of another shape are",
}  # fmt: skip
_MISFITS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""The exceptions that building a module from an edited configuration can raise."""


def from_pretrained(
    path: str | os.PathLike[str], *, model_class: type[nn.Module] | None = None, **options: Any
) -> nn.Module:
    """Build a model that `save_pretrained` wrote after `replace_ffn`, with its new modules.

    `config.json` describes the new modules and their places. transformers loads the weights, and
    none may be missing. With a `model_class` other than the saved one, such as a class for a task,
    weights that were not saved start anew, saved ones without a place are left out, and a warning
    lists both. The weights of the new modules must always be there.

    Once qkan is imported, `AutoModel.from_pretrained` and its relatives build the new modules as
    well. A process that has not imported qkan would start the old blocks anew; the folder therefore
    makes transformers stop with an error there. The extra `transformers` is needed.

    Args:
        path: A folder, or the name of a repository, as in transformers.
        model_class: The class to build; None takes the one that was saved.
        **options: Options of that class's own `from_pretrained`, such as `dtype`, `device_map` or
            `revision`, which are passed on unchanged.

    Returns:
        The model in evaluation mode, an instance of the class itself.

    Raises:
        QKANError: Nothing was replaced in that model; a new module has a class that this package
            cannot build from a configuration; the architecture differs; weights are missing,
            surplus or of another shape. The message names them.
        ImportError: transformers is not installed.

    Warns:
        UserWarning: Weights of a `model_class` for another task start anew or were left out.

    Example:
        >>> import tempfile
        >>> from transformers import GPT2Config, GPT2Model
        >>> from transformers.utils import logging
        >>> logging.disable_progress_bar()
        >>> from qkan import HQKAN, from_pretrained, replace_ffn
        >>> tiny = GPT2Config(vocab_size=9, n_embd=8, n_layer=2, n_head=2, bos_token_id=0,
        ...     eos_token_id=0)
        >>> model = GPT2Model(tiny)
        >>> names = replace_ffn(model, HQKAN)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save_pretrained(folder)
        ...     loaded = from_pretrained(folder)
        >>> type(loaded.h[0].mlp)
        <class 'qkan.nn.hqkan.HQKAN'>
    """
    for name in (*_OURS, "config"):
        if name in options:
            raise QKANError(
                f"from_pretrained: {name} cannot be set; config.json determines what is built, and "
                "every weight must fit."
            )
    transformers = require("transformers", "transformers")
    source = {name: options[name] for name in _WHERE_FROM if name in options}
    config = _config_class(model_class, transformers).from_pretrained(path, **source)
    check_record(path, config)
    built: Any = model_class or _architecture(path, config, transformers)

    # transformers loads the weights of a class, and knows how to rename them on the way
    model, info = _with_modules(built).from_pretrained(path, **options, **_OURS)
    model.__class__ = built
    settle(model)
    _check_weights(path, model, info)
    loaded: nn.Module = model
    return loaded


def _with_modules(built: Any) -> Any:
    """A subclass under the same name whose constructor also exchanges the blocks."""

    def build(self: nn.Module, config: Any, *args: Any, **kwargs: Any) -> None:
        built.__init__(self, config, *args, **kwargs)
        exchange(self)

    def read(cls: type, *args: Any, **kwargs: Any) -> Any:
        config, unused = built.config_class.from_pretrained(*args, **kwargs)
        return unguarded(config), unused

    # a model reads its configuration by the class named here, and asks for what it does not use
    reader = type("Reader", (built.config_class,), {"from_pretrained": classmethod(read)})
    members = {"__init__": build, "__module__": built.__module__, "__doc__": built.__doc__}
    return type(built.__name__, (built,), {**members, "config_class": reader})


def exchange(model: Any) -> None:
    """Put the modules that a model's configuration describes into it, before weights are loaded."""
    new = _rebuild(model, model.config.qkan["modules"])
    parts: list[Any] = [*model.modules()]
    for part in parts:
        if hasattr(part, "_init_weights"):
            part._init_weights = functools.partial(_start, part._init_weights, new)


def settle(model: nn.Module) -> None:
    """Undo what `exchange` needed while weights were loaded, and describe the model as it is."""
    for part in model.modules():
        vars(part).pop("_init_weights", None)
    update(model)


def _start(start: Callable[[nn.Module], None], new: set[nn.Module], module: nn.Module) -> None:
    """Initialise a module as its model does, and skip parts of replaced blocks, which are gone."""
    try:
        start(module)
    except AttributeError:
        if new.isdisjoint(module.modules()):
            raise


def check_blocks(path: str | os.PathLike[str], model: Any, info: dict[str, Any]) -> None:
    """Raise if weights of the new modules are missing, superfluous or of another shape."""
    wrong, own = _misfits(info), _own(model)
    inside = {
        what: [key for key in keys if _bare(model, key).startswith(own)]
        for what, keys in wrong.items()
    }
    if any(inside.values()):
        raise _unfit(path, model, {what: keys for what, keys in inside.items() if keys})


def _check_weights(path: str | os.PathLike[str], model: Any, info: dict[str, Any]) -> None:
    """Raise if weights do not fit; warn if they do not because the class is another one."""
    check_blocks(path, model, info)
    wrong, name = _misfits(info), type(model).__name__
    elsewhere = wrong.keys() <= {"missing_keys", "unexpected_keys"}
    if wrong and (name in (model.config.architectures or [name]) or not elsewhere):
        raise _unfit(path, model, wrong)
    if wrong:
        parts = {"missing_keys": "start anew", "unexpected_keys": "were left out"}
        found = "; ".join(f"{', '.join(keys)} {parts[what]}" for what, keys in wrong.items())
        warnings.warn(
            f"from_pretrained: {path} holds the weights of another class than {name}: {found}. "
            "Train the model before it is used.",
            stacklevel=3,
        )


def _misfits(info: dict[str, Any]) -> dict[str, list[str]]:
    """What transformers says about weights that do not fit, where it names any."""
    return {what: sorted(map(_named, keys)) for what, keys in info.items() if keys}


def _named(key: Any) -> str:
    """A weight by its name and, where its shape does not fit, both shapes."""
    if isinstance(key, str):
        return key
    name, *shapes = key
    saved, wanted = (tuple(shape) for shape in shapes)
    return f"{name} ({saved} in the file and {wanted} in the model)"


def _bare(model: Any, name: str) -> str:
    """The name of a weight or module without the prefix of the model that was saved."""
    return name.removeprefix(getattr(model, "base_model_prefix", "") + ".")


def _own(model: Any) -> tuple[str, ...]:
    """What the names of the new modules' weights begin with, without the model's own prefix."""
    found = (str(resolved(model, block)) for block in model.config.qkan["modules"])
    return tuple(f"{_bare(model, name)}." for name in found)


def _unfit(
    path: str | os.PathLike[str], model: Any, wrong: dict[str, list[str]], most: int = 12
) -> QKANError:
    found = "; ".join(
        f"{_WRONG.get(what, what)} "
        + ", ".join(keys if len(keys) <= most else [*keys[:most], f"and {len(keys) - most} more"])
        for what, keys in wrong.items()
    )
    return QKANError(
        f"from_pretrained: the weights in {path} do not fit the {type(model).__name__} that "
        f"its config.json describes. {found}. {_advice(model, wrong)}"
    )


def _advice(model: Any, wrong: dict[str, list[str]]) -> str:
    """What to do about weights that do not fit."""
    missing, unexpected = (
        [_bare(model, key) for key in wrong.get(what, ())]
        for what in ("missing_keys", "unexpected_keys")
    )
    own = _own(model)
    others = [key for key in unexpected if key.startswith(own)]
    if any(".parametrizations." in key for key in others):
        return (
            "They were saved while modules were parametrised, which config.json does not describe. "
            "Call torch.nn.utils.parametrize.remove_parametrizations before save_pretrained; or "
            "build the model, replace and parametrise as before, and use load_state_dict."
        )
    if others and all(any(key.startswith(name) for key in missing) for name in own):
        return (
            "They belong to the old blocks: a model that is built anew from the configuration of a "
            "model with replaced blocks has the old blocks, not the new ones. Load it with "
            "transformers, or delete 'qkan' from config.json."
        )
    return (
        "Load it as the class that was saved, with qkan.from_pretrained(path, model_class=...), or "
        "save the model again."
    )


def _config_class(model_class: Any, transformers: Any) -> Any:
    if model_class is None:
        return transformers.AutoConfig
    if isinstance(model_class, type) and issubclass(model_class, transformers.PreTrainedModel):
        found: Any = model_class
        return found.config_class
    raise QKANError(
        f"from_pretrained: model_class={model_class!r}; pass a class of models, such as "
        "transformers.GPT2LMHeadModel, or leave it out."
    )


def check_record(path: str | os.PathLike[str], config: Any) -> None:
    """Raise unless a configuration describes replaced modules that can be built."""
    record = getattr(config, "qkan", None)
    if record is None:
        raise QKANError(
            f"from_pretrained: the config.json of {path} has no entry 'qkan', so replace_ffn was "
            "not called on that whole model; load it with transformers."
        )
    if not isinstance(record, dict) or not {"format", "modules"} <= record.keys():
        raise QKANError(
            f"from_pretrained: the entry 'qkan' in the config.json of {path} was edited or "
            f"damaged; wanted format and modules, found {record!s:.80}"
        )
    if record["format"] > FORMAT:
        raise QKANError(
            f"from_pretrained: {path} is in format {record['format']} and this version reads up to "
            f"{FORMAT}; upgrade with pip install -U qkan-hybrid."
        )
    for name, entry in record["modules"].items():
        if entry["config"] is None:
            raise QKANError(
                f"from_pretrained: {name} of {path} is a {entry['kind']}, which cannot be built "
                "from a configuration. Build the model, replace its blocks as before, and load the "
                "weights with load_state_dict."
            )


def _architecture(path: str | os.PathLike[str], config: Any, transformers: Any) -> Any:
    names = config.architectures or ["unknown"]
    found = getattr(transformers, names[0], None)
    if found is None:
        raise QKANError(
            f"from_pretrained: {path} holds a {names[0]}, which is not a class of transformers; "
            "pass the class itself as model_class."
        )
    return found


def _rebuild(model: nn.Module, modules: dict[str, dict[str, Any]]) -> set[nn.Module]:
    """Build the described modules, without values, put them where the record says, return them."""
    learning = {n: entry for n, entry in modules.items() if entry["kind"] == "DARUAN"}
    new = _rebuild_activations(model, learning)
    blocks = {block.name: block for block in find_blocks(model)}
    replacements = []
    for written, entry in modules.items():
        if written in learning:
            continue
        name = resolved(model, written)
        block = (
            None if name is None else blocks.get(name) or block_of(name, model.get_submodule(name))
        )
        if block is None:
            raise QKANError(
                f"from_pretrained: a {type(model).__name__} has no block {written}, which was "
                "replaced in the saved model; pass the class of that model as model_class."
            )
        if entry["kind"] not in KINDS:
            raise QKANError(
                f"from_pretrained: {written} is a {entry['kind']}; this version knows "
                f"{', '.join(KINDS)}. Upgrade with pip install -U qkan-hybrid."
            )
        try:
            replacements.append((block, class_of(entry["kind"]).from_config(entry["config"])))
        except _MISFITS as error:
            raise QKANError(
                f"from_pretrained: what config.json says about {written} does not make a "
                f"{entry['kind']}: {error}"
            ) from error
    Swap(model, replacements).apply()
    return new | {module for _, module in replacements}


def _rebuild_activations(model: nn.Module, entries: dict[str, dict[str, Any]]) -> set[nn.Module]:
    """Put trainable activations where the record says, with the old ones as their bases."""
    found = {}
    for written, entry in entries.items():
        owner, _, name = written.rpartition(".")
        holder = resolved(model, owner)
        found[f"{holder}.{name}" if holder else name] = entry
    try:
        return rebuild_activations(model, found)
    except _MISFITS as error:
        raise QKANError(
            f"from_pretrained: what config.json says about the activations {', '.join(entries)} "
            f"does not fit a {type(model).__name__}: {error}"
        ) from error
