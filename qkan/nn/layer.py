"""`QKANLayer`: a Kolmogorov-Arnold layer with a DARUAN on every edge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from qkan._habits import LAYER, guided
from qkan._options import (
    Observe,
    check_choice,
    check_encoding,
    check_group,
    check_known,
    check_one_observable,
    check_size,
    circuit_of,
    factory_of,
    observed,
    scale_of,
)
from qkan.circuits import Circuit, from_json, to_json
from qkan.circuits.ansatz import Builder
from qkan.errors import QKANError
from qkan.simulators import engines

from .functional import BASES, READOUTS, Activations, qkan_layer
from .starts import (
    ActivationFit,
    base_moment,
    check_close,
    fit_program,
    register_tensor,
    second_moment,
    write,
)

STARTS = ("random", "base", *BASES)


class LayerOptions(TypedDict, total=False):
    """The keyword options of `QKANLayer`, which every module that is built of layers takes too."""

    ansatz: str | Circuit | Builder
    reps: int
    encoding: str | Sequence[float]
    group: int | str | None
    base: str | None
    readout: str
    observable: Observe | None
    engine: str
    bias: bool
    start: str
    generator: torch.Generator | None
    device: torch.device | str | int | None
    dtype: torch.dtype | None


class QKANLayer(nn.Module):
    """A layer of learnable activations: one single-qubit circuit on every (output, input) edge.

    out[b,o] = Σ_i weight[o,i]·φ_oi(x[b,i]) + Σ_i base_weight[o,i]·base(x[b,i]) + bias[o], where
    φ_oi(x) = ⟨M⟩ of the circuit with the edge's theta and the encodings scale·x + shift (arXiv
    2509.14026). It can replace a `torch.nn.Linear` and the activation beside it.

    Args:
        in_features: Number i of inputs.
        out_features: Number o of outputs.
        ansatz: The circuit: a name from `ansatze()`, a `Circuit` of your own, or a function from
            the number of repetitions to a circuit, which need not be registered under a name.
        reps: Repetitions of a named ansatz.
        encoding: "trainable" (scale and shift of every edge are parameters), or fixed scales:
            "linear" (1), "binary" (2^u), "ternary" (3^u), or one number for each encoding gate.
            With fixed whole-numbered scales φ has the period 2π, so keep inputs within ±π; shift is
            a parameter unless it would duplicate a theta.
        group: Number g of activations that all outputs share; input i uses activation ⌊i·g/in⌋.
            "inputs" means one activation for each input; None gives every edge its own.
        base: The base activation beside the circuit: "silu", "gelu", "relu", "tanh", "identity" or
            None.
        readout: "z" for the expectation value; "amplitude" for √((1+z)/2) - √((1-z)/2), the readout
            of qkan 0.2.3.
        observable: What is measured: "x", "y" or "z", a unit vector, or "trainable" for a direction
            that is learnt with two more thetas for each circuit. Or several of them, such as ("x",
            "y", "z"), which are read from one state; the outputs then have an axis a for them. None
            means the circuit's own observable, Z for every named ansatz.
        engine: Which simulator computes it: "auto" or one of `engines()`.
        bias: Whether to add a bias.
        start: The initial values: "random"; or an activation that every φ begins as: "silu",
            "gelu", "relu", "tanh" or "identity"; or "base" for the base activation alone, with
            circuits that add nothing until they are trained; see `reset_parameters`.
        generator: Draws the initial values; torch's default one when None.
        device: As in `torch.nn.Linear`.
        dtype: As in `torch.nn.Linear`.

    Attributes:
        theta: (o, i, k) radians, or (g, k).
        scale: (o, i, u), or (g, u); a buffer when fixed.
        shift: (o, i, u) radians, or (g, u); a buffer of zeros where it would duplicate a theta.
        weight: (o, i).
        base_weight: (o, i), or None.
        bias: (o,), or None.
        mask: (o, i) of ones, zero on pruned edges; a buffer.
        activations: A function that computes the activations in place of an engine, as a device
            does; else None.

    Shapes:
        x (…, in_features) → (…, out_features), any leading dimensions, empty ones too. With several
        observables → (…, out_features, a). They share all parameters, bias and base activation
        included: out[…, n] is the output of a layer with observable n alone and the same
        state_dict.

    Raises:
        QKANError: An option is wrong, or the input does not fit.
        CircuitError: The observable is not one of those above.

    Example:
        >>> import torch
        >>> from qkan import QKANLayer
        >>> layer = QKANLayer(3, 2)
        >>> layer(torch.randn(7, 5, 3)).shape
        torch.Size([7, 5, 2])
    """

    scale: Tensor
    shift: Tensor
    mask: Tensor
    base_weight: nn.Parameter | None
    bias: nn.Parameter | None
    activations: Activations | None = None

    @guided(LAYER, positional=3, instead="QKANLayer(3, 2, reps=3), inputs and outputs first")
    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        ansatz: str | Circuit | Builder = "pz",
        reps: int = 3,
        encoding: str | Sequence[float] = "trainable",
        group: int | str | None = None,
        base: str | None = "silu",
        readout: str = "z",
        observable: Observe | None = None,
        engine: str = "auto",
        bias: bool = True,
        start: str = "random",
        generator: torch.Generator | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **unknown: object,
    ) -> None:
        super().__init__()
        reject_unknown(unknown, QKANLayer)
        check_choice("base", base, [*BASES, None])
        check_choice("readout", readout, READOUTS)
        check_choice("engine", engine, ["auto", *engines()])
        check_choice("start", start, STARTS)
        if start == "base" and base is None:
            raise QKANError(
                "start='base' makes the layer begin as its base activation, but base is None; pass "
                "base='gelu' or another, or start='random'."
            )
        self.in_features = check_size("in_features", in_features)
        self.out_features = check_size("out_features", out_features)
        self.circuit = observed(circuit_of(ansatz, reps), observable)
        self.program = self.circuit.program
        self.encoding = check_encoding(encoding)
        self.fixed_scale = scale_of(self.circuit, self.encoding)
        self.group = check_group(group, self.in_features)
        self.base, self.readout, self.engine, self.start = base, readout, engine, start
        if start != "random":
            advice = f"Not all can begin like this with start={start!r}; use start='random'."
            check_one_observable("QKANLayer", self.circuit, advice)
        self._allocate(bias, factory_of(device, dtype))
        self.reset_parameters(generator)

    def _allocate(self, bias: bool, factory: dict[str, Any]) -> None:
        edges = (self.out_features, self.in_features)
        shared = edges if self.group is None else (self.group,)
        u = self.circuit.num_encodings
        fixed = self.fixed_scale is not None
        self.theta = nn.Parameter(torch.empty(*shared, self.circuit.num_theta, **factory))
        register_tensor(self, "scale", torch.empty(*shared, u, **factory), trainable=not fixed)
        duplicate = fixed and len(self.program.merged_shifts) == u
        shift = torch.empty(*shared, u, **factory)
        register_tensor(self, "shift", shift, trainable=not duplicate)
        self.weight = nn.Parameter(torch.empty(*edges, **factory))
        for name, shape, wanted in (("base_weight", edges, self.base), ("bias", edges[:1], bias)):
            value = nn.Parameter(torch.empty(*shape, **factory)) if wanted else None
            self.register_parameter(name, value)
        self.register_buffer("mask", torch.empty(*edges, **factory))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new values as `start` says, sized so that the output h has E h² ≈ 1 for x ~ N(0, 1).

        With "random", theta ~ U(-π/2, π/2), scale is 1 or fixed, shift is 0, weight is 1/√(v·in)
        with v = E φ² for these values, base_weight is 1/in and bias is 0. With groups, weight is
        uniform with that root mean square instead, since outputs that share all activations must
        differ somehow.

        With the name of an activation, the layer begins as linear(act(x)), where linear is uniform
        with the variance 1/(v·in), v = E act², and has no bias. All φ have the angles of
        `fit_activation`, weight is gain·linear.weight, and bias compensates the offset; without a
        bias the fit has no offset. base_weight begins at 0.

        With "base", it begins exactly as linear(base(x)), where linear is uniform with the variance
        1/(v·in), v = E base², and has no bias: base_weight is linear.weight, the angles are those
        of "random", and weight, the factor of the circuits, begins at 0.

        Raises:
            QKANError: The circuit cannot fit the activation with an error below 0.1.
        """
        if self.theta.is_meta:
            return
        if self.start in BASES:
            fit = self._fit_start()
            self._begin_as(fit, self._drawn(fit.moment, generator), None)
            return
        scale = self.fixed_scale or (1.0,) * self.circuit.num_encodings
        moment = second_moment(self.program, scale, self.readout)
        with torch.no_grad():
            self.theta.uniform_(-math.pi / 2, math.pi / 2, generator=generator)
            write(self.scale, scale)
            self.shift.zero_()
            size = 1 / math.sqrt(max(moment, 1e-6) * self.in_features)
            if self.group is None:
                self.weight.fill_(size)
            else:
                bound = math.sqrt(3) * size
                self.weight.uniform_(-bound, bound, generator=generator)
            self.mask.fill_(1)
            if self.base_weight is not None:
                self.base_weight.fill_(1 / self.in_features)
            if self.bias is not None:
                self.bias.zero_()
            if self.start == "base":
                assert self.base is not None
                self._begin_as_base(self._drawn(base_moment(self.base), generator), None)

    def _drawn(self, moment: float, generator: torch.Generator | None) -> Tensor:
        """Draw a map (o, i) whose outputs have variance 1 for inputs of this second moment."""
        bound = math.sqrt(3 / (moment * self.in_features))
        drawn = torch.empty_like(self.weight, requires_grad=False)
        return drawn.uniform_(-bound, bound, generator=generator)

    @torch.no_grad()
    def _begin_as_base(self, weight: Tensor, bias: Tensor | None) -> None:
        """Set the layer to linear(base(x)) and the weights of its circuits to 0."""
        assert self.base_weight is not None
        self.weight.zero_()
        self.mask.fill_(1)
        write(self.base_weight, weight)
        if self.bias is not None:
            write(self.bias, torch.zeros_like(self.bias) if bias is None else bias)

    def begin_as(self, linear: nn.Linear) -> None:
        """Make the layer compute a trained linear(act(x)), where `start` names the activation act.

        The outputs equal linear(act(x)) up to the error of `fit_activation`, for inputs within its
        reach: |x| ≤ 4, or |x| ≤ 2 with fixed scales. With start="base", act is the base activation,
        and the outputs are equal for all inputs.

        Args:
            linear: A linear map with the layer's sizes; its values are copied.

        Raises:
            QKANError: The layer's start is "random", the sizes differ, or the layer lacks a bias.

        Example:
            >>> import torch
            >>> from qkan import QKANLayer
            >>> linear, x = torch.nn.Linear(64, 8), torch.randn(100, 64)
            >>> layer = QKANLayer(64, 8, group=4, start="gelu")
            >>> layer.begin_as(linear)
            >>> error = layer(x) - linear(torch.nn.functional.gelu(x))
            >>> error.square().mean().sqrt().item() < 0.02
            True
        """
        if self.start == "random":
            raise QKANError(
                "begin_as: the layer was built with start='random', so it knows no activation to "
                "begin as; build it with start='gelu' or another, or with start='base'."
            )
        sizes = (self.out_features, self.in_features)
        if not isinstance(linear, nn.Linear) or linear.weight.shape != sizes:
            raise QKANError(
                f"begin_as: wanted torch.nn.Linear({self.in_features}, {self.out_features}), "
                f"got {linear!r}."
            )
        if linear.bias is not None and self.bias is None:
            raise QKANError("begin_as: linear has a bias, the layer has none; use bias=True.")
        if self.start == "base":
            self._begin_as_base(linear.weight, linear.bias)
        else:
            self._begin_as(self._fit_start(), linear.weight, linear.bias)

    def _fit_start(self) -> ActivationFit:
        """Return the angles of the activation that the layer starts as."""
        offset = self.bias is not None
        fit = fit_program(self.program, self.fixed_scale, self.start, self.readout, offset)
        check_close(fit, self.start, self.fixed_scale, offset)
        return fit

    @torch.no_grad()
    def _begin_as(self, fit: ActivationFit, weight: Tensor, bias: Tensor | None) -> None:
        for name in ("theta", "scale", "shift"):
            write(getattr(self, name), getattr(fit, name))
        write(self.weight, fit.gain * weight)
        self.mask.fill_(1)
        if self.base_weight is not None:
            self.base_weight.zero_()
        if self.bias is not None:
            write(self.bias, fit.offset * weight.sum(1) + (0 if bias is None else bias))

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in_features) → (…, out_features), or (…, out_features, a)."""
        return qkan_layer(
            x, self.theta, self.scale, self.shift, self.weight, self.base_weight, self.bias,
            self.mask, program=self.program, fixed_scale=self.fixed_scale, base=self.base,
            readout=self.readout, engine=self.engine, activations=self.activations,
        )  # fmt: skip

    def duplicate_parameters(self) -> int:
        """Count the trainable shifts that the circuit merges with a theta of the same effect."""
        if not self.shift.requires_grad:
            return 0
        copies = self.shift.numel() // self.circuit.num_encodings
        return copies * len(self.program.merged_shifts)

    def config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build this layer again, as JSON values."""
        # a run on a device is recognised by a digest of this text, so the order must not change
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "circuit": to_json(self.circuit),
            "encoding": self.encoding if isinstance(self.encoding, str) else [*self.encoding],
            "group": self.group,
            "base": self.base,
            "readout": self.readout,
            "engine": self.engine,
            "bias": self.bias is not None,
            "start": self.start,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], **factory: Any) -> QKANLayer:
        """Build the layer that `config` described; `factory` is device and dtype."""
        options = {name: value for name, value in config.items() if name != "circuit"}
        return cls(**options, ansatz=from_json(config["circuit"]), **factory)

    def extra_repr(self) -> str:
        """Return the options that differ from the default, and the circuit."""
        name = getattr(self.circuit.builder, "name", None)
        circuit = f"ansatz={name!r}, reps={self.circuit.num_encodings}" if name else "own circuit"
        parts = [f"{self.in_features}, {self.out_features}, {circuit}, encoding={self.encoding!r}"]
        parts += [f"group={self.group}"] if self.group is not None else []
        parts += [f"base={self.base!r}", f"engine={self.engine!r}"]
        parts += [f"readout={self.readout!r}"] if self.readout != "z" else []
        measured = getattr(self.circuit.builder, "observable", self.circuit.observable)
        parts += [f"observable={measured!r}"] if measured != "Z" else []
        parts += [f"start={self.start!r}"] if self.start != "random" else []
        return ", ".join(parts)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        scale: Any = state_dict.get(prefix + "scale")
        # a tensor that is fake, sharded or on the device "meta" has no values to compare
        ordinary = isinstance(scale, Tensor) and type(scale.data) is Tensor and not scale.is_meta
        if self.fixed_scale is not None and ordinary:
            expected = scale.new_tensor(self.fixed_scale).expand_as(scale)
            if not torch.allclose(scale, expected, rtol=torch.finfo(torch.bfloat16).eps):
                raise QKANError(
                    f"{prefix}scale in the state_dict differs from this layer's fixed "
                    f"{self.fixed_scale}; build the layer with the encoding it was trained with."
                )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def effective_parameters(model: nn.Module) -> int:
    """Count the trainable parameters, without those that duplicate another one.

    A shift that the circuit merges with a theta moves the same angle, so comparisons at equal
    numbers of parameters must not count it. A module's `duplicate_parameters()` gives their number.

    Example:
        >>> from qkan import QKANLayer
        >>> layer = QKANLayer(1, 1)
        >>> sum(p.numel() for p in layer.parameters()), effective_parameters(layer)
        (17, 14)
    """
    total = sum(p.numel() for p in model.parameters() if p.requires_grad)
    for module in model.modules():
        duplicates = getattr(module, "duplicate_parameters", None)
        total -= 0 if duplicates is None else duplicates()
    return total


def reject_unknown(options: Mapping[str, object], of: type) -> None:
    """Raise a TypeError for the first option that neither layers nor that class have."""
    check_known(options, LayerOptions.__annotations__, of)
