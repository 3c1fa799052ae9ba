"""The Fisher information against closed forms and differences; ranks that can be derived."""

from __future__ import annotations

import math

import pytest
import torch
from cases import CIRCUITS, unmoved
from compare import assert_close
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from qkan import (
    QKAN,
    QKANError,
    QKANLayer,
    effective_parameters,
    fisher_information,
    redundancy,
)
from qkan.circuits import RX, Circuit, Encoding, ansatz

ENCODINGS = ("trainable", "linear", "binary", "ternary")
# φ's rank, from r repetitions: with fixed scales, and with trainable ones
RANKS = {
    # 2r+1 real numbers fill the harmonics 0…r and no more of the exponential encodings' spectrum
    "pz": (lambda r: 2 * r + 1, lambda r: 3 * r + 1),
    "rpz": (lambda r: 2 * r + 1, lambda r: 3 * r + 1),
    "mix": (lambda r: 2 * r + 1, lambda r: 3 * r + 1),
    # one sinusoid: a phase, and with trainable scales a frequency
    "real": (lambda r: 1, lambda r: 2),
    # the closing RZ does nothing to Z
    "px": (lambda r: 2 * r, lambda r: 3 * r),
}
# how much less than effective_parameters that is: gauges of the circuit, which no merge shows
BELOW = {
    "pz": lambda r, fixed: 1,
    "rpz": lambda r, fixed: 0,
    "mix": lambda r, fixed: r + 1,
    "real": lambda r, fixed: 2 * r - 1 if fixed else 3 * r - 2,
    "px": lambda r, fixed: 1,
}


def edge(name: str, reps: int, encoding: str) -> QKANLayer:
    """A layer that is one activation, whose weight does not train."""
    layer = QKANLayer(1, 1, ansatz=name, reps=reps, encoding=encoding, base=None, bias=False)
    layer.weight.requires_grad_(False)
    return layer


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("reps", [1, 3])
@pytest.mark.parametrize("name", RANKS)
def test_the_rank_of_every_ansatz(name: str, reps: int, encoding: str) -> None:
    found = redundancy(ansatz(name, reps), encoding=encoding)
    trainable = encoding == "trainable"
    layer = edge(name, reps, encoding)
    assert found.rank == RANKS[name][trainable](reps)
    assert found.parameters == sum(p.numel() for p in layer.parameters() if p.requires_grad)
    assert effective_parameters(layer) - found.rank == BELOW[name](reps, not trainable)
    # a clear gap, so that the tolerance decides nothing
    values = found.eigenvalues.sqrt() / found.eigenvalues[0].sqrt()
    assert values[found.rank - 1] > 1e-5
    assert (values[found.rank :] < 1e-14).all()
    assert sum(len(names) - enough for names, enough in found.groups.items()) == found.redundant


def test_one_cosine_in_closed_form() -> None:
    # φ = cos(scale·x + shift) at scale 1, shift 0
    x = torch.linspace(-3, 3, 41, dtype=torch.float64)
    found = fisher_information(Circuit([RX(Encoding(0))]), x)
    square = x.sin().square()
    wanted = torch.stack([x * x * square, x * square, x * square, square]).mean(1).reshape(2, 2)
    assert_close(found, wanted, "F of a cosine", 1e-14)


def differences(model: nn.Module, x: Tensor, step: float = 1e-5) -> Tensor:
    """The Fisher information by central differences of every trainable parameter."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    start = parameters_to_vector(trainable).detach().clone()
    columns = []
    with torch.no_grad():
        for k in range(len(start)):
            ends = []
            for sign in (1, -1):
                moved = start.clone()
                moved[k] += sign * step
                vector_to_parameters(moved, trainable)
                ends.append(model(x).flatten())
            columns.append((ends[0] - ends[1]) / (2 * step))
        vector_to_parameters(start, trainable)
    jacobian = torch.stack(columns, 1)
    return jacobian.T @ jacobian / len(x)


@pytest.mark.parametrize("case", ["own", "mixed", "bare", "pz-X"])
def test_a_network_against_differences(case: str) -> None:
    torch.manual_seed(0)
    circuit = CIRCUITS[case]
    model = QKAN([2, 2, 3], ansatz=circuit, reps=circuit.num_encodings, dtype=torch.float64)
    model.layers[0].bias.requires_grad_(False)
    x = torch.randn(11, 2, dtype=torch.float64) * 0.4
    # an arccos is steep: differences are no better than this
    assert_close(fisher_information(model, x), differences(model, x), case, 1e-7)


def test_a_module_keeps_its_parameters_dtype_and_mode() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.Linear(3, 1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(9, 2)
    found = fisher_information(model, x)
    assert torch.equal(found, fisher_information(model, x))
    assert found.dtype == torch.float64
    redundancy(model, x)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_a_linear_network_has_the_rank_of_its_product() -> None:
    # W2 W1 and one offset: 2 inputs and a bias, whatever lies between
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    found = redundancy(model, torch.randn(20, 2))
    assert (found.parameters, found.rank) == (13, 3)
    assert found.names[:3] == ("0.weight[0,0]", "0.weight[0,1]", "0.weight[1,0]")
    assert redundancy(model, torch.randn(2, 2)).rank == 2


def test_the_tokens_of_an_embedding_that_never_occur_have_no_effect() -> None:
    found = redundancy(nn.Embedding(3, 1), torch.tensor([0, 2, 2]))
    assert found.groups == {("weight[1,0]",): 0}


def test_a_network_of_circuits_names_the_parameters_of_each_edge() -> None:
    torch.manual_seed(0)
    found = redundancy(QKAN([2, 3, 1], reps=2), torch.rand(300, 2) * 4 - 2)
    assert found.redundant == 9 * 3
    assert found.groups["layers.1.theta[0,2,4]", "layers.1.shift[0,2,1]"] == 1
    assert len(found.groups) == 9 * 2


def test_what_it_says() -> None:
    assert str(redundancy(ansatz("pz", 1))).splitlines() == [
        "6 parameters, rank 4: 2 redundant",
        "  theta[0], theta[1], theta[2], shift[0]: 2 of 4 are enough",
    ]
    assert str(redundancy(ansatz("px", 1), encoding="linear")).splitlines() == [
        "3 parameters, rank 2: 1 redundant",
        "  theta[1]: no effect",
    ]
    assert str(redundancy(ansatz("rpz", 1))) == "4 parameters, rank 4: 0 redundant"
    nothing = redundancy(unmoved())
    assert nothing.rank == 0
    assert set(nothing.groups.values()) == {0}
    wide = redundancy(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)), torch.randn(30, 4))
    assert "0.weight[1,3] and 11 more: 5 of 19 are enough" in str(wide)


def test_a_seed_decides_the_draws() -> None:
    one, same, other = (
        redundancy(ansatz("pz", 2), generator=torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    )
    assert torch.equal(one.eigenvalues, same.eigenvalues)
    assert not torch.equal(one.eigenvalues, other.eigenvalues)
    assert one.rank == other.rank


def test_the_inputs_of_a_circuit() -> None:
    circuit = ansatz("pz", 1)
    x = torch.linspace(-1, 1, 9)
    start = [torch.Generator().manual_seed(0) for _ in range(2)]
    flat, column = (
        fisher_information(circuit, x.reshape(shape), generator=g)
        for shape, g in zip([(9,), (9, 1)], start, strict=True)
    )
    assert torch.equal(flat, column)
    # two points fix two numbers at most
    assert redundancy(circuit, torch.tensor([0.3, 1.1])).rank == 2


FROZEN = nn.Linear(1, 1).requires_grad_(False)
BROKEN = nn.Linear(1, 1)
nn.init.constant_(BROKEN.weight, math.nan)
WRONG = {
    "module without x": (lambda: fisher_information(nn.Linear(1, 1)), "pass x"),
    "encoding of a module": (
        lambda: redundancy(nn.Linear(1, 1), torch.ones(2, 1), encoding="linear"),
        "has its own",
    ),
    "nothing trains": (lambda: redundancy(FROZEN, torch.ones(2, 1)), "nothing to count"),
    "not finite": (
        lambda: redundancy(nn.Sequential(BROKEN, nn.Linear(1, 1)), torch.ones(2, 1)),
        "not finite",
    ),
    "no draw": (lambda: redundancy(ansatz("pz"), draws=0), "draws=0"),
    "two inputs": (lambda: redundancy(ansatz("pz"), torch.ones(3, 2)), r"\(3, 2\)"),
    "no input": (lambda: redundancy(ansatz("pz"), torch.ones(0)), r"\(0,\)"),
    "unknown encoding": (lambda: redundancy(ansatz("pz"), encoding="quaternary"), "quaternary"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_right_is_said(case: str) -> None:
    call, message = WRONG[case]
    with pytest.raises(QKANError, match=message):
        call()
