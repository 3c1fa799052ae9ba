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
    """A QKAN layer on a PennyLane device: it stands where `qml.qnn.TorchLayer` does.

    The same function, parameters and state_dict as a `QKANLayer` of the same options, so either
    loads what the other trained. Each forward pass is one broadcast circuit; a `QKANLayer` is far
    faster, and this one is for PennyLane's devices.

    Args:
        in_features: Inputs i.
        out_features: Outputs o.
        quantum_device: A PennyLane device, or the name of one (`device` is torch's).
        diff_method: As in `qnode`.
        shots: As in `qnode`.
        **options: Those of `QKANLayer`, but for `engine`.

    Shapes:
        x (…, in_features) → (…, out_features).

    Raises:
        BackendError: No such device.
        QKANError: An option that cannot be right, an input that does not fit.
        ImportError: PennyLane is absent; the extra "pennylane" installs it.

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
        """The node that measures the circuit, in the first of its observables if it has several."""
        return self.nodes[0]

    def activations(self, x: Tensor, theta: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """φ of every sample and edge, (b, o, i), read out; of several observables (b, o, i, a)."""
        values = [node(x, theta, self.fixed_scale or scale, shift) for node in self.nodes]
        z = torch.stack(values, -1) if self.circuit.reads_several else values[0]
        return amplitude(z) if self.readout == "amplitude" else z

    def extra_repr(self) -> str:
        """The layer's options and the PennyLane device."""
        return f"{super().extra_repr()}, quantum_device={self.node.device.name!r}"
