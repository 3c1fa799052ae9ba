"""`from_qkan`: convert a checkpoint of the package qkan 0.2.3 to a model of this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qkan.circuits import ansatz, did_you_mean
from qkan.errors import QKANError
from qkan.nn.layer import QKANLayer
from qkan.nn.network import QKAN
from qkan.simulators import BASE_ACTIVATIONS

_BOTH: dict[str, Any] = {
    "reps": 3, "group": -1, "device": "cpu", "solver": "exact", "qml_device": "default.qubit",
    "ansatz": "pz_encoding", "theta_size": None, "preact_trainable": False, "preact_init": False,
    "postact_weight_trainable": False, "postact_bias_trainable": False,
    "base_activation": "silu", "is_batchnorm": False, "fast_measure": True, "c_dtype": None,
    "p_dtype": None, "seed": None, "solver_kwargs": None, "p_dim": 4, "checkpoint_reps": False,
    "theta_init": "xavier",
}  # fmt: skip
_NETWORK = {
    **_BOTH, "width": None, "is_map": False, "hidden": 0, "norm_out": 0, "ba_trainable": False,
    "save_act": False,
}  # fmt: skip
_LAYER = {**_BOTH, "in_dim": None, "out_dim": None, "ba_trainable": True}

_ANSATZE = {
    "pz_encoding": "pz", "rpz_encoding": "rpz", "px_encoding": "px",
    "pz": "pz", "rpz": "rpz", "px": "px", "real": "real", "mix": "mix",
}  # fmt: skip
_BASES = {peer: name for name, row in BASE_ACTIVATIONS.items() for peer in row.peer_names}
_BASE_MODULES = {row.module: name for name, row in BASE_ACTIVATIONS.items()}
_NAMES = (
    "theta", "preacts_weight", "preacts_bias", "base_weight", "postact_weights", "postact_bias",
    "mask",
)  # fmt: skip


def from_qkan(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> QKAN | QKANLayer:
    """Return the model that a checkpoint of qkan 0.2.3 describes, equal to it in every output.

    qkan computes Σ_i mask·postact_weights·(post + postact_bias) + mask·base_weight·base(x), where
    `post` is its φ: |α| - |β|, or ⟨Z⟩ if fast_measure is False. So `theta` keeps its order,
    `preacts_weight` and `preacts_bias` become scale and shift, `postact_weights` the weight, and
    the biases one bias for each output. qkan uses the preacts only if they are trainable (and for
    rpz), otherwise the encoding is "linear". It repeats its g groups over the inputs, i mod g, so
    each input gets an activation of its own here.

    Three things differ. qkan runs `real` in bfloat16, but this model computes what qkan computes
    with c_dtype=torch.complex64. Its `px` is NaN where |e| > 1; here e is clamped. |α| - |β| is
    computed from ⟨Z⟩, which within 2e-5 of ±1 magnifies float32 rounding to at most 3e-4;
    `.double()` removes that error. After prune_input, pass x[:, input_id], as qkan does itself.

    Args:
        state_dict: The `model.state_dict()` of qkan's `QKAN`, or of one `QKANLayer`.
        config: The arguments with which the model was constructed, by qkan's own names, such as
            {"width": [2, 5, 1], "reps": 3, "preact_trainable": True}; or {"in_dim": …, "out_dim":
            …} for a layer. An argument that is left out has qkan's default. Arguments that do not
            change the outputs of a checkpoint (device, seed, p_dim, …) are accepted.

    Returns:
        A `QKAN` or a `QKANLayer` with the device and dtype of theta and with every parameter
        trainable. Base weights or biases that qkan did not train and that are all zero are left
        out.

    Raises:
        QKANError: An argument is unknown (the message suggests the nearest one) or has no
            counterpart here (the message says what to do instead); a tensor is missing, unknown, of
            another shape, or not finite.

    Example:
        >>> import torch
        >>> from qkan import from_qkan
        >>> state = {"theta": torch.zeros(2, 3, 4, 2), "mask": torch.ones(2, 3)}
        >>> state |= {name: torch.ones(2, 3) for name in ("postact_weights", "base_weight")}
        >>> state |= {"preacts_weight": torch.ones(2, 3, 3), "preacts_bias": torch.zeros(2, 3, 3)}
        >>> state |= {"postact_bias": torch.zeros(2, 3)}
        >>> from_qkan(state, {"in_dim": 3, "out_dim": 2, "fast_measure": False})
        QKANLayer(3, 2, ansatz='pz', reps=3, encoding='linear', base='silu', engine='auto')
    """
    options = _options(config)
    if "width" not in options:
        _require_keys(state_dict, ("",))
        return _layer(_Part(state_dict, "", options, options["in_dim"], options["out_dim"]))
    widths = options["width"]
    prefixes = tuple(f"layers.{n}." for n in range(len(widths) - 1))
    _require_keys(state_dict, prefixes)
    parts = zip(prefixes, widths[:-1], widths[1:], strict=True)
    return QKAN.from_layers([_layer(_Part(state_dict, p, options, i, o)) for p, i, o in parts])


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check the config, and complete it with qkan's defaults."""
    network = "width" in config
    if not network and not {"in_dim", "out_dim"} <= set(config):
        raise QKANError(
            f"from_qkan: the config has {sorted(config)}; it needs 'width' for a QKAN, "
            "or 'in_dim' and 'out_dim' for a QKANLayer."
        )
    known = _NETWORK if network else _LAYER
    for name in config:
        if name not in known:
            raise QKANError(
                f"from_qkan: qkan 0.2.3 has no argument {name!r}. {did_you_mean(name, known)}"
            )
    options = {**known, **config, "stated": frozenset(config)}
    sizes = options["width"] if network else [options["in_dim"], options["out_dim"]]
    if not isinstance(sizes, list | tuple) or len(sizes) < 2 or not all(map(_is_size, sizes)):
        raise QKANError(f"from_qkan: sizes {sizes!r}; wanted whole numbers, such as [2, 5, 1].")
    if not _is_size(options["reps"]):
        raise QKANError(f"from_qkan: reps={options['reps']!r}; wanted a whole number, 1 or more.")
    _refuse_structure(options)
    _refuse_circuit(options)
    return options


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _refuse_structure(options: dict[str, Any]) -> None:
    """Raise if a part around the layers has no counterpart in a `QKAN`."""
    reasons = {
        "is_map": "the model ends in Linear, SiLU, Linear. Convert the layers before them with "
        "width[:-1] and their part of the state_dict, and put torch.nn.Linear after them",
        "is_batchnorm": "the model has a BatchNorm1d before every layer. Convert each layer alone "
        "with in_dim, out_dim, and put torch.nn.BatchNorm1d before it",
        "norm_out": "the model normalises its output. Leave norm_out out, and apply "
        f"torch.nn.functional.normalize(model(x), p={options.get('norm_out')}, dim=-1)",
    }
    for name, reason in reasons.items():
        if options.get(name):
            raise QKANError(f"from_qkan: {name}={options[name]!r}: {reason}.")


def _refuse_circuit(options: dict[str, Any]) -> None:
    """Raise if this package cannot know what the circuit or the solver computes."""
    solver, name = options["solver"], options["ansatz"]
    if callable(solver) or callable(name):
        raise QKANError(
            "from_qkan: a callable solver or ansatz is code, and a checkpoint does not say what it "
            "computes. Write the circuit as Circuit(gates) and load the parameters into QKANLayer."
        )
    if name not in _ANSATZE:
        raise QKANError(f"from_qkan: unknown ansatz {name!r}. {did_you_mean(name, _ANSATZE)}")
    if solver == "qml":
        raise QKANError(
            "from_qkan: solver='qml' swaps outputs and inputs and ignores the preacts, unlike "
            "every other solver. Pass the solver whose outputs you want, such as 'exact'."
        )
    if solver in ("qiskit", "cudaq") and options["fast_measure"]:
        raise QKANError(
            f"from_qkan: solver={solver!r} measures the expectation value whatever fast_measure "
            "says. Pass fast_measure=False for that, or solver='exact' for |α| - |β|."
        )
    if _ANSATZE[name] == "px" and not options["preact_trainable"]:
        raise QKANError(
            f"from_qkan: ansatz={name!r} without preact_trainable=True cannot run in qkan either. "
            "Pass preact_trainable=True."
        )


def _require_keys(state_dict: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> None:
    if not isinstance(state_dict, Mapping):
        found = type(state_dict).__name__
        raise QKANError(f"from_qkan: got a {found} for the state_dict; pass model.state_dict().")
    wanted = {prefix + name for prefix in prefixes for name in _NAMES}
    missing, unknown = sorted(wanted - set(state_dict)), sorted(map(str, set(state_dict) - wanted))
    if not missing and not unknown:
        return
    first = prefixes[0] + "theta"
    outer = next((key[: -len(first)] for key in unknown if key.endswith(first)), "")
    advice = (
        f"The keys begin with {outer!r}: pass {{key.removeprefix({outer!r}): value for key, value "
        f"in state_dict.items() if key.startswith({outer!r})}}."
        if outer
        else "Pass the config the model was built with; if another version of qkan wrote the "
        "checkpoint, load it into qkan 0.2.3 first and take its state_dict()."
    )
    raise QKANError(
        f"from_qkan: the state_dict is not one of qkan 0.2.3 for this config. Missing: "
        f"{_some(missing)}. Unknown: {_some(unknown)}. {advice}"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if names[4:] else "") or "none"


@dataclass(frozen=True)
class _Part:
    """One layer of a checkpoint."""

    state_dict: Mapping[str, Tensor]
    prefix: str
    options: dict[str, Any]
    in_features: int
    out_features: int

    @property
    def edges(self) -> tuple[int, int]:
        """The shape (o, i)."""
        return self.out_features, self.in_features

    @property
    def leading(self) -> tuple[int, ...]:
        """The leading shape of theta and preacts: (o, i), or (g,) or (1, g) for repeated groups."""
        group = self.options["group"]
        if group == -1:
            return self.edges
        lead = tuple(group) if isinstance(group, list | tuple) else (group,)
        tiled = len(lead) == 1 or (len(lead) == 2 and lead[0] == 1)
        if lead == self.edges or (tiled and all(map(_is_size, lead))):
            return lead
        raise QKANError(
            f"from_qkan: group={group!r}; qkan takes -1, a number of groups, (groups,), (1, "
            f"groups) or (out_dim, in_dim), and this layer is {self.edges}."
        )

    def take(self, name: str, shape: tuple[int, ...], flat: tuple[int, ...]) -> Tensor:
        """Return the tensor of that name; it has `shape`, or with p_dim=2 the shape `flat`."""
        tensor, key = self.state_dict[self.prefix + name], self.prefix + name
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            found = getattr(tensor, "dtype", type(tensor).__name__)
            raise QKANError(f"from_qkan: {key} is {found}; wanted a torch tensor of real floats.")
        if tensor.shape not in (shape, flat):
            asked = ", ".join(f"{n}={self.options[n]!r}" for n in ("ansatz", "reps", "group"))
            raise QKANError(
                f"from_qkan: {key} has shape {tuple(tensor.shape)}, but {asked} between "
                f"{self.in_features} inputs and {self.out_features} outputs gives {shape}; pass "
                "the config the model was built with."
            )
        if not bool(tensor.isfinite().all()):
            raise QKANError(
                f"from_qkan: {key} has values that are NaN or infinite; take a checkpoint from "
                "before the training diverged."
            )
        return tensor.detach().reshape(shape)

    def per_edge(self, name: str) -> Tensor:
        """Return the tensor of that name with one number for each edge, (o, i)."""
        return self.take(name, self.edges, (self.in_features * self.out_features,))

    def shared(self, name: str, *steps: int) -> Tensor:
        """Angles or preacts: (o, i, n), (1, n) for one group, or (i, n) for repeated groups."""
        lead = self.leading
        count, n = torch.Size(lead).numel(), torch.Size(steps).numel()
        tensor = self.take(name, (*lead, *steps), (count, n))
        if lead == self.edges or count == 1:
            return tensor.reshape(*(lead if lead == self.edges else (1,)), n)
        return tensor.reshape(count, n)[torch.arange(self.in_features) % count]


def _layer(part: _Part) -> QKANLayer:
    options, reps = part.options, part.options["reps"]
    circuit = ansatz(_ANSATZE[options["ansatz"]], reps)
    blocks = reps if options["ansatz"] == "real" else reps + 1
    theta = part.shared("theta", blocks, circuit.num_theta // blocks)
    encoding, scale, shift = _encoding(part)
    base = _base(part)
    mask, weight = part.per_edge("mask"), part.per_edge("postact_weights")
    constant = part.per_edge("postact_bias").double() * (weight.double() * mask.double())
    bias = constant.sum(1)
    tensors = {"theta": theta, "scale": scale, "shift": shift, "weight": weight, "mask": mask}
    if base is not None:
        tensors["base_weight"] = part.per_edge("base_weight")
    if options["postact_bias_trainable"] or bool(bias.any()):
        tensors["bias"] = bias
    layer = QKANLayer(
        part.in_features, part.out_features, ansatz=circuit, encoding=encoding,
        group=None if theta.ndim == 3 else len(theta), base=base, bias="bias" in tensors,
        readout="amplitude" if options["fast_measure"] else "z", device="meta",
    )  # fmt: skip
    # on "meta", initial values draw no random numbers; tensors are copied, so no memory is shared
    copies = {name: tensor.to(theta.dtype, copy=True) for name, tensor in tensors.items()}
    layer.load_state_dict(copies, assign=True)
    return layer


def _encoding(part: _Part) -> tuple[str, Tensor, Tensor]:
    """The encoding, the scale and the shift that qkan computes with."""
    options, reps = part.options, part.options["reps"]
    scale, shift = part.shared("preacts_weight", reps), part.shared("preacts_bias", reps)
    moved = bool((scale != 1).any() or (shift != 0).any())
    if options["preact_trainable"]:
        return "trainable", scale, shift
    if _ANSATZE[options["ansatz"]] == "rpz":
        return "trainable" if bool((scale != 1).any()) else "linear", scale, shift
    if moved and not options["preact_init"] and "preact_trainable" not in options["stated"]:
        raise QKANError(
            f"from_qkan: {part.prefix}preacts differ from their initial values, but the config "
            "does not say preact_trainable. Pass preact_trainable=True if they were trained, or "
            "preact_trainable=False, with which qkan ignores them."
        )
    return "linear", torch.ones_like(scale), torch.zeros_like(shift)


def _base(part: _Part) -> str | None:
    """The base activation; None if qkan has none."""
    trainable, kind = part.options["ba_trainable"], part.options["base_activation"]
    if not trainable and not bool(part.per_edge("base_weight").any()):
        return None
    name = _BASES.get(kind.lower()) if isinstance(kind, str) else _BASE_MODULES.get(type(kind))
    if name is None or getattr(kind, "approximate", "none") != "none":
        known = sorted({*_BASES, "torch.nn.Identity()"})
        raise QKANError(
            f"from_qkan: base_activation={kind!r} has no counterpart here; available are "
            f"{', '.join(known)}. With base weights of zero and ba_trainable=False it is left out."
        )
    return name
