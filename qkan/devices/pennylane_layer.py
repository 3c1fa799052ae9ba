"""`PennyLaneLayer`: a `QKANLayer` whose circuits run on a PennyLane device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from qkan.errors import QKANError
from qkan.nn.functional import amplitude
from qkan.nn.layer import LayerOptions, QKANLayer

from .qnode import PennyLaneNode, qnode


class PennyLaneLayer(QKANLayer):
    """A QKAN layer on a PennyLane device, to use like a `qml.qnn.TorchLayer`.

    It has the function, parameters and state_dict of a `QKANLayer` with the same options, so each
    can load what the other trained. Each forward pass is one broadcast circuit. A `QKANLayer` is
    far faster; this layer is for PennyLane's devices.

    Args:
        in_features: Number i of inputs.
        out_features: Number o of outputs.
        quantum_device: A PennyLane device, or the name of one (`device` is the torch device).
        diff_method: As in `qnode`.
        shots: As in `qnode`.
        **options: Options of `QKANLayer`, except `engine`.

    Shapes:
        x (…, in_features) → (…, out_features).

    Raises:
        BackendError: There is no such device.
        QKANError: An option is wrong, or the input does not fit.
        ImportError: PennyLane is not installed; the extra "pennylane" installs it.

    Example:
        >>> import torch
        >>> from qkan import PennyLaneLayer
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 2), PennyLaneLayer(2, 3, reps=1))
        >>> model(torch.rand(5, 4)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        quantum_device: Any = "default.qubit",
        diff_method: str | None = "best",
        shots: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        if options.get("engine", "auto") != "auto":
            raise QKANError(
                f"engine={options['engine']!r}: the circuits of a PennyLaneLayer run on its "
                "quantum_device; leave the engine out, or use a QKANLayer."
            )
        super().__init__(in_features, out_features, **options)
        self.nodes = [
            qnode(one, quantum_device, diff_method=diff_method, shots=shots)
            for one in map(self.circuit.with_observable, self.circuit.observables)
        ]

    @property
    def node(self) -> PennyLaneNode:
        """The node that measures the circuit, with the first of its observables."""
        return self.nodes[0]

    def activations(self, x: Tensor, theta: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return the readout of φ, (b, o, i), or (b, o, i, a) with several observables."""
        values = [node(x, theta, self.fixed_scale or scale, shift) for node in self.nodes]
        z = torch.stack(values, -1) if self.circuit.reads_several else values[0]
        return amplitude(z) if self.readout == "amplitude" else z

    def extra_repr(self) -> str:
        """The layer's options and the PennyLane device."""
        return f"{super().extra_repr()}, quantum_device={self.node.device.name!r}"
