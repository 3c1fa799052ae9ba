"""`QKANLSTM`, `QKANGRU` and their cells: torch's own at the start, and what their gates learn."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from qkan import (
    DARUAN,
    QKANGRU,
    QKANLSTM,
    QKANError,
    QKANGRUCell,
    QKANLSTMCell,
    explain,
    fit,
    fold,
    load,
    param_groups,
    save,
)

DOUBLE = torch.float64
NETWORKS: dict[str, tuple[type, type]] = {"LSTM": (QKANLSTM, nn.LSTM), "GRU": (QKANGRU, nn.GRU)}
CELLS: dict[str, tuple[type, type]] = {
    "LSTM": (QKANLSTMCell, nn.LSTMCell), "GRU": (QKANGRUCell, nn.GRUCell),
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "no bias": {"bias": False},
    "batch first": {"batch_first": True},
    "three layers": {"num_layers": 3},
    "both ways": {"bidirectional": True, "num_layers": 2},
}
GATES: dict[str, dict[str, Any]] = {
    "default": {},
    "groups": {"group": 3, "reps": 2},
    "one a unit": {"group": "inputs", "encoding": "linear", "reps": 3},
    "arccos": {"ansatz": "px", "reps": 2},
    "qkan": {"gate": "qkan"},
    "qkan, shared": {"gate": "qkan", "group": "inputs", "reps": 2, "encoding": "binary"},
}


def inputs(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learnt(module: Any) -> Any:
    """The module with gates that have left their start."""
    draw = generator(5)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(("amplitude", "gates.weight")) or ".weight" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.4)
    return module


def pairs(found: Any, wanted: Any) -> list[tuple[Tensor, Tensor]]:
    """The tensors in two results of one form, side by side."""
    if isinstance(found, PackedSequence):
        found, wanted = found.data, wanted.data
    if isinstance(found, Tensor):
        return [(found, wanted)]
    assert len(found) == len(wanted)
    return [pair for a, b in zip(found, wanted, strict=True) for pair in pairs(a, b)]


def assert_same(found: Any, wanted: Any, atol: float = 1e-12) -> None:
    for a, b in pairs(found, wanted):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


def states(kind: str, *shape: int) -> Any:
    h, c = inputs(*shape, seed=2), inputs(*shape, seed=3)
    return (h, c) if kind == "LSTM" else h


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_begins_as_that_of_torch(kind: str, gate: str) -> None:
    ours, theirs = NETWORKS[kind]
    for options in OPTIONS.values():
        torch.manual_seed(0)
        reference = theirs(3, 5, dtype=DOUBLE, **options)
        torch.manual_seed(0)
        network = ours(3, 5, dtype=DOUBLE, **options, **GATES[gate])
        directions = reference.num_layers * (1 + reference.bidirectional)
        x, given = inputs(7, 4, 3), states(kind, directions, 7 if reference.batch_first else 4, 5)
        assert_same(network(x), reference(x))
        assert_same(network(x, given), reference(x, given))
        alone = states(kind, directions, 5)
        assert_same(network(x[:, 0], alone), reference(x[:, 0], alone))


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_begins_as_that_of_torch(kind: str, gate: str) -> None:
    ours, theirs = CELLS[kind]
    for bias in (True, False):
        torch.manual_seed(0)
        reference = theirs(3, 5, bias, dtype=DOUBLE)
        torch.manual_seed(0)
        cell = ours(3, 5, bias, dtype=DOUBLE, **GATES[gate])
        x, given = inputs(4, 3), states(kind, 4, 5)
        assert_same(cell(x), reference(x))
        assert_same(cell(x, given), reference(x, given))
        alone = states(kind, 5)
        assert_same(cell(x[0], alone), reference(x[0], alone))


def by_hand(kind: str, network: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    """One layer in torch's operators, its gates by calling the module: the truth."""
    out, weights = (
        [],
        [getattr(network, f"{n}_l0") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")],
    )
    w, u, a, b = weights
    gate, size = network.gates["l0"], h.shape[-1]

    def values(z: Tensor, now: Tensor) -> Tensor:
        if isinstance(gate, DARUAN):
            return gate(z)
        z = z + gate(torch.cat([now, h], -1))
        parts = [*z.split(size, -1)]
        return torch.cat([p.tanh() if n == 2 else p.sigmoid() for n, p in enumerate(parts)], -1)

    for now in x:
        first, second = now @ w.T + a, h @ u.T + b
        if kind == "LSTM":
            i, f, g, o = values(first + second, now).split(size, -1)
            c = f * c + i * g
            h = o * c.tanh()
        else:
            r, z, _ = values(first + second, now).split(size, -1)
            kept = torch.cat([second[:, : 2 * size], r * second[:, 2 * size :]], -1)
            n = values(first + kept, now)[:, 2 * size :]
            h = (1 - z) * n + z * h
        out.append(h)
    return torch.stack(out), h, c


def gradients(found: Any, module: nn.Module, *others: Tensor) -> list[Tensor]:
    total = sum((v * inputs(*v.shape, seed=7)).sum() for v, _ in pairs(found, found))
    return [*torch.autograd.grad(total, [*module.parameters(), *others])]  # type: ignore[list-item, arg-type]


@pytest.mark.parametrize("hidden", [5, 67])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("kind", NETWORKS)
def test_learnt_gates_are_what_they_are_said_to_be(kind: str, gate: str, hidden: int) -> None:
    network = learnt(
        NETWORKS[kind][0](3, hidden, dtype=DOUBLE, generator=generator(), **GATES[gate])
    )
    x, h, c = (
        inputs(4, 9, 3).requires_grad_(),
        inputs(9, hidden).requires_grad_(),
        inputs(9, hidden, seed=4).requires_grad_(),
    )
    given = (h[None], c[None]) if kind == "LSTM" else h[None]
    found = network(x, given)
    out, last, memory = by_hand(kind, network, x, h, c)
    wanted = (out, (last[None], memory[None])) if kind == "LSTM" else (out, last[None])
    assert_same(found, wanted, 1e-11)
    others = (x, h, c) if kind == "LSTM" else (x, h)
    assert_same(gradients(found, network, *others), gradients(wanted, network, *others), 1e-9)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_is_its_cell_step_by_step(kind: str) -> None:
    network = learnt(NETWORKS[kind][0](3, 5, dtype=DOUBLE, group=2, generator=generator()))
    cell = CELLS[kind][0](3, 5, dtype=DOUBLE, group=2)
    names = {
        n.replace("gates.l0", "gates").replace("_l0", ""): v
        for n, v in network.state_dict().items()
    }
    cell.load_state_dict(names)
    x, state = inputs(6, 4, 3), None
    out, last = network(x)
    for now, wanted in zip(x, out, strict=True):
        state = cell(now, state)
        torch.testing.assert_close(state[0] if kind == "LSTM" else state, wanted)
    assert_same(last, tuple(s[None] for s in state) if kind == "LSTM" else state[None])  # type: ignore[index, union-attr]
