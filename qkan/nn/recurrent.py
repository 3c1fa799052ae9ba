"""`QKANLSTM` and `QKANGRU`: torch's recurrent networks with trainable gates."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence
from typing_extensions import Unpack

from qkan._options import factory_of
from qkan.errors import QKANError
from qkan.simulators import is_tracing
from qkan.simulators.bridge import is_observed
from qkan.simulators.call import has_values
from qkan.simulators.recurrent import Steps

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
from .recurrent_cells import check_states, reset_weights


class _Rows(NamedTuple):
    """An input as rows, one for each sample of each step.

    Attributes:
        x: (n, i), the samples of the first step, then those of the second, and so on.
        sizes: The number of samples in each step.
        batch: The number of samples b.
        order: The positions of the samples before they were sorted by length, or None.
    """

    x: Tensor
    sizes: tuple[int, ...]
    batch: int
    order: Tensor | None = None


class _Recurrent(nn.RNNBase):
    """The common base of both networks."""

    _count: int
    """The number of states."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[GateOptions],
    ) -> None:
        name = type(self).__name__
        check_options({**options}, type(self))
        if proj_size != 0:
            raise QKANError(
                f"{name}: proj_size={proj_size!r}, but projections of the state are not available; "
                "leave it out, and put a torch.nn.Linear after the network."
            )
        factory = factory_of(device, dtype)
        kind = name_of_kind(type(self))
        super().__init__(
            kind, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            **factory,
        )  # fmt: skip
        self._options: dict[str, Any] = {**options}
        # the weights first, so that a seed gives those of torch's network
        reset_weights(self, options.get("generator"))
        inputs = [input_size] + [hidden_size * (1 + bidirectional)] * (num_layers - 1)
        self.gates = nn.ModuleDict({
            f"l{layer}{suffix}": gate_of(kind, size, hidden_size, self._options, factory)
            for layer, size in enumerate(inputs)
            for suffix in self._suffixes
        })  # fmt: skip
        self._options = {n: self._options.get(n) for n in ("gate", "group")}

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights as torch does, and set the gates to those of the classical cell."""
        # torch's constructor calls this method before there are gates
        if hasattr(self, "gates"):
            reset_weights(self, generator)
            for gate in self.gates.values():
                reset_gate(gate, generator)

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """Return the outputs and the last states for an input and the first states."""
        rows, batched = self._rows(input)
        states = self._states(rows, batched, hx)
        out, found = self._run(rows, states)
        if _can_be_checked(out) and bool(found[0].sum().isnan()):
            self._check_numbers(rows, states)
        packed: PackedSequence | None = input if isinstance(input, PackedSequence) else None
        if packed is None:
            result: Any = out.view(len(rows.sizes), rows.batch, out.shape[-1])
            result = result if batched else result.squeeze(1)
            result = result.transpose(0, 1) if self.batch_first and batched else result
            found = found if batched else [state.squeeze(1) for state in found]
        else:
            result = packed._replace(data=out)
            found = [self.permute_hidden(state, packed.unsorted_indices) for state in found]
        return result, found[0] if self._count == 1 else (*found,)

    def _run(self, rows: _Rows, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The outputs of all rows, and the last states of every layer and direction."""
        x, last, number = rows.x, [], 0
        for layer in range(self.num_layers):
            outs = []
            for suffix in self._suffixes:
                name = f"l{layer}{suffix}"
                direction = Direction(self.mode, self.gates[name], self._weights(name))
                h, c = states[0][number], states[-1][number]
                out, *after = direction.run(x, h, c, Steps(rows.sizes, suffix != ""))
                outs.append(out)
                last.append(after)
                number += 1
            x = outs[0] if len(outs) == 1 else torch.cat(outs, -1)
            if self.dropout and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        pairs = zip(*last, strict=True)
        return x, [torch.stack(state) for state in pairs][: self._count]

    def _weights(self, name: str) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """The weights and biases of one layer and direction."""
        ih, hh = getattr(self, f"weight_ih_{name}"), getattr(self, f"weight_hh_{name}")
        if not self.bias:
            return ih, hh, None, None
        return ih, hh, getattr(self, f"bias_ih_{name}"), getattr(self, f"bias_hh_{name}")

    def _rows(self, given: Any) -> tuple[_Rows, bool]:
        """The input as rows, and whether it is a batch."""
        name, dtype = type(self).__name__, cast(Tensor, self.weight_ih_l0).dtype
        if isinstance(given, PackedSequence):
            check_features(given.data, self.input_size, dtype, "input_size")
            sizes = tuple(given.batch_sizes.tolist())
            if min(sizes, default=0) < 1 or list(sizes) != sorted(sizes, reverse=True):
                found = _some(sizes) or "of no step"
                raise QKANError(
                    f"{name}: the packed sequence has the batch sizes {found}, which must not grow "
                    "from step to step, nor be 0; make it with pack_padded_sequence(…, "
                    "enforce_sorted=False)."
                )
            return _Rows(given.data, sizes, sizes[0], given.sorted_indices), True
        if not is_tracing():
            check_features(given, self.input_size, dtype, "input_size")
        order = "(b, t, {})" if self.batch_first else "(t, b, {})"
        if given.ndim not in (2, 3):
            raise QKANError(
                f"{name}: the input has shape {tuple(given.shape)}; pass "
                f"{order.format(self.input_size)}, or (t, {self.input_size}) without a batch."
            )
        batched = given.ndim == 3
        x = given if batched else given.unsqueeze(1)
        x = x.transpose(0, 1) if self.batch_first and batched else x
        length, batch = x.shape[:2]
        if not is_tracing() and length == 0:
            raise QKANError(
                f"{name}: the input has shape {tuple(given.shape)}, a sequence of length 0; it "
                "needs at least one step."
            )
        return _Rows(x.reshape(-1, self.input_size), (batch,) * length, batch), batched

    def _states(self, rows: _Rows, batched: bool, given: Any) -> list[Tensor]:
        """The states before the first step, (layers·directions, b, h) each."""
        many = self.num_layers * len(self._suffixes)
        if given is None:
            zeros = rows.x.new_zeros(many, rows.batch, self.hidden_size)
            return [zeros] * self._count
        size = (rows.batch,) if batched else ()
        wanted = (many, *size, self.hidden_size)
        states = check_states(type(self).__name__, given, self._count, wanted, rows.x)
        if not batched:
            return [state.unsqueeze(1) for state in states]
        return [self.permute_hidden(state, rows.order) for state in states]

    def _check_numbers(self, rows: _Rows, states: list[Tensor]) -> None:
        """Raise `QKANError` if the input or a given state contains NaN or infinity.

        If the parameters have diverged, the outputs are NaN, which losses and `fit` report.
        """
        name = type(self).__name__
        where = _first_bad(rows.x, rows)
        if where is not None:
            raise QKANError(
                f"{name}: the input has NaN or an infinite number in {where}, counted from 0; "
                "correct the data, or leave such samples out."
            )
        for letter, state in zip("hc", states, strict=False):
            if not bool(state.isfinite().all()):
                raise QKANError(
                    f"{name}: the given state {letter} has NaN or infinity; pass a finite one."
                )

    def config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build this module again, as JSON values."""
        names = (
            "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout",
            "bidirectional",
        )  # fmt: skip
        kept = {name: getattr(self, name) for name in names}
        return {**kept, **described(self.gates["l0"], self._options)}

    @classmethod
    def from_config(cls, config: dict[str, Any], **factory: Any) -> Any:
        """Build the module that `config` described; `factory` is device and dtype."""
        return cls(**from_description(config), **factory)

    @classmethod
    def from_torch(cls, module: nn.RNNBase, **options: Unpack[GateOptions]) -> Any:
        """Build a module that computes what a trained module of torch computes, to train it
        further.

        Args:
            module: A `torch.nn.LSTM`, or for `QKANGRU` a `torch.nn.GRU`; its weights are copied.
            **options: As in the constructor.

        Raises:
            QKANError: The module is of another class, or has projections.
        """
        wanted = getattr(nn, name_of_kind(cls))
        if type(module) is not wanted:
            raise QKANError(
                f"{cls.__name__}.from_torch: wanted a torch.nn.{wanted.__name__}, got a "
                f"{type(module).__name__}."
            )
        check_options({**options})
        weight: Any = module.weight_ih_l0
        made = cls(
            module.input_size, module.hidden_size, module.num_layers, module.bias,
            module.batch_first, module.dropout, module.bidirectional, module.proj_size,
            weight.device, weight.dtype, **options,
        )  # fmt: skip
        made.load_state_dict(module.state_dict(), strict=False)
        return made.train(module.training)


class QKANLSTM(_Recurrent):
    """A `torch.nn.LSTM` with trainable gates and the same signature.

    Every layer and direction is a `QKANLSTMCell` with gates of its own, which begin as the
    classical ones, up to rounding. After `load_state_dict(lstm.state_dict(), strict=False)` or
    `from_torch` the outputs are those of a trained `torch.nn.LSTM`. The waves of the circuits
    depend on the parameters alone, so they are computed once for each sequence; on a CPU one
    compiled call computes all steps.

    On a CPU, an input with NaN raises an error that names the step. On other devices, where a check
    would have to wait for the values, and under `torch.compile`, NaN is passed on as in torch. NaN
    that comes from the parameters is always passed on.

    Args:
        input_size: Number i of inputs.
        hidden_size: Size h of the state.
        num_layers: Number l of layers, each of which takes the outputs of the one before.
        bias: Whether there are biases.
        batch_first: Whether inputs and outputs are (b, t, …) instead of (t, b, …); states are not.
        dropout: Probability that an output of any layer but the last is zeroed while training.
        bidirectional: Whether each layer reads the sequence in both directions, d = 2.
        proj_size: Must be 0; it is here for torch's signature.
        device: As in `torch.nn.LSTM`.
        dtype: As in `torch.nn.LSTM`.
        **options: Options of `QKANLSTMCell`: `gate`, `group`, `ansatz`, `reps`, `encoding`,
            `engine`, `generator`.

    Attributes:
        weight_ih_l0: (4h, i); weight_hh_l0, bias_ih_l0, bias_hh_l0 and the parameters of the other
            layers and directions have the names and shapes of torch.
        gates: The `DARUAN` or `QKANLayer` of each layer and direction, by the ends of these names,
            such as "l0" and "l0_reverse".

    Shapes:
        x (t, b, i) and (h, c), each (l·d, b, h), → out (t, b, d·h), (h, c); or all without b; or a
        `PackedSequence` → a `PackedSequence`. The states are zeros by default.

    Raises:
        QKANError: An option, an input or a state is wrong, or `proj_size` is not 0.

    Example:
        >>> import torch
        >>> from qkan import QKANLSTM
        >>> lstm = torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True)
        >>> ours, x = QKANLSTM.from_torch(lstm), torch.randn(11, 7, 3)
        >>> out, (h, c) = ours(x)
        >>> torch.allclose(out, lstm(x)[0], atol=1e-6)
        True
        >>> h.shape
        torch.Size([4, 7, 5])
    """

    _count = 2


class QKANGRU(_Recurrent):
    """A `torch.nn.GRU` with trainable gates and the same signature.

    Every layer and direction is a `QKANGRUCell`. Everything else is as in `QKANLSTM`, except that
    the state is h alone.

    Args:
        input_size: Number i of inputs.
        hidden_size: Size h of the state.
        num_layers: Number l of layers, each of which takes the outputs of the one before.
        bias: Whether there are biases.
        batch_first: Whether inputs and outputs are (b, t, …) instead of (t, b, …); states are not.
        dropout: Probability that an output of any layer but the last is zeroed while training.
        bidirectional: Whether each layer reads the sequence in both directions, d = 2.
        proj_size: Must be 0; `torch.nn.GRU` has none either.
        device: As in `torch.nn.GRU`.
        dtype: As in `torch.nn.GRU`.
        **options: Options of `QKANLSTMCell`.

    Attributes:
        weight_ih_l0: (3h, i); the others have the names and shapes of torch, too.
        gates: The `DARUAN` or `QKANLayer` of each layer and direction, by the ends of these names.

    Shapes:
        x (t, b, i) and h (l·d, b, h) → out (t, b, d·h), h; or all without b; or a
        `PackedSequence` → a `PackedSequence`. The state is zeros by default.

    Raises:
        QKANError: An option, an input or a state is wrong.

    Example:
        >>> import torch
        >>> from qkan import QKANGRU
        >>> out, h = QKANGRU(3, 5, batch_first=True)(torch.randn(7, 11, 3))
        >>> out.shape, h.shape
        (torch.Size([7, 11, 5]), torch.Size([1, 7, 5]))
    """

    _count = 1


def name_of_kind(cls: type) -> str:
    """Return "LSTM" or "GRU"."""
    return "LSTM" if issubclass(cls, QKANLSTM) else "GRU"


def _can_be_checked(out: Tensor) -> bool:
    """Whether a look at the numbers costs next to nothing."""
    return out.is_cpu and has_values(out) and not is_observed()


def _first_bad(values: Tensor, rows: _Rows) -> str | None:
    """The step and the sample of the first row that has NaN or infinity in it."""
    bad = (~values.isfinite()).any(-1).nonzero()
    if not bad.numel():
        return None
    row, step = int(bad[0]), 0
    while row >= rows.sizes[step]:
        row, step = row - rows.sizes[step], step + 1
    sample = row if rows.order is None else int(rows.order[row])
    return f"step {step} of sample {sample}"


def _some(values: Any) -> str:
    shown = ", ".join(map(str, values[:6]))
    return shown if len(values) <= 6 else f"{shown}, …"
