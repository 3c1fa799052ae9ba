"""`Stage`: one call of one layer, as circuits with bound angles. And where the model is tapped.

Letters: n rows of a layer's input, o outputs, i inputs, e edges in use, k theta slots, u encodings,
p parametric gates.
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
from qkan.circuits.angles import gate_angles
from qkan.errors import QKANError
from qkan.nn.functional import amplitude
from qkan.nn.layer import QKANLayer
from qkan.nn.watch import evaluating
from qkan.simulators import edge_values

Evaluate = Callable[["Stage"], Tensor]
"""From a stage to φ of its edges in use, (n, e)."""


@dataclass(frozen=True, eq=False)
class Stage:
    """The circuits of one call of one layer: pruned edges left out, a group's counted once.

    Attributes:
        name: The layer's name in the model, with the number of the call from the second on.
        layer: The layer.
        inputs: (n, i) what the layer was called with.
        x: (n, e) the input of each edge in use.
        theta: (e, k) radians.
        scale: (e, u).
        shift: (e, u) radians.
        edges: (e,) flat numbers of the edges in use within (o, i), with groups within (1, i).
    """

    name: str
    layer: QKANLayer
    inputs: Tensor
    x: Tensor
    theta: Tensor
    scale: Tensor
    shift: Tensor
    edges: Tensor

    @classmethod
    def gather(
        cls, name: str, layer: QKANLayer, x: Tensor, theta: Tensor, scale: Tensor, shift: Tensor
    ) -> Stage:
        """The edges in use, from what `QKANLayer.activations` is called with."""
        used = layer.mask != 0
        if layer.group is not None:
            used = used.any(0, keepdim=True)
        edges = used.flatten().nonzero().squeeze(-1)
        columns = x[:, edges % layer.in_features]
        theta, scale, shift = (t.flatten(0, 1)[edges] for t in (theta, scale, shift))
        return cls(name, layer, x, columns, theta, scale, shift, edges)

    @property
    def values(self) -> int:
        """Circuits with bound angles: n · e."""
        return self.x.numel()

    @property
    def shape(self) -> tuple[int, int]:
        """(o, i), or (1, i) with groups."""
        rows = self.layer.out_features if self.layer.group is None else 1
        return rows, self.layer.in_features

    def edge(self, number: int) -> str:
        """The name of one of the e edges."""
        o, i = divmod(int(self.edges[number]), self.layer.in_features)
        where = f"input {i}" if self.layer.group is not None else f"output {o}, input {i}"
        return f"Layer {self.name}, the edge of {where}"

    def rows(self, chosen: Tensor) -> Stage:
        """The same stage for some of its rows."""
        return replace(self, inputs=self.inputs[chosen], x=self.x[chosen])

    def detached(self) -> Stage:
        """The same stage in double precision, without gradients."""
        names = ("x", "theta", "scale", "shift")
        return replace(self, **{name: getattr(self, name).detach().double() for name in names})

    def simulate(self) -> Tensor:
        """Exact φ of the edges, (n, e), differentiable in all tensors."""
        layer, x = self.layer, self.x
        theta, scale, shift = (t.unsqueeze(0) for t in (self.theta, self.scale, self.shift))
        # a device's few values are not worth compiling a kernel for
        return edge_values(layer.program, x, theta, layer.fixed_scale or scale, shift).squeeze(1)

    def angles(self) -> Tensor:
        """The angle of each parametric gate, (n, e, p) radians, differentiable."""
        scale = self.layer.fixed_scale or self.scale
        columns = gate_angles(self.layer.circuit, self.x, self.theta, scale, self.shift, torch)
        return torch.stack(torch.broadcast_tensors(*columns), -1)

    def weights(self) -> Tensor:
        """(e,) how much each edge counts: |weight|, summed over what a group feeds."""
        weight = (self.layer.weight * self.layer.mask).detach().abs().double()
        if self.layer.group is not None:
            weight = weight.sum(0, keepdim=True)
        return weight.flatten()[self.edges]

    def task(self, offsets: Tensor | None = None) -> Task:
        """The measurement of all values; `offsets` (r, p) repeats it r times, angles moved."""
        angles = self.detached().angles()
        if offsets is not None:
            angles = angles + offsets[:, None, None, :].to(angles)
        return Task(self.layer.circuit, _numpy(angles), _numpy(self.weights()))

    def readout(self, z: Tensor) -> Tensor:
        """What the layer reads from ⟨M⟩ = z, differentiable."""
        return amplitude(z) if self.layer.readout == "amplitude" else z

    def place(self, values: Tensor) -> Tensor:
        """From the edges in use (n, e) to all (n, o, i), 0 where pruned."""
        rows, columns = self.shape
        if values.shape[-1] != rows * columns:
            empty = values.new_zeros(values.shape[0], rows * columns)
            values = empty.index_copy(1, self.edges, values)
        return values.reshape(-1, rows, columns)


def quantum_layers(model: nn.Module) -> dict[str, QKANLayer]:
    """The model's `QKANLayer`s by name.

    Raises:
        QKANError: It has none.
    """
    if not isinstance(model, nn.Module):
        raise QKANError(f"The model is {type(model).__name__}: wanted a torch.nn.Module.")
    layers = {
        name or type(module).__name__: module
        for name, module in model.named_modules()
        if isinstance(module, QKANLayer)
    }
    if not layers:
        raise QKANError(
            f"{type(model).__name__} has no QKANLayer, so there is no circuit to measure; "
            "a device runs a QKAN, an HQKAN or a model with one inside."
        )
    return layers


@contextmanager
def tapped(model: nn.Module, activate: Evaluate, *, once: bool = True) -> Iterator[None]:
    """Let `activate` compute the activations of every layer, (n, e) after the readout.

    Meant for one forward pass: a layer that is called again says so in its stage's name, unless
    `once` is False.

    Raises:
        QKANError: The model has no layer, or is tapped already.
    """
    layers = quantum_layers(model)
    taken = [name for name, layer in layers.items() if layer.activations is not None]
    if taken:
        raise QKANError(
            f"Layer {taken[0]} already takes its activations from elsewhere; leave the outer "
            "`with` first, or use a copy of the model."
        )

    lent = {name: Lent(name, layer, activate, once=once) for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.activations = lent[name]
    try:
        yield
    finally:
        for name, layer in layers.items():
            lent[name].ended = True
            del layer.activations


class Lent:
    """What computes a layer's activations for the time of a `with`, and no longer.

    A copy of the layer, a pickle and a file have None in its place: they are the model alone,
    which runs on the simulator.

    Args:
        name: The layer's.
        layer: Whose activations they are.
        activate: What computes them.
        once: Whether later calls say in the stage's name which they are.

    Attributes:
        ended: Whether the `with` is over; then a call raises.
    """

    def __init__(self, name: str, layer: QKANLayer, activate: Evaluate, *, once: bool) -> None:
        self._name, self._layer, self._activate, self._once = name, layer, activate, once
        self._calls, self.ended = 0, False

    def __call__(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """Activations (n, o, i) for inputs x (n, i); as `QKANLayer.activations` is called."""
        if self.ended:
            raise QKANError(
                f"Layer {self._name} is a copy of one that was on a device, and that `with` has "
                "ended. Use the model itself, or copy.deepcopy(model), which is never on a device."
            )
        self._calls += 1
        again = self._once and self._calls > 1
        called = f"{self._name} (call {self._calls})" if again else self._name
        stage = Stage.gather(called, self._layer, x, *parameters)
        return stage.place(self._activate(stage).to(x.dtype))

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


def record(model: nn.Module, x: Tensor) -> tuple[list[Stage], Tensor]:
    """The stages of a forward pass on the simulator, and its output."""
    stages: list[Stage] = []

    def simulate(stage: Stage) -> Tensor:
        stages.append(stage)
        return stage.readout(stage.simulate())

    with tapped(model, simulate), evaluating(model), torch.no_grad():
        out = model(x)
    if not isinstance(out, Tensor):
        raise QKANError(f"The model returned {type(out).__name__}: wanted one tensor.")
    return stages, out


def _numpy(values: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    return values.detach().cpu().numpy()
