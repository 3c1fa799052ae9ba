"""`LayerCircuits`: one call of one layer, as circuits with bound angles.

`overriding_activations` is where the model is intercepted: it hands every call of a layer, as such
circuits, to a function that computes its activations, on a device or otherwise.

Letters: n rows of a layer's input, o outputs, i inputs, e edges in use, k theta slots, u encodings,
p parametric gates, a observables.

A layer that reads several observables has each of its edges in use once for every observable. All
are one circuit that measures Z, after two rotations with other angles for each observable: so they
are packed together and measured in one job, with standard errors for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qkan.backends import Task
from qkan.circuits import Circuit, Program
from qkan.circuits.angles import gate_angles
from qkan.errors import QKANError
from qkan.nn.activation import DARUAN
from qkan.nn.functional import amplitude, expand_groups
from qkan.nn.layer import QKANLayer
from qkan.nn.watch import evaluating, reject_fast_weights
from qkan.simulators import edge_values
from qkan.simulators.axes import padded

CircuitLayer = QKANLayer | DARUAN
"""What has circuits: a layer with one on every edge, or an activation with one a feature."""

Evaluate = Callable[["LayerCircuits"], Tensor]
"""From the circuits of a layer's call to φ of its edges in use, (n, e)."""


@dataclass(frozen=True, eq=False)
class LayerCircuits:
    """The circuits of one call of one layer: pruned edges left out, a group's counted once.

    The edges of a `DARUAN` are its features, one activation each, as those of a layer with groups.

    Attributes:
        name: The layer's name in the model, with the number of the call from the second on.
        layer: The layer.
        inputs: (n, i) what the layer was called with.
        x: (n, e) the input of each edge in use.
        theta: (e, k) radians.
        scale: (e, u).
        shift: (e, u) radians.
        edges: (e,) flat numbers of the edges in use within (o, i), with groups within (1, i), and
            for several observables within (a·o, i).
    """

    name: str
    layer: CircuitLayer
    inputs: Tensor
    x: Tensor
    theta: Tensor
    scale: Tensor
    shift: Tensor
    edges: Tensor

    @classmethod
    def gather(
        cls, name: str, layer: CircuitLayer, tensors: tuple[Tensor, ...], *, idle: bool = False
    ) -> LayerCircuits:
        """The edges in use, from what `activations` of the layer is called with.

        Args:
            name: The layer's name.
            layer: The layer.
            tensors: The inputs (n, i), theta, scale and shift.
            idle: Whether the features of a `DARUAN` whose amplitude is 0 are in use. They add
                nothing to its outputs, but its amplitude has a gradient there.
        """
        x, *parameters = tensors
        if isinstance(layer, DARUAN):
            used = (_amplitudes(layer, x.shape[-1]) != 0) | idle
        else:
            used = layer.mask != 0
            if layer.group is not None:
                used = used.any(0, keepdim=True)
        edges = used.flatten().nonzero().squeeze(-1)
        theta, scale, shift = (t.flatten(0, 1)[edges] for t in parameters)
        turns = layer.program.turns
        if turns:
            theta = torch.cat([padded(theta, turn) for turn in turns])
            scale, shift = scale.repeat(len(turns), 1), shift.repeat(len(turns), 1)
            edges = torch.cat([edges + n * used.numel() for n in range(len(turns))])
        columns = x[:, edges % x.shape[-1]]
        return cls(name, layer, x, columns, theta, scale, shift, edges)

    @property
    def circuit(self) -> Circuit:
        """The circuit of every edge, which measures one observable."""
        layer = self.layer.circuit
        return layer.with_observable("trainable") if layer.reads_several else layer

    @property
    def program(self) -> Program:
        """The lowered circuit of every edge."""
        program = self.layer.program
        return program if program.turned is None else program.turned

    @property
    def values(self) -> int:
        """How many circuits with bound angles there are: n · e."""
        return self.x.numel()

    def edge(self, number: int) -> str:
        """The name of one of the e edges, for messages."""
        o, i = divmod(int(self.edges[number]), self.inputs.shape[-1])
        n, o = divmod(o, self._outs)
        if isinstance(self.layer, DARUAN):
            return f"Activation {self.name}, feature {i}"
        where = f"input {i}" if self.layer.group is not None else f"output {o}, input {i}"
        several = self.layer.circuit.reads_several
        measured = f", observable {self.layer.circuit.observables[n]}" if several else ""
        return f"Layer {self.name}, the edge of {where}{measured}"

    def rows(self, chosen: Tensor) -> LayerCircuits:
        """The circuits of some of the rows."""
        return replace(self, inputs=self.inputs[chosen], x=self.x[chosen])

    def detached(self) -> LayerCircuits:
        """The circuits in double precision, without gradients."""
        names = ("x", "theta", "scale", "shift")
        return replace(self, **{name: getattr(self, name).detach().double() for name in names})

    def simulate(self) -> Tensor:
        """Exact φ of the edges, (n, e), differentiable in all tensors."""
        layer, x = self.layer, self.x
        theta, scale, shift = (t.unsqueeze(0) for t in (self.theta, self.scale, self.shift))
        # a device's few values are not worth compiling a kernel for
        return edge_values(self.program, x, theta, layer.fixed_scale or scale, shift).squeeze(1)

    def angles(self) -> Tensor:
        """The angle of each parametric gate, (n, e, p) radians, differentiable."""
        scale = self.layer.fixed_scale or self.scale
        columns = gate_angles(self.circuit, self.x, self.theta, scale, self.shift, torch)
        return torch.stack(torch.broadcast_tensors(*columns), -1)

    def weights(self) -> Tensor:
        """(e,) how much each edge counts: |weight|, summed over what a group feeds."""
        if isinstance(self.layer, DARUAN):
            share = _amplitudes(self.layer, self.inputs.shape[-1]).abs().double()
            return share.flatten()[self.edges]
        weight = (self.layer.weight * self.layer.mask).detach().abs().double()
        if self.layer.group is not None:
            weight = weight.sum(0, keepdim=True)
        return weight.flatten()[self.edges % max(weight.numel(), 1)]

    def task(self, offsets: Tensor | None = None) -> Task:
        """The measurement of all values; `offsets` (r, p) repeats it r times, angles moved."""
        angles = self.detached().angles()
        if offsets is not None:
            angles = angles + offsets[:, None, None, :].to(angles)
        return Task(self.circuit, _numpy(angles), _numpy(self.weights()))

    def readout(self, z: Tensor) -> Tensor:
        """What the layer reads from ⟨M⟩ = z, differentiable."""
        return amplitude(z) if self.layer.readout == "amplitude" else z

    def place(self, values: Tensor) -> Tensor:
        """From the edges in use (n, e) to all (n, o, i), o = 1 with groups; 0 where pruned.

        Several observables make them (n, o, i, a).
        """
        outs, ins, axes = self._outs, self.inputs.shape[-1], self.layer.program.axes
        size = outs * ins * (axes or 1)
        if values.shape[-1] != size:
            empty = values.new_zeros(values.shape[0], size)
            values = empty.index_copy(1, self.edges, values)
        if axes is None:
            return values.reshape(len(values), outs, ins)
        return values.reshape(len(values), axes, outs, ins).movedim(1, -1)

    @property
    def _outs(self) -> int:
        """How many outputs have edges of their own."""
        layer = self.layer
        return layer.out_features if isinstance(layer, QKANLayer) and layer.group is None else 1


def _amplitudes(activation: DARUAN, features: int) -> Tensor:
    """(1, i) the amplitude of every feature's activation."""
    shared = activation.amplitude.detach().unsqueeze(1)
    return expand_groups(shared, features).squeeze(-1)


def quantum_layers(model: nn.Module) -> dict[str, CircuitLayer]:
    """The model's `QKANLayer`s and `DARUAN`s by name."""
    if not isinstance(model, nn.Module):
        raise QKANError(f"The model is {type(model).__name__}: wanted a torch.nn.Module.")
    reject_fast_weights(model, "A device")
    layers = {
        name or type(module).__name__: module
        for name, module in model.named_modules()
        if isinstance(module, QKANLayer | DARUAN)
    }
    if not layers:
        raise QKANError(
            f"{type(model).__name__} has no QKANLayer and no DARUAN, so there is no circuit to "
            "measure; a device runs a QKAN, an HQKAN or a model with one inside."
        )
    return layers


@contextmanager
def overriding_activations(
    model: nn.Module, activate: Evaluate, *, number_calls: bool = False, idle: bool = False
) -> Iterator[None]:
    """Let `activate` compute the activations of every layer, (n, e) after the readout.

    Args:
        model: Any module with `QKANLayer`s or `DARUAN`s in it.
        activate: What computes them.
        number_calls: Whether a layer's second and later calls have their number in the name, for
            use in a single forward pass.
        idle: As in `LayerCircuits.gather`.
    """
    layers = quantum_layers(model)
    taken = [name for name, layer in layers.items() if layer.activations is not None]
    if taken:
        raise QKANError(
            f"Layer {taken[0]} already takes its activations from elsewhere; leave the outer "
            "`with` first, or use a copy of the model."
        )
    overrides = [Override(*item, activate, number_calls, idle) for item in layers.items()]
    for override in overrides:
        override.layer.activations = override
    try:
        yield
    finally:
        for override in overrides:
            override.ended = True
            del override.layer.activations


class Override:
    """What computes a layer's activations inside a `with`.

    A copy of the layer, a pickle and a file have None in its place: they are the model alone,
    which runs on the simulator.

    Attributes:
        layer: The layer whose activations are computed.
        ended: Whether the `with` is over; a call raises then.
    """

    def __init__(
        self, name: str, layer: CircuitLayer, activate: Evaluate, number_calls: bool, idle: bool
    ) -> None:
        self._name, self.layer, self._activate = name, layer, activate
        self._number_calls, self._calls, self.ended = number_calls, 0, False
        self._idle = idle

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Activations (n, o, i) for inputs x (n, i); as `QKANLayer.activations` is called.

        Several observables make them (n, o, i, a).
        """
        if self.ended:
            raise QKANError(
                f"Layer {self._name} is a copy of one that was on a device, and that `with` has "
                "ended. Use the model itself, or copy.deepcopy(model), which is never on a device."
            )
        self._calls += 1
        again = self._number_calls and self._calls > 1
        name = f"{self._name} (call {self._calls})" if again else self._name
        circuits = LayerCircuits.gather(name, self.layer, tensors, idle=self._idle)
        return circuits.place(self._activate(circuits).to(tensors[0].dtype))

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


def record(
    model: nn.Module, x: Tensor, *, idle: bool = False
) -> tuple[list[LayerCircuits], Tensor]:
    """The circuits of all layer calls of a forward pass on the simulator, and its output.

    Args:
        model: Any module with circuits in it.
        x: Its input.
        idle: As in `LayerCircuits.gather`.
    """
    calls: list[LayerCircuits] = []

    def simulate(circuits: LayerCircuits) -> Tensor:
        calls.append(circuits)
        return circuits.readout(circuits.simulate())

    with (
        overriding_activations(model, simulate, number_calls=True, idle=idle),
        evaluating(model),
        torch.no_grad(),
    ):
        out = model(x)
    if not isinstance(out, Tensor):
        raise QKANError(f"The model returned {type(out).__name__}: wanted one tensor.")
    return calls, out


def _numpy(values: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    return values.detach().cpu().numpy()
