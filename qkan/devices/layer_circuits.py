"""`LayerCircuits`: the circuits with bound angles for one call of one layer.

`overriding_activations` intercepts a model: it passes the circuits of every call of a layer to a
function that computes the activations, on a device or otherwise.

Letters: n rows of a layer's input, o outputs, i inputs, e edges in use, k theta slots, u encodings,
p parametric gates, a observables.

In a layer that reads several observables, each edge is used once for every observable. All of these
circuits measure Z after two rotations whose angles depend on the observable, so they are packed
together and measured in one job, each with its own standard error.
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
"""A layer with a circuit on every edge, or an activation with a circuit for every feature."""

Evaluate = Callable[["LayerCircuits"], Tensor]
"""A function from the circuits of a layer's call to φ of its edges in use, (n, e)."""


@dataclass(frozen=True, eq=False)
class LayerCircuits:
    """The circuits of one call of one layer, without pruned edges, and once for each group.

    The edges of a `DARUAN` are its features, with one activation each, as in a layer with groups.

    Attributes:
        name: The layer's name in the model; from the second call on, with the number of the call.
        layer: The layer.
        inputs: (n, i) inputs of the layer.
        x: (n, e) inputs of the edges in use.
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
        """Gather the edges in use from the arguments of the layer's `activations`.

        Args:
            name: The layer's name.
            layer: The layer.
            tensors: The inputs (n, i), theta, scale and shift.
            idle: Whether features of a `DARUAN` with an amplitude of 0 are in use. They add nothing
                to its outputs, but the amplitude has a gradient.
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
        """The circuit of every edge; it measures one observable."""
        layer = self.layer.circuit
        return layer.with_observable("trainable") if layer.reads_several else layer

    @property
    def program(self) -> Program:
        """The lowered circuit of every edge."""
        program = self.layer.program
        return program if program.turned is None else program.turned

    @property
    def values(self) -> int:
        """The number of circuits with bound angles: n · e."""
        return self.x.numel()

    def edge(self, number: int) -> str:
        """Return a name for one of the e edges, for messages."""
        o, i = divmod(int(self.edges[number]), self.inputs.shape[-1])
        n, o = divmod(o, self._outs)
        if isinstance(self.layer, DARUAN):
            return f"Activation {self.name}, feature {i}"
        where = f"input {i}" if self.layer.group is not None else f"output {o}, input {i}"
        several = self.layer.circuit.reads_several
        measured = f", observable {self.layer.circuit.observables[n]}" if several else ""
        return f"Layer {self.name}, the edge of {where}{measured}"

    def rows(self, chosen: Tensor) -> LayerCircuits:
        """Return the circuits of some of the rows."""
        return replace(self, inputs=self.inputs[chosen], x=self.x[chosen])

    def detached(self) -> LayerCircuits:
        """Return the circuits in double precision, without gradients."""
        names = ("x", "theta", "scale", "shift")
        return replace(self, **{name: getattr(self, name).detach().double() for name in names})

    def simulate(self) -> Tensor:
        """Return φ of the edges exactly, (n, e), differentiable in all tensors."""
        layer, x = self.layer, self.x
        theta, scale, shift = (t.unsqueeze(0) for t in (self.theta, self.scale, self.shift))
        # compiling a kernel is not worth it for the few values of a device
        return edge_values(self.program, x, theta, layer.fixed_scale or scale, shift).squeeze(1)

    def angles(self) -> Tensor:
        """Return the angle of each parametric gate, (n, e, p) radians, differentiable."""
        scale = self.layer.fixed_scale or self.scale
        columns = gate_angles(self.circuit, self.x, self.theta, scale, self.shift, torch)
        return torch.stack(torch.broadcast_tensors(*columns), -1)

    def weights(self) -> Tensor:
        """Return how much each edge counts, (e,): |weight|, summed over the edges of a group."""
        if isinstance(self.layer, DARUAN):
            share = _amplitudes(self.layer, self.inputs.shape[-1]).abs().double()
            return share.flatten()[self.edges]
        weight = (self.layer.weight * self.layer.mask).detach().abs().double()
        if self.layer.group is not None:
            weight = weight.sum(0, keepdim=True)
        return weight.flatten()[self.edges % max(weight.numel(), 1)]

    def task(self, offsets: Tensor | None = None) -> Task:
        """Return the task for all values, repeated with angles moved by `offsets` (r, p)."""
        angles = self.detached().angles()
        if offsets is not None:
            angles = angles + offsets[:, None, None, :].to(angles)
        return Task(self.circuit, _numpy(angles), _numpy(self.weights()))

    def readout(self, z: Tensor) -> Tensor:
        """Return the layer's readout of ⟨M⟩ = z, differentiable."""
        return amplitude(z) if self.layer.readout == "amplitude" else z

    def place(self, values: Tensor) -> Tensor:
        """Map values of the edges in use (n, e) to all edges (n, o, i), with 0 for pruned ones.

        With groups o is 1. With several observables the result is (n, o, i, a).
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
        """The number of outputs with edges of their own."""
        layer = self.layer
        return layer.out_features if isinstance(layer, QKANLayer) and layer.group is None else 1


def _amplitudes(activation: DARUAN, features: int) -> Tensor:
    """Return the amplitudes (1, i) of all features."""
    shared = activation.amplitude.detach().unsqueeze(1)
    return expand_groups(shared, features).squeeze(-1)


def quantum_layers(model: nn.Module) -> dict[str, CircuitLayer]:
    """Return the model's `QKANLayer`s and `DARUAN`s by name."""
    if not isinstance(model, nn.Module):
        raise QKANError(f"The model is of type {type(model).__name__}; wanted a torch.nn.Module.")
    reject_fast_weights(model, "A device")
    layers = {
        name or type(module).__name__: module
        for name, module in model.named_modules()
        if isinstance(module, QKANLayer | DARUAN)
    }
    if not layers:
        raise QKANError(
            f"The {type(model).__name__} contains no QKANLayer and no DARUAN, so there is no "
            "circuit to measure; pass a QKAN, an HQKAN or a model that contains one."
        )
    return layers


@contextmanager
def overriding_activations(
    model: nn.Module, activate: Evaluate, *, number_calls: bool = False, idle: bool = False
) -> Iterator[None]:
    """Use `activate` to compute the activations (n, e) of every layer, readout included.

    Args:
        model: Any module with `QKANLayer`s or `DARUAN`s in it.
        activate: The function that computes them.
        number_calls: Whether the names of a layer's second and later calls contain their number,
            for use in a single forward pass.
        idle: As in `LayerCircuits.gather`.
    """
    layers = quantum_layers(model)
    taken = [name for name, layer in layers.items() if layer.activations is not None]
    if taken:
        raise QKANError(
            f"The activations of layer {taken[0]} are already computed elsewhere; leave the outer "
            "`with` block first, or use a copy of the model."
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
    """The function that computes a layer's activations inside a `with` block.

    A copy, a pickle or a file of the layer has None in its place, and runs on the simulator.

    Attributes:
        layer: The layer whose activations are computed.
        ended: Whether the `with` block has ended; a call then raises.
    """

    def __init__(
        self, name: str, layer: CircuitLayer, activate: Evaluate, number_calls: bool, idle: bool
    ) -> None:
        self._name, self.layer, self._activate = name, layer, activate
        self._number_calls, self._calls, self.ended = number_calls, 0, False
        self._idle = idle

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Return activations (n, o, i) for inputs x (n, i), as `QKANLayer.activations` does.

        With several observables they are (n, o, i, a).
        """
        if self.ended:
            raise QKANError(
                f"Layer {self._name} is a copy of a layer that was on a device, but that `with` "
                "block has ended. Use the model itself, or copy.deepcopy(model), which is never on "
                "a device."
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
    """Return the circuits of all layer calls of a simulated forward pass, and its output.

    Args:
        model: Any module that contains circuits.
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
        raise QKANError(f"The model returned a {type(out).__name__}; wanted one tensor.")
    return calls, out


def _numpy(values: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    return values.detach().cpu().numpy()
