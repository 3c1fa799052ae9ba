"""The parts that recurrent modules share: options, circuits of the gates, and one direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qkan._options import check_choice, check_group, check_known, check_one_observable
from qkan.circuits import Circuit, from_json, to_json
from qkan.circuits.ansatz import Builder
from qkan.errors import QKANError
from qkan.simulators.recurrent import GATES, Cell, Steps, base_gates, plain, recurrence

from .activation import DARUAN
from .functional import compute_dtype
from .layer import QKANLayer
from .watch import is_hooked

KINDS = ("daruan", "qkan")


class GateOptions(TypedDict, total=False):
    """The keyword options of the recurrent modules that `torch.nn.LSTM` does not have."""

    gate: str
    group: int | str | None
    ansatz: str | Circuit | Builder
    reps: int
    encoding: str | Sequence[float]
    engine: str
    generator: torch.Generator | None


def lstm_gates(z: Tensor) -> Tensor:
    """Return the input, forget, cell and output gates of an LSTM: z (…, 4h) → (…, 4h)."""
    return base_gates(z, 0, GATES["LSTM"])


def gru_gates(z: Tensor) -> Tensor:
    """Return the reset, update and new gates of a GRU: z (…, 3h) → (…, 3h)."""
    return base_gates(z, 0, GATES["GRU"])


_BASES = {"LSTM": lstm_gates, "GRU": gru_gates}


def check_options(options: dict[str, Any], of: type | None = None) -> None:
    """Raise a TypeError for an option unknown to a class, `QKANError` for a kind of gates."""
    check_known(options, GateOptions.__annotations__, of)
    check_choice("gate", options.get("gate", KINDS[0]), KINDS)


def gate_of(
    kind: str, inputs: int, hidden: int, options: dict[str, Any], factory: dict[str, Any]
) -> DARUAN | QKANLayer:
    """Build the trainable part of the gates of one cell, which adds 0 at the start.

    Args:
        kind: "LSTM" or "GRU".
        inputs: The size of the cell's input.
        hidden: The size of its state.
        options: Those of `GateOptions`.
        factory: Device and dtype.
    """
    count = GATES[kind]
    rest = {n: v for n, v in options.items() if n not in ("gate", "group")}
    if not isinstance(rest.get("ansatz"), Circuit):
        rest.setdefault("reps", 1)
    group = options.get("group")
    if options.get("gate", KINDS[0]) == "daruan":
        each = check_group(group, hidden, "hidden_size") or 1
        return DARUAN(count * hidden, group=count * each, base=_BASES[kind], **rest, **factory)
    layer = QKANLayer(
        inputs + hidden, count * hidden, group=group, base=None, bias=False, **rest, **factory
    )
    check_one_observable("A gate", layer.circuit, "It has one value for each unit.")
    _silence(layer)
    return layer


def reset_gate(gate: nn.Module, generator: torch.Generator | None) -> None:
    """Draw new values for the trainable part of a cell's gates."""
    if isinstance(gate, DARUAN | QKANLayer):
        gate.reset_parameters(generator)
        _silence(gate)


def _silence(gate: nn.Module) -> None:
    if isinstance(gate, QKANLayer):
        with torch.no_grad():
            gate.weight.zero_()


def described(gate: nn.Module, options: dict[str, Any]) -> dict[str, Any]:
    """Return a module's options of its gates as JSON values.

    Raises:
        QKANError: The circuits have been replaced by something else.
    """
    if not isinstance(gate, DARUAN | QKANLayer):
        raise QKANError(
            f"The gates are a {type(gate).__name__}, which the configuration of a recurrent module "
            "cannot describe. Save the model before it is folded, or save its state_dict."
        )
    encoding = gate.encoding if isinstance(gate.encoding, str) else [*gate.encoding]
    return {
        "gate": options["gate"] or KINDS[0], "group": options["group"],
        "circuit": to_json(gate.circuit), "encoding": encoding, "engine": gate.engine,
    }  # fmt: skip


def from_description(config: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords for a constructor from a configuration that contains `described`."""
    circuit = from_json(config["circuit"])
    named = {name: value for name, value in config.items() if name != "circuit"}
    return {**named, "ansatz": circuit, "reps": circuit.num_encodings}


def is_gate(activation: DARUAN) -> bool:
    """Whether an activation belongs to the gates of a recurrent module."""
    return activation.base in _BASES.values()


class Direction:
    """One direction of one layer, ready to be run.

    Args:
        kind: "LSTM" or "GRU".
        gate: The trainable part of its gates.
        weights: weight_ih, weight_hh, and bias_ih and bias_hh, which may both be None.
    """

    def __init__(
        self,
        kind: str,
        gate: nn.Module,
        weights: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    ) -> None:
        self.kind, self.gate = kind, gate
        self.weight, recurrent, bias, own = weights
        if kind == "LSTM" and bias is not None and own is not None:
            bias, own = bias + own, None
        self.bias, self.cell = bias, Cell(kind, recurrent, own)

    def run(self, x: Tensor, h: Tensor, c: Tensor, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
        """Return the hidden states (n, h) and the last h and c for x (n, i), h and c (b, h)."""
        z, gate = F.linear(x, self.weight, self.bias), self.gate
        terms = self._terms()
        if terms is not None:
            found = recurrence(self.cell, z, h, c, terms, steps)
        elif getattr(gate, "in_features", None) is not None:
            # a QKANLayer, or what `fold` makes of one; an activation has none

            def added(first: int, last: int, state: Tensor) -> Tensor:
                part: Tensor = gate(torch.cat([x[first:last], state.to(x.dtype)], -1))
                return part

            found = plain(
                self.cell, z, h, c, lambda z, first, last: base_gates(z, first, last), steps, added
            )
        else:
            found = plain(self.cell, z, h, c, self._of_module, steps)
        # under autocast the states are wider than what the linear maps return
        out, h, c = (value.to(z.dtype) for value in found)
        return out, h, c

    def _terms(self) -> Tensor | None:
        """The waves of the gates; None where the module must be called instead, or has none."""
        gate = self.gate
        if is_hooked(gate) or getattr(gate, "base", None) is not _BASES[self.kind]:
            return None
        if not isinstance(gate, DARUAN):
            # the module that `fold` makes of a DARUAN
            waves = getattr(gate, "waves", None)
            return waves if isinstance(waves, Tensor) else None
        if gate.activations is not None or type(gate).forward is not DARUAN.forward:
            return None
        return gate.waves(compute_dtype(gate.theta.dtype, "z"))

    def _of_module(self, z: Tensor, first: int, last: int) -> Tensor:
        """Evaluate some of the gates by calling the module, which needs the inputs of all gates."""
        count = GATES[self.kind]
        width = z.shape[-1] // (last - first)
        padded = F.pad(z, (first * width, (count - last) * width))
        values: Tensor = self.gate(padded)
        return values[..., first * width : last * width]
