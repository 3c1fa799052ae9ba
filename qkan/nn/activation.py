"""`DARUAN`: a trainable activation, the sum of a known one and a single-qubit circuit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qkan._options import (
    Observe,
    as_number,
    check_choice,
    check_encoding,
    check_group,
    check_known,
    check_size,
    circuit_of,
    factory_of,
    observed,
    scale_of,
)
from qkan.circuits import Circuit, from_json, to_json
from qkan.circuits.ansatz import Builder
from qkan.errors import QKANError
from qkan.simulators import BASES, LayerTensors, engines, is_tracing, layer_call, run, select
from qkan.simulators.adding import Known, add_waves
from qkan.simulators.base_activations import BASE_ACTIVATIONS
from qkan.simulators.call import Request, has_values
from qkan.simulators.waves import (
    MOST_WAVES,
    count_waves,
    wave_recipe,
    wave_request,
    wave_terms,
)

from .functional import Activations, check_features, compute_dtype, expand_groups
from .starts import register_tensor, write
from .watch import is_hooked


def _relu2(x: Tensor) -> Tensor:
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {**BASES, "relu2": _relu2}
"""Activations by name, as torch computes them; "relu2" is ReLU squared."""

Base = str | nn.Module | Callable[[Tensor], Tensor]
"""A name in `ACTIVATIONS`, or a module or function that computes an activation."""

_REPS = 1


class DARUAN(nn.Module):
    """A trainable activation: y = base(x) + amplitude_g·φ_g(x), elementwise.

    φ_g(x) = ⟨Z⟩ of a data re-uploading circuit with the angles scale·x + shift (arXiv 2509.14026),
    one circuit for each of g groups of features. The amplitude begins at 0, so that a model does
    not change when this module replaces `base`, apart from the sign of zeros. Train the angles
    faster than the weights, as with `param_groups(model, lr)`.

    One qubit is classically simulable. Without an arccos encoding φ is a short sum of sinusoids and
    is computed as such: the circuit is evaluated at a few phases, whatever the size of x, and one
    compiled pass evaluates the sinusoids for every input. With one repetition and a trained scale φ
    is one sinusoid and a constant.

    Args:
        features: Size f of the last axis of x. None, which needs group=1, allows any size.
        group: Number g of activations; feature i uses activation ⌊i·g/f⌋. "inputs" means one
            activation for each feature.
        base: The activation to which the circuit is added: "gelu", "silu", "relu", "relu2" (ReLU
            squared), "tanh" or "identity"; a module or a function, which is called unchanged; None
            for the circuit alone.
        ansatz: The circuit: a name from `ansatze()`, a `Circuit` of your own, or a function from
            the number of repetitions to a circuit.
        reps: Repetitions of a named ansatz.
        encoding: "trainable", "linear", "binary", "ternary", or numbers, as in `QKANLayer`.
        observable: What is measured: a single observable as in `QKANLayer`.
        amplitude: The initial value of every amplitude.
        engine: Which simulator evaluates the circuit: "auto" or one of `engines()`.
        generator: Draws the initial values; torch's default one when None.
        device: As in `torch.nn.Linear`.
        dtype: As in `torch.nn.Linear`.

    Attributes:
        theta: (g, k) radians.
        scale: (g, u); a buffer when fixed.
        shift: (g, u) radians; a buffer of zeros where it would duplicate a theta.
        amplitude: (g,).
        base: The name, module or function.
        activations: A function that computes φ in place of an engine, as a device does; else None.
        readout: Always "z", the expectation value.

    Shapes:
        x (…, f) → (…, f).

    Raises:
        QKANError: An option is wrong, or the input does not fit.

    Example:
        >>> import torch
        >>> from qkan import DARUAN
        >>> activation, x = DARUAN(512, group=8), torch.randn(10, 512)
        >>> torch.equal(activation(x), torch.nn.functional.gelu(x))
        True
        >>> sum(p.numel() for p in activation.parameters())
        48
    """

    scale: Tensor
    shift: Tensor
    base: Base | None
    activations: Activations | None = None
    readout: str = "z"

    def __init__(
        self,
        features: int | None,
        *,
        group: int | str = 1,
        base: Base | None = "gelu",
        ansatz: str | Circuit | Builder = "pz",
        reps: int = _REPS,
        encoding: str | Sequence[float] = "trainable",
        observable: Observe | None = None,
        amplitude: float = 0.0,
        engine: str = "auto",
        generator: torch.Generator | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **unknown: object,
    ) -> None:
        super().__init__()
        check_known(unknown, (), DARUAN)
        check_choice("engine", engine, ["auto", *engines()])
        if isinstance(base, str):
            check_choice("base", base, [*ACTIVATIONS])
        elif base is not None and (isinstance(base, type) or not callable(base)):
            raise QKANError(
                f"base={base!r}; wanted one of {', '.join(ACTIVATIONS)}, a module such as "
                "torch.nn.Softplus(), a function from a tensor to one, or None."
            )
        if features is None and group != 1:
            raise QKANError(
                f"DARUAN: group={group!r} divides the features into groups, so it needs their "
                "number; pass features, or group=1."
            )
        self.features = None if features is None else check_size("features", features)
        self.group = check_group(group, self.features or 1, "features") or 1
        self.circuit = observed(circuit_of(ansatz, reps, default=_REPS), observable, "DARUAN")
        self.program = self.circuit.program
        self.encoding = check_encoding(encoding)
        self.fixed_scale = scale_of(self.circuit, self.encoding)
        self.plan_waves()
        self.base, self.engine, self.start = base, engine, _number("amplitude", amplitude)
        self._allocate(factory_of(device, dtype))
        self.reset_parameters(generator)

    def _allocate(self, factory: dict[str, Any]) -> None:
        g, u = self.group, self.circuit.num_encodings
        fixed = self.fixed_scale is not None
        duplicate = len(self.program.merged_shifts) == u
        self.theta = nn.Parameter(torch.empty(g, self.circuit.num_theta, **factory))
        for name, is_buffer in (("scale", fixed), ("shift", duplicate)):
            register_tensor(self, name, torch.empty(g, u, **factory), trainable=not is_buffer)
        self.amplitude = nn.Parameter(torch.empty(g, **factory))

    def plan_waves(self) -> None:
        """Find out whether the circuit is a short sum of sinusoids, and how to compute it."""
        count = count_waves(self.program, self.fixed_scale)
        self._is_sum = count is not None and count <= MOST_WAVES
        self._recipe = wave_recipe(self.program, self.fixed_scale) if self._is_sum else None

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw theta ~ U(-π/2, π/2); scale is 1 or fixed, shift is 0, amplitudes are as given."""
        if self.theta.is_meta:
            return
        with torch.no_grad():
            self.theta.uniform_(-math.pi / 2, math.pi / 2, generator=generator)
            write(self.scale, self.fixed_scale or (1.0,) * self.circuit.num_encodings)
            self.shift.zero_()
            self.amplitude.fill_(self.start)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, f) → (…, f)."""
        if self.features is None and isinstance(x, Tensor) and x.ndim == 0:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        last = x.shape[-1] if isinstance(x, Tensor) and x.ndim else 1
        # while tracing, sizes are tensors, and a check of them would warn
        if not is_tracing():
            check_features(x, last if self.features is None else self.features, self.theta.dtype)
        compute = compute_dtype(self.theta.dtype, "z")
        theta, scale, shift, amplitude = (
            t.to(compute) for t in (self.theta, self.scale, self.shift, self.amplitude)
        )
        if self.activations is None and self._is_sum:
            terms = self._terms(theta, scale, shift, amplitude)
            return with_waves(self, self.base, x, terms)
        base = base_values(self.base, x)
        flat = x.reshape(-1, last)
        theta, scale, shift = (expand_groups(t, last) for t in (theta, scale, shift))
        values = self._values(flat.to(compute), theta, scale, shift).squeeze(1)
        added = values * expand_groups(amplitude.unsqueeze(1), last).squeeze(-1)
        return base + added.view(x.shape).to(base.dtype)

    def waves(self, dtype: torch.dtype | None = None) -> Tensor | None:
        """Return amplitude·φ as a sum of sinusoids, differentiable in the parameters.

        Args:
            dtype: The dtype of the computation; that of the parameters when None.

        Returns:
            (1 + 3n, g): a constant, then the frequency and the coefficients of cosine and sine of
            each of n waves, without `base`. None where there is no such sum of few waves: with an
            arccos encoding, and for a circuit with very many frequencies.

        Example:
            >>> from qkan import DARUAN
            >>> DARUAN(64, group=4).waves().shape
            torch.Size([4, 4])
        """
        if not self._is_sum:
            return None
        tensors = (self.theta, self.scale, self.shift, self.amplitude)
        return self._terms(*(tensor.to(dtype or tensor.dtype) for tensor in tensors))

    def _terms(self, theta: Tensor, scale: Tensor, shift: Tensor, amplitude: Tensor) -> Tensor:
        return wave_terms(
            self.program, theta, scale, shift, amplitude, fixed_scale=self.fixed_scale,
            engine=self.engine,
        )  # fmt: skip

    def _values(self, x: Tensor, theta: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """φ of every input, (b, 1, f), by an engine or by the function that replaces one."""
        if self.activations is not None:
            return self.activations(x, theta, scale, shift)
        call = layer_call(self.program, LayerTensors(x, theta, scale, shift), self.fixed_scale)
        return run(select(self.engine, call.request), call)

    def request(self, x: Tensor) -> Request:
        """Return the request of the activation to its engine for inputs x (b, f).

        For a sum of waves, it asks for the circuit at the few phases that determine them.
        """
        compute = compute_dtype(self.theta.dtype, "z")
        if self._is_sum:
            return wave_request(self.program, self.theta.to(compute), self.fixed_scale)
        return Request(
            self.program, x.shape[0], 1, x.shape[-1], compute, x.device, self.fixed_scale,
            per_edge=True,
        )  # fmt: skip

    def config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build this activation again, as JSON values.

        A base that is a module or a function is described by its name, and has to be passed to
        `from_config`.
        """
        base: object = self.base
        if not (self.base is None or isinstance(self.base, str)):
            base = {"passed": _named(self.base)}
        return {
            "features": self.features,
            "group": self.group,
            "base": base,
            "circuit": to_json(self.circuit),
            "encoding": self.encoding if isinstance(self.encoding, str) else [*self.encoding],
            "amplitude": self.start,
            "engine": self.engine,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], *, base: Base | None = None, **factory: Any
    ) -> DARUAN:
        """Build the activation that `config` described.

        Args:
            config: The description.
            base: The base, if it is a module or a function; otherwise it is ignored.
            **factory: Device and dtype.

        Raises:
            QKANError: The base was a module or a function, and it is not passed.
        """
        options = {name: value for name, value in config.items() if name != "circuit"}
        if isinstance(options["base"], dict):
            if base is None:
                raise QKANError(
                    f"DARUAN: its base is {options['base']['passed']}, a module or a function, "
                    f"which a file cannot hold. Build it with one of {', '.join(ACTIVATIONS)} as "
                    "base; or save its state_dict, build the model again and load that."
                )
            options["base"] = base
        return cls(**options, ansatz=from_json(config["circuit"]), **factory)

    def duplicate_parameters(self) -> int:
        """The number of trainable shifts that a theta duplicates, since both move one angle."""
        return len(self.program.merged_shifts) * self.group if self.shift.requires_grad else 0

    def extra_repr(self) -> str:
        """The options, and the circuit's ansatz."""
        name = getattr(self.circuit.builder, "name", None)
        circuit = f"ansatz={name!r}, reps={self.circuit.num_encodings}" if name else "own circuit"
        named = repr(self.base)
        if not (self.base is None or isinstance(self.base, str | nn.Module)):
            named = _named(self.base)
        base = "" if isinstance(self.base, nn.Module) else f", base={named}"
        return f"{self.features}, group={self.group}{base}, {circuit}, encoding={self.encoding!r}"


def base_values(base: Base | None, x: Tensor) -> Tensor:
    """Return the base of an activation at x, or zeros if there is none.

    A base that works in place, such as `nn.ReLU(inplace=True)` or `torch.relu_`, gets a copy, since
    the circuit needs x unchanged.

    Raises:
        QKANError: It changes x all the same, or returns another shape.
    """
    if base is None:
        return torch.zeros_like(x)
    if isinstance(base, str):
        return ACTIVATIONS[base](x)
    version = x._version if has_values(x) and not x.is_inference() else None
    found = base(x.clone() if _works_in_place(base) else x)
    if version is not None and x._version != version:
        raise QKANError(
            f"DARUAN: its base {_named(base)} changes its input in place, which the circuit needs "
            "as it was; let it compute a new tensor."
        )
    if not is_tracing() and (not isinstance(found, Tensor) or found.shape != x.shape):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise QKANError(
            f"DARUAN: its base {_named(base)} maps {tuple(x.shape)} to {shape}; an activation "
            "keeps the shape."
        )
    return found


def _works_in_place(base: Base) -> bool:
    if isinstance(base, nn.Module):
        return any(getattr(part, "inplace", False) for part in base.modules())
    # a compiler cannot ask a function for its name, and leaves out a copy that nothing needs
    return torch.compiler.is_compiling() or getattr(base, "__name__", "").endswith("_")


def with_waves(holder: nn.Module, base: Base | None, x: Tensor, terms: Tensor) -> Tensor:
    """Return base(x) plus the sinusoids of these terms; the holder has the plan for them."""
    # a compiler gets plain operators, since it would take the plan for an input
    if not has_values(x):
        return add_waves(x, base_values(base, x), terms)
    known = _known_base(base)
    given = base_values(base, x) if known is None else known
    return add_waves(x, given, terms, getattr(holder, "_recipe", None))


def _known_base(base: Base | None) -> Known | None:
    """Return an activation's value and derivative as known formulas, if it is a known activation.

    None for a module whose hooks or options do more. A known module is called all the same.
    """
    if base is None:
        return Known(torch.zeros_like, lambda grad, x: torch.zeros_like(x))
    if isinstance(base, nn.Module) and _does_more(base):
        return None
    for name, row in BASE_ACTIVATIONS.items():
        if type(base) is row.module or base == name or base is row.value:
            return Known(row.value if isinstance(base, str) else base, row.backward)
    return None


def _does_more(base: nn.Module) -> bool:
    """Whether a call of a module does anything else than its class says."""
    options = getattr(base, "inplace", False), getattr(base, "approximate", "none") != "none"
    hooks = is_hooked(base), nn.modules.module._has_any_global_hook()
    return "forward" in vars(base) or any(options) or any(hooks)


def _named(base: Base) -> str:
    return getattr(base, "__name__", type(base).__name__)


def _number(name: str, value: float) -> float:
    number = as_number(value)
    if not math.isfinite(number):
        raise QKANError(f"{name}={value!r}: wanted a finite number.")
    return number
