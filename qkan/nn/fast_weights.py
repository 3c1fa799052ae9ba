"""`FastWeightQKAN`: a slow network changes the angles of a fast layer at every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from qkan._options import as_number, check_choice, check_optional_size, check_size
from qkan.errors import QKANError
from qkan.simulators.autocast import without_autocast

from .accumulation import in_chunks, last_weights, step_weights
from .fast_layer import FastLayer, check_programs
from .functional import check_features, compute_dtype
from .hqkan import HQKAN
from .layer import LayerOptions, reject_unknown

SLOW = ("linear", "qkan")
START = 0.5
"""The size of changes at the start, in radians, for features of size 1."""
MEMORY = 8.0
"""The number of steps that a gate remembers at the start."""
SHORTEST = 16
"""Sequences up to this length are one chunk unless `chunk` is given."""


class FastWeightQKAN(nn.Module):
    """A recurrent layer whose memory is the angles of a `QKANLayer`: a fast-weight programmer.

    The slow network reads the input of a step and computes a change of the fast layer's angles; a
    gate says how much of the earlier changes is kept. Every sample and step has its own angles:

        z_t = slow(x_t)                                features, h of them
        g_t = sigmoid(gate(z_t))                       one number
        Δ_t = (1 − g_t)·head(z_t) + g_t·Δ_{t−1}        of the size of theta, Δ_0 = 0
        y_t = fast(x_t), with theta + Δ_t in the place of theta

    which is θ_t = (1 − g_t)·δ_t + g_t·θ_{t−1} for δ_t = theta + head(z_t) and θ_0 = theta (gated
    fast weights, arXiv 2605.06734). There is no other hidden state: neither the gate nor the slow
    network reads Δ_{t−1} or an output. The recursion over pairs (g, (1 − g)·δ) is therefore
    associative, and the steps of a chunk are computed at once. Only the changes at the ends of
    chunks are kept for the backward pass, which computes the others again: memory grows with batch
    · chunk · edges. With `final=True` the last changes are computed as a weighted sum over all
    steps, with only one set of angles for each sample.

    Args:
        in_features: Number i of inputs of each step, for the slow network and the fast layer.
        out_features: Number o of outputs of each step.
        hidden: Number h of features that the slow network computes.
        slow: "linear" for `torch.nn.Linear`, "qkan" for an `HQKAN` with a `QKAN` of h nodes inside
            and the same layer options; or a module of your own from (…, i) to (…, h), which is
            called with the whole sequences (b, t, i) and keeps its values.
        programs: Which parameters are changed: names among "theta", "scale", "shift" and "weight".
        rank: None for a linear head, h → o·i·n numbers. With a number, the changes are sums of that
            many products of a factor for each output and parameter and a factor for each input, so
            that the head has h·rank·(o·n + i) parameters instead of h·o·i·n.
        gate: "scalar" for a gate that depends on the features; or a number from 0 to below 1, the
            share of the changes that every step keeps.
        memory: The number of steps that a trained gate remembers at the start: it begins as
            1 − 1/memory, but at least as 0.01.
        final: Whether to return the output of the last step only.
        batch_first: Whether sequences are (b, t, i) instead of (t, b, i), as in `torch.nn.LSTM`.
        chunk: Number of steps that are computed at once; √t when None, but at least 16. The length
            of the sequence is fastest where memory allows.
        **options: Options of every `QKANLayer` except `group`, by name.

    Attributes:
        slow: The slow network.
        gate: Linear, h → 1; None for a constant gate.
        head: Linear, h → the changes, without a bias, since theta plays that part.
        fast: The fast layer, with its parameters before any change.

    Shapes:
        x (t, b, i), or (b, t, i) with `batch_first`, or (t, i) → outputs (t, b, o), (b, t, o) or
        (t, o), with `final` without t; and the changes Δ after the last step, (b, o, i, n) or (o,
        i, n), where n counts the parameters of an edge that are changed.

    Raises:
        QKANError: A size or an option is wrong, or an input or a state does not fit.

    Example:
        >>> import torch
        >>> from qkan import FastWeightQKAN
        >>> layer = FastWeightQKAN(3, 2, batch_first=True)
        >>> x = torch.randn(5, 40, 3)
        >>> out, state = layer(x)
        >>> out.shape, state.shape, layer.programmed(state)["theta"].shape
        (torch.Size([5, 40, 2]), torch.Size([5, 2, 3, 8]), torch.Size([5, 2, 3, 8]))
        >>> first, state = layer(x[:, :25])  # the same in two parts
        >>> rest, state = layer(x[:, 25:], state)
        >>> torch.allclose(torch.cat([first, rest], 1), out, atol=1e-5)
        True
    """

    gate: nn.Linear | None
    _own_slow = False

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        hidden: int = 16,
        slow: str | nn.Module = "linear",
        programs: str | Sequence[str] = ("theta",),
        rank: int | None = None,
        gate: str | float = "scalar",
        memory: float = MEMORY,
        final: bool = False,
        batch_first: bool = False,
        chunk: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        reject_unknown(options, FastWeightQKAN)
        if options.get("group") is not None:
            raise QKANError("group: here every edge has its own changes; leave group out.")
        if not isinstance(slow, nn.Module):
            check_choice("slow", slow, SLOW, "Or a module from (…, in_features) to (…, hidden).")
        self.in_features = check_size("in_features", in_features)
        self.out_features = check_size("out_features", out_features)
        self.hidden = check_size("hidden", hidden)
        self.rank, self.chunk = (
            check_optional_size("rank", rank),
            check_optional_size("chunk", chunk),
        )
        self.kept, self.memory = _check_gate(gate), _check_memory(memory)
        if self.kept is not None and self.memory != MEMORY:
            raise QKANError(
                f"memory={memory!r} says how a gate begins that learns, and gate={gate!r} never "
                "changes; leave one of them out."
            )
        self.final, self.batch_first = final, batch_first
        linear: dict[str, Any] = {name: options.get(name) for name in ("device", "dtype")}
        self._own_slow = isinstance(slow, nn.Module)
        if slow == "qkan":
            slow = HQKAN(in_features, hidden, latent=hidden, **options)
        elif isinstance(slow, str):
            slow = nn.Linear(in_features, hidden, **linear)
        fast = FastLayer(in_features, out_features, **options)
        fast.programs = check_programs(programs, fast)
        self._assemble(slow, fast, linear)
        self._begin(options.get("generator"))

    def _assemble(self, slow: nn.Module, fast: FastLayer, factory: dict[str, Any]) -> None:
        o, i, n = self.out_features, self.in_features, sum(fast.sizes)
        numbers = o * i * n if self.rank is None else self.rank * (o * n + i)
        self.slow, self.fast = slow, fast
        self.gate = nn.Linear(self.hidden, 1, **factory) if self.kept is None else None
        self.head = nn.Linear(self.hidden, numbers, bias=False, **factory)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new values, as the class describes; a slow network of your own stays as it is."""
        self.fast.reset_parameters(generator)
        if isinstance(self.slow, HQKAN) and not self._own_slow:
            self.slow.reset_parameters(generator)
        self._begin(generator)

    @torch.no_grad()
    def _begin(self, generator: torch.Generator | None) -> None:
        """Draw linear maps whose features have size 1 for inputs of size 1."""
        last = self.slow.up if isinstance(self.slow, HQKAN) else self.slow
        if type(last) is nn.Linear and not self._own_slow:
            last.weight.normal_(std=1 / math.sqrt(last.in_features), generator=generator)
            if last.bias is not None:
                last.bias.zero_()
        if self.gate is not None:
            self.gate.weight.zero_()
            # a gate that keeps nothing at all has no gradient
            self.gate.bias.fill_(math.log(max(self.memory - 1, 1e-2)))
        self.head.weight.normal_(generator=generator)
        size = START / math.sqrt(self.hidden)
        if self.rank is None:
            values = self.head.weight.view(self.out_features, self.in_features, -1, self.hidden)
            places = values.split(self.fast.sizes, 2)
        else:
            split = self.rank * self.out_features * sum(self.fast.sizes)
            left, right = self.head.weight.split([split, len(self.head.weight) - split])
            right.mul_(math.sqrt(1 / self.hidden))
            size = START / math.sqrt(self.hidden * self.rank)
            sizes = self.fast.sizes
            places = left.view(self.out_features, sum(sizes), -1).split(sizes, 1)
        for name, place in zip(self.fast.programs, places, strict=True):
            known = getattr(self.fast, name)
            unit = known.square().mean().sqrt() if name in ("scale", "weight") else 1.0
            place.mul_(size * unit)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the outputs of a sequence.

        A value that is not finite only affects its own sample, in its own step and later ones.

        Args:
            x: (t, b, i), or (b, t, i) with `batch_first`, or (t, i).
            state: The changes that an earlier call has returned, to continue from; zeros when None.

        Returns:
            The outputs of all steps, or of the last one with `final`, and the changes after the
            last step.
        """
        sequence, before = self._arranged(x, state)
        hidden = self.slow(sequence)
        wanted = (*sequence.shape[:2], self.hidden)
        if not isinstance(hidden, Tensor) or hidden.shape != wanted:
            found = tuple(hidden.shape) if isinstance(hidden, Tensor) else type(hidden).__name__
            raise QKANError(
                f"slow: the module returned {found} for an input {tuple(sequence.shape)}; "
                f"wanted (…, hidden), which is {wanted}."
            )
        with without_autocast(hidden):
            parts = self._gates(hidden)
        chunk = self._chunk_length(sequence.shape[1])
        if self.final:
            _, after = in_chunks(self._last, parts, before, chunk)
            out = self.fast(sequence[:, -1], after)
        else:
            outs, after = in_chunks(self._chunk, (*parts, sequence), before, chunk)
            out = torch.cat(outs, 1)
        if x.ndim == 2:
            return out[0], after[0]
        return (out if self.batch_first or self.final else out.transpose(0, 1)), after

    def _arranged(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """The sequences as (b, t, i) and the changes before them (b, o, i, n), both checked."""
        check_features(x, self.in_features, self.head.weight.dtype)
        if x.ndim not in (2, 3):
            shape = "(b, t, i)" if self.batch_first else "(t, b, i)"
            raise QKANError(f"The input has shape {tuple(x.shape)}; pass {shape}, or (t, i).")
        sequence = x[None] if x.ndim == 2 else x if self.batch_first else x.transpose(0, 1)
        if not sequence.shape[1]:
            raise QKANError(
                f"The input {tuple(x.shape)} has no step; pass a sequence of 1 or more."
            )
        edge = (self.out_features, self.in_features, sum(self.fast.sizes))
        if state is None:
            return sequence, self.head.weight.new_zeros(sequence.shape[0], *edge)
        wanted = edge if x.ndim == 2 else (sequence.shape[0], *edge)
        if not isinstance(state, Tensor) or state.shape != wanted:
            found = tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
            raise QKANError(f"state is {found}; wanted a tensor {wanted}, as a call returns it.")
        if state.device != x.device:
            raise QKANError(
                f"state is on {state.device} and the input on {x.device}; use "
                f"state.to({str(x.device)!r})."
            )
        if state.dtype != self.head.weight.dtype:
            raise QKANError(
                f"state is {state.dtype} and the parameters are {self.head.weight.dtype}; "
                f"use state.to({self.head.weight.dtype})."
            )
        return sequence, state[None] if x.ndim == 2 else state

    def _gates(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The features, made finite, and the logarithms of g and of 1 − g, (b, t)."""
        hidden = hidden.to(self.head.weight.dtype)
        wide = compute_dtype(hidden.dtype, "z")
        if self.gate is None:
            kept = torch.tensor(cast(float, self.kept), dtype=torch.float64).logit().item()
            logits = hidden.new_full(hidden.shape[:2], kept, dtype=wide)
        else:
            logits = self.gate(hidden).squeeze(-1).to(wide)
        # 0·NaN is NaN, so features that are not finite would reach earlier steps through weights of
        # 0; through the gate they reach only their own step and later ones
        logits = logits + (hidden * 0).sum(-1)
        hidden = hidden.nan_to_num(0.0, 0.0, 0.0).to(wide)
        return hidden, F.logsigmoid(logits), F.logsigmoid(-logits)

    def _emitted(self, hidden: Tensor) -> Tensor:
        """The head's changes (…, o, i, n) for features (…, h)."""
        if self.rank is None:
            edge = (self.out_features, self.in_features, -1)
            changes: Tensor = self.head(hidden.to(self.head.weight.dtype)).unflatten(-1, edge)
            return changes
        return torch.einsum("...onr,...ir->...oin", *self._factors(hidden))

    def _factors(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The factors (…, o, n, r) and (…, i, r) of the head's changes, where it has a rank."""
        rank = cast(int, self.rank)
        split = rank * self.out_features * sum(self.fast.sizes)
        left, right = self.head(hidden.to(self.head.weight.dtype)).tensor_split([split], -1)
        return (
            left.unflatten(-1, (self.out_features, -1, rank)),
            right.unflatten(-1, (self.in_features, rank)),
        )

    def _chunk_length(self, steps: int) -> int:
        """Return how many of these steps are computed at once."""
        if self.final and self.rank is None:
            # of all steps only the mean of the features is needed
            return steps
        return self.chunk or max(SHORTEST, math.ceil(math.sqrt(steps)))

    def _last(
        self, hidden: Tensor, kept: Tensor, written: Tensor, before: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The changes after a chunk, (b, o, i, n), a weighted sum over its steps, twice."""
        with without_autocast(hidden):
            weights = last_weights(kept, written)
            if self.rank is None:
                # the head is linear, so it is enough to apply it to the mean of the features
                changes = self._emitted((weights.unsqueeze(1) @ hidden).squeeze(1))
            else:
                left, right = self._factors(hidden)
                left = left * weights.to(left.dtype)[..., None, None, None]
                changes = torch.einsum("btonr,btir->boin", left, right)
            decay = kept.sum(1).exp().to(before.dtype)
            changes = changes + decay[:, None, None, None] * before
        return changes, changes

    def _chunk(
        self, hidden: Tensor, kept: Tensor, written: Tensor, x: Tensor, before: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The outputs of a chunk of steps, (b, c, o), and the changes after its last step."""
        with without_autocast(hidden):
            weights = step_weights(kept, written)
            if self.rank is None:
                changes = self._emitted(weights @ hidden)
            else:
                each = self._emitted(hidden)
                changes = (weights.to(each.dtype) @ each.flatten(2)).unflatten(2, each.shape[2:])
            decay = kept.cumsum(1).exp().to(before.dtype)
            changes = changes + decay[..., None, None, None] * before.unsqueeze(1)
        out = self.fast(x.flatten(0, 1), changes.flatten(0, 1)).unflatten(0, x.shape[:2])
        # a view of the last step would keep the changes of all steps alive
        return out, changes[:, -1].clone()

    def programmed(self, state: Tensor) -> dict[str, Tensor]:
        """Return the fast layer's parameters plus the changes (…, o, i, n), by name.

        Raises:
            QKANError: The changes have another shape.
        """
        edge = (self.out_features, self.in_features, sum(self.fast.sizes))
        if not isinstance(state, Tensor) or state.shape[-3:] != edge:
            found = tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
            raise QKANError(f"programmed: the state is {found}; wanted (…, {str(edge)[1:]}.")
        return self.fast.changed(state)

    def duplicate_parameters(self) -> int:
        """Count the head's parameters for shifts that those for a theta duplicate."""
        if not {"theta", "shift"} <= {*self.fast.programs}:
            return 0
        merged = len(self.fast.program.merged_shifts) * self.hidden * self.out_features
        return merged * (self.in_features if self.rank is None else self.rank)

    def config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build this module again, as JSON values.

        Raises:
            QKANError: The slow network is a module of your own.
        """
        slow = self.slow
        linear = type(slow) is nn.Linear and slow.bias is not None
        if not linear and type(slow) is not HQKAN:
            raise QKANError(
                f"The slow network is a {type(slow).__name__} of your own, which a file "
                "cannot describe; save the state_dict, and build the model again to load it."
            )
        names = ("in_features", "out_features", "hidden", "rank", "memory", "final", "batch_first")
        return {
            **{name: getattr(self, name) for name in (*names, "chunk")},
            "gate": "scalar" if self.kept is None else self.kept,
            "programs": [*self.fast.programs],
            "slow": slow.config() if isinstance(slow, HQKAN) else None,
            "fast": self.fast.config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], **factory: Any) -> FastWeightQKAN:
        """Build the module that `config` described; `factory` is device and dtype."""
        apart = ("slow", "fast") if config["gate"] == "scalar" else ("slow", "fast", "memory")
        sizes = {name: value for name, value in config.items() if name not in apart}
        module = cls(**sizes, device="meta")
        fast = FastLayer.from_config(config["fast"], **factory)
        assert isinstance(fast, FastLayer)
        fast.programs = check_programs(config["programs"], fast)
        slow = config["slow"]
        if slow is None:
            made: nn.Module = nn.Linear(module.in_features, module.hidden, **factory)
        else:
            made = HQKAN.from_config(slow, **factory)
        module._assemble(made, fast, factory)
        module._begin(None)
        return module

    def extra_repr(self) -> str:
        """The sizes, and the options that differ from the default."""
        parts = [f"{self.in_features}, {self.out_features}, hidden={self.hidden}"]
        plain = {"rank": None, "kept": None, "memory": MEMORY, "final": False, "batch_first": False,
                 "chunk": None}  # fmt: skip
        for name, default in plain.items():
            if getattr(self, name) != default:
                shown = "gate" if name == "kept" else name
                parts.append(f"{shown}={getattr(self, name)}")
        if self.fast.programs != ("theta",):
            parts.append(f"programs={self.fast.programs}")
        return ", ".join(parts)


def _check_gate(gate: str | float) -> float | None:
    """Return a constant gate as a number, and None for one that depends on the features."""
    if isinstance(gate, str):
        check_choice("gate", gate, ["scalar"], "Or a number below 1.")
        return None
    kept = as_number(gate)
    if not 0 <= kept < 1:
        raise QKANError(f"gate={gate!r}; wanted 'scalar', or a number of 0 or more and below 1.")
    return kept


def _check_memory(memory: float) -> float:
    steps = as_number(memory)
    if not steps >= 1:
        raise QKANError(f"memory={memory!r}; wanted a number of steps, 1 or more.")
    if math.isinf(steps):
        raise QKANError("memory=inf: such a gate cannot learn; pass a finite number of steps.")
    return steps
