"""`QKANLSTMCell` and `QKANGRUCell`: torch's recurrent cells with trainable gates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from qkan._options import check_size, factory_of
from qkan.errors import QKANError
from qkan.simulators import autocast_dtype, is_tracing
from qkan.simulators.recurrent import GATES, Steps

from .functional import check_features
from .gates import (
    Direction,
    GateOptions,
    check_options,
    described,
    from_description,
    gate_of,
    reset_gate,
)


class _Cell(nn.RNNCellBase):
    """The common base of both cells."""

    kind: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[GateOptions],
    ) -> None:
        check_options({**options}, type(self))
        factory = factory_of(device, dtype)
        hidden_size = check_size("hidden_size", hidden_size)
        super().__init__(input_size, hidden_size, bias, num_chunks=GATES[self.kind], **factory)
        self._options: dict[str, Any] = {**options}
        # the weights first, so that a seed gives those of torch's cell
        reset_weights(self, options.get("generator"))
        self.gates = gate_of(self.kind, input_size, hidden_size, self._options, factory)
        self._options = {n: self._options.get(n) for n in ("gate", "group")}

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights as torch does, and set the gates to those of the classical cell."""
        # torch's constructor calls this method before there are gates
        if hasattr(self, "gates"):
            reset_weights(self, generator)
            reset_gate(self.gates, generator)

    def _states(self, x: Tensor, states: Any, count: int) -> tuple[list[Tensor], bool]:
        """The given states or zeros as (b, h), and whether there is a batch."""
        name = type(self).__name__
        if not is_tracing():
            check_features(x, self.input_size, self.weight_ih.dtype, "input_size")
        if x.ndim not in (1, 2):
            raise QKANError(
                f"{name}: the input has shape {tuple(x.shape)}; pass one step, (b, "
                f"{self.input_size}) or ({self.input_size},). For a sequence use "
                f"{name.removesuffix('Cell')}."
            )
        wanted = (*x.shape[:-1], self.hidden_size)
        if states is None:
            zeros = x.new_zeros(wanted)
            found = [zeros] * count
        else:
            found = check_states(name, states, count, wanted, x)
        batched = x.ndim == 2
        return [state if batched else state.unsqueeze(0) for state in found], batched

    def _step(self, x: Tensor, states: Any, count: int) -> list[Tensor]:
        """The states after one step."""
        held, batched = self._states(x, states, count)
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        direction = Direction(self.kind, self.gates, weights)
        steps = Steps((held[0].shape[0],))
        _, *found = direction.run(x if batched else x.unsqueeze(0), held[0], held[-1], steps)
        return [state if batched else state.squeeze(0) for state in found[:count]]

    def config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build this cell again, as JSON values."""
        return {
            "input_size": self.input_size, "hidden_size": self.hidden_size, "bias": self.bias,
            **described(self.gates, self._options),
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any], **factory: Any) -> Any:
        """Build the cell that `config` described; `factory` is device and dtype."""
        return cls(**from_description(config), **factory)


class QKANLSTMCell(_Cell):
    """A `torch.nn.LSTMCell` with trainable gates: c ← f·c + i·g and h ← o·tanh(c).

    With z = weight_ih·x + bias_ih + weight_hh·h + bias_hh, cut in four, a gate is σ(z) + a·φ(z) for
    i, f and o, and tanh(z) + a·φ(z) for g, where φ is the value of a single-qubit circuit
    (`DARUAN`, arXiv 2509.14026; QKAN-LSTM, arXiv 2512.05049). The amplitude a begins at 0, so the
    cell begins as the classical one, up to rounding, with the weights that torch would draw. With
    `gate="qkan"` the gates are σ(z + Φ) and tanh(z + Φ) instead, where Φ is the output of a
    `QKANLayer` for x and h, whose weights begin at 0.

    A trained gate may leave the range from 0 to 1, and a state whose forget gate stays above 1
    grows with every step. For long sequences, clip gradients or use `gate="qkan"`, whose gates stay
    within their range.

    Args:
        input_size: Number i of inputs.
        hidden_size: Size h of the state.
        bias: Whether there are biases.
        device: As in `torch.nn.LSTMCell`.
        dtype: As in `torch.nn.LSTMCell`.
        **options: `gate` is "daruan" or "qkan". `group` is, with "daruan", the number of
            activations that the units of each gate share, 1 when None, or "inputs" for one
            activation for each unit; with "qkan" it is as in `QKANLayer`. `ansatz`, `reps` (1),
            `encoding`, `engine` and `generator` are as in `DARUAN`.

    Attributes:
        weight_ih: (4h, i), as in torch.
        weight_hh: (4h, h), as in torch.
        bias_ih: (4h,), or None, as in torch.
        bias_hh: (4h,), or None, as in torch.
        gates: The `DARUAN` of 4h features, or the `QKANLayer`.

    Shapes:
        x (b, i) and (h, c), each (b, h), → (h, c); or all without b. The states are zeros by
        default.

    Raises:
        QKANError: An option, an input or a state is wrong.

    Example:
        >>> import torch
        >>> from qkan import QKANLSTMCell
        >>> cell = QKANLSTMCell(3, 5)
        >>> h, c = cell(torch.randn(7, 3))
        >>> h, c = cell(torch.randn(7, 3), (h, c))
        >>> h.shape, c.shape
        (torch.Size([7, 5]), torch.Size([7, 5]))
    """

    kind = "LSTM"

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Map (b, i), (h, c) → (h, c)."""
        h, c = self._step(input, hx, 2)
        return h, c


class QKANGRUCell(_Cell):
    """A `torch.nn.GRUCell` with trainable gates: h ← (1 - z)·n + z·h.

    The gates r, z and n are σ, σ and tanh as in torch, each plus a·φ, with amplitudes a that begin
    at 0. With `gate="qkan"` the output of a `QKANLayer` is added to their arguments instead.
    `QKANLSTMCell` describes both, and all options.

    Args:
        input_size: Number i of inputs.
        hidden_size: Size h of the state.
        bias: Whether there are biases.
        device: As in `torch.nn.GRUCell`.
        dtype: As in `torch.nn.GRUCell`.
        **options: Options of `QKANLSTMCell`.

    Attributes:
        weight_ih: (3h, i), as in torch.
        weight_hh: (3h, h), as in torch.
        bias_ih: (3h,), or None, as in torch.
        bias_hh: (3h,), or None, as in torch.
        gates: The `DARUAN` of 3h features, or the `QKANLayer`.

    Shapes:
        x (b, i) and h (b, h) → h; or both without b. The state is zeros by default.

    Raises:
        QKANError: An option, an input or a state is wrong.

    Example:
        >>> import torch
        >>> from qkan import QKANGRUCell
        >>> QKANGRUCell(3, 5)(torch.randn(7, 3)).shape
        torch.Size([7, 5])
    """

    kind = "GRU"

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Map (b, i), h → h."""
        return self._step(input, hx, 1)[0]


def reset_weights(module: nn.Module, generator: torch.Generator | None) -> None:
    """Draw the weights and biases of a recurrent module itself, as torch does."""
    size: Any = module.hidden_size
    bound = float(size) ** -0.5
    with torch.no_grad():
        for weight in module.parameters(recurse=False):
            weight.uniform_(-bound, bound, generator=generator)


def check_states(
    name: str, states: Any, count: int, wanted: tuple[int, ...], x: Tensor
) -> list[Tensor]:
    """Return the given states as a list, or raise `QKANError` unless they fit.

    Args:
        name: The name of the module.
        states: A tensor, or a pair of them.
        count: 2 for h and c, 1 for h.
        wanted: The shape of each state.
        x: The input, whose dtype they have.
    """
    found = [states] if count == 1 else states
    alright = isinstance(found, tuple | list) and len(found) == count
    if not alright or not all(isinstance(state, Tensor) for state in found):
        kinds = "a pair of tensors, (h, c)" if count == 2 else "one tensor, h"
        raise QKANError(f"{name}: the state is {_kind(states)}; pass {kinds}.")
    for letter, state in zip("hc", found, strict=False):
        if not is_tracing() and tuple(state.shape) != wanted:
            raise QKANError(
                f"{name}: the state {letter} has shape {tuple(state.shape)}; for this input it "
                f"must have the shape {wanted}."
            )
        if state.device != x.device:
            raise QKANError(
                f"{name}: the state {letter} is on {state.device} and the input on {x.device}; use "
                f"{letter}.to({str(x.device)!r})."
            )
        if state.dtype != x.dtype and autocast_dtype(x.device.type) is None:
            raise QKANError(
                f"{name}: the state {letter} is {state.dtype} and the input {x.dtype}; use "
                f"{letter}.to({x.dtype})."
            )
    return [*found]


def _kind(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
