"""`QKANLSTM`, `QKANGRU` and their cells: torch's own at the start, and what their gates learn."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from exact_backend import ExactBackend
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from qkan import (
    DARUAN,
    QKANGRU,
    QKANLSTM,
    QKANError,
    QKANGRUCell,
    QKANLSTMCell,
    estimate,
    explain,
    fit,
    fold,
    load,
    param_groups,
    plot,
    replace_activation,
    save,
    symbolic,
)
from qkan.circuits import RX, RZ, Circuit, Encoding, H, Theta

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
    "own circuit": {"ansatz": Circuit([H, RZ(Encoding(0)), RX(Theta(0)), RZ(Encoding(1)), H])},
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
    for options in OPTIONS.values() if gate == "default" else [OPTIONS["both ways"]]:
        torch.manual_seed(0)
        reference = theirs(3, 5, dtype=DOUBLE, **options)
        torch.manual_seed(0)
        network = ours(3, 5, dtype=DOUBLE, **options, **GATES[gate])
        directions = reference.num_layers * (1 + reference.bidirectional)
        x, given = inputs(3, 4, 3), states(kind, directions, 3 if reference.batch_first else 4, 5)
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


@pytest.mark.parametrize(("gate", "hidden"), [*((gate, 5) for gate in GATES), ("default", 67)])
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


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("is_sorted", [True, False])
def test_packed_sequences_are_the_sequences_one_by_one(kind: str, is_sorted: bool) -> None:
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "dtype": DOUBLE}
    network = learnt(NETWORKS[kind][0](3, 5, generator=generator(), **options))
    lengths = [6, 4, 4, 1] if is_sorted else [4, 1, 6, 4]
    x, given = inputs(6, 4, 3), states(kind, 4, 4, 5)
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=is_sorted)
    found, last = network(packed, given)
    out, _ = pad_packed_sequence(found)
    for n, length in enumerate(lengths):
        own = tuple(s[:, n] for s in given) if kind == "LSTM" else given[:, n]
        wanted, after = network(x[:length, n], own)
        assert_same(out[:length, n], wanted)
        assert_same(tuple(s[:, n] for s in last) if kind == "LSTM" else last[:, n], after)
    reference = NETWORKS[kind][1](3, 5, **options)
    ours = NETWORKS[kind][0].from_torch(reference)  # type: ignore[attr-defined]
    assert_same(ours(packed, given), reference(packed, given))


@pytest.mark.parametrize("kind", NETWORKS)
def test_float32_is_as_exact_as_torchs_operators(kind: str) -> None:
    exact = learnt(NETWORKS[kind][0](3, 32, dtype=DOUBLE, generator=generator()))
    x = inputs(20, 16, 3)
    with torch.no_grad():
        wanted, short = exact(x)[0], copy.deepcopy(exact).float()
        compiled = short(x.float())[0]
        # a module with a hook is called step by step
        short.gates["l0"].register_forward_pre_hook(lambda *_: None)
        plain = short(x.float())[0]
    errors = [(found.double() - wanted).abs().max() for found in (compiled, plain)]
    assert errors[0] <= 2 * errors[1] + 4 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("kind", NETWORKS)
def test_threads_change_no_bit(kind: str) -> None:
    network = learnt(NETWORKS[kind][0](3, 40, generator=generator()))
    x, before = inputs(9, 40, 3).float(), torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        out = network(x)[0]
        found.append([out, *torch.autograd.grad(out.square().sum(), [*network.gates.parameters()])])
    torch.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", NETWORKS)
def test_second_derivatives_and_transforms(kind: str) -> None:
    network = learnt(NETWORKS[kind][0](2, 3, dtype=DOUBLE, generator=generator()))
    x = inputs(3, 2, 2).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: network(x)[0], (x,))
    assert torch.autograd.gradcheck(lambda x: network(x)[0], (x,), check_forward_ad=True)
    many = inputs(5, 3, 2, 2)
    assert_same(
        torch.func.vmap(lambda x: network(x)[0])(many), torch.stack([network(x)[0] for x in many])
    )
    parameters = {name: value.detach() for name, value in network.named_parameters()}

    def loss(parameters: Any) -> Tensor:
        found: Tensor = torch.func.functional_call(network, parameters, (x.detach(),))[0]
        return found.square().sum()

    found = torch.func.grad(loss)(parameters)
    wanted = torch.autograd.grad(loss(dict(network.named_parameters())), [*network.parameters()])
    assert_same([*found.values()], [*wanted])


@pytest.mark.parametrize("kind", NETWORKS)
def test_other_dtypes_and_devices(kind: str) -> None:
    network, x = NETWORKS[kind][0](3, 5, generator=generator()), inputs(6, 4, 3).float()
    wanted = network(x)[0]
    half = copy.deepcopy(network).bfloat16()(x.bfloat16())[0]
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), wanted, rtol=0, atol=0.03)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = network(x)[0]
        cast.sum().backward()
    assert cast.dtype == torch.bfloat16
    torch.testing.assert_close(cast.float(), wanted, rtol=0, atol=0.03)
    meta = NETWORKS[kind][0](3, 5, device="meta")
    assert meta(x.to("meta"))[0].shape == wanted.shape
    assert network(x[:, :0])[0].shape == (6, 0, 5)
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    torch.testing.assert_close(network(strided)[0], wanted)


@pytest.mark.parametrize("kind", NETWORKS)
def test_it_is_traced_exported_and_checkpointed(kind: str) -> None:
    network, x = learnt(NETWORKS[kind][0](3, 5, generator=generator())), inputs(4, 6, 3).float()
    wanted = network(x)[0]
    with warnings.catch_warnings():
        # a trace is of one length, of which torch warns
        warnings.simplefilter("ignore")
        assert_same(torch.jit.trace(network, (x,))(x)[0], wanted, 1e-6)
    assert_same(torch.export.export(network, (x,)).module()(x)[0], wanted, 1e-6)
    found = torch.utils.checkpoint.checkpoint(lambda: network(x)[0], use_reentrant=False)
    parameters = [*network.parameters()]
    pair = [torch.autograd.grad(out.square().sum(), parameters) for out in (found, wanted)]
    assert_same(*pair)


def _again(network: Any, path: Path) -> Any:
    save(network, path)
    return load(path)


def _by_state(network: Any, _: Path) -> Any:
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    made = type(network).from_config(network.config())
    made.load_state_dict(torch.load(io.BytesIO(file.getvalue())))
    return made


COPIES = {
    "deepcopy": lambda network, _: copy.deepcopy(network),
    "pickle": lambda network, _: pickle.loads(pickle.dumps(network)),
    "file": _again,
    "state": _by_state,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("gate", ["groups", "qkan, shared"])
def test_copies_compute_the_same(how: str, gate: str, tmp_path: Path) -> None:
    x = inputs(6, 4, 3).float()
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    for made in (
        learnt(QKANLSTM(3, 5, **options, **GATES[gate])),
        learnt(QKANGRU(3, 5, bias=False, **GATES[gate])),
    ):
        assert_same(COPIES[how](made, tmp_path / "m.safetensors")(x), made(x), 0)
    for cell in (
        learnt(QKANLSTMCell(3, 5, **GATES[gate])),
        learnt(QKANGRUCell(3, 5, **GATES[gate])),
    ):
        assert_same(COPIES[how](cell, tmp_path / "c.safetensors")(x[0]), cell(x[0]), 0)


def test_a_checkpoint_of_torch_loads() -> None:
    lstm, x = nn.LSTM(3, 5, num_layers=2), inputs(6, 4, 3).float()
    ours = QKANLSTM(3, 5, num_layers=2)
    missing = ours.load_state_dict(lstm.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all(name.startswith("gates.") for name in missing.missing_keys)
    assert_same(ours(x), lstm(x), 1e-6)
    with pytest.raises(QKANError, match=r"torch\.nn\.LSTM, got a GRU"):
        QKANLSTM.from_torch(nn.GRU(3, 5))


def test_dropout_acts_between_layers_in_training_alone() -> None:
    network, x = QKANLSTM(3, 5, num_layers=2, dropout=0.5), inputs(6, 4, 3).float()
    assert not torch.equal(network(x)[0], network(x)[0])
    network.eval()
    assert torch.equal(network(x)[0], network(x)[0])


@pytest.mark.parametrize("gate", ["default", "qkan"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_every_parameter_learns(kind: str, gate: str) -> None:
    network = NETWORKS[kind][0](3, 5, generator=generator(), **GATES[gate])
    begun = {name: value.clone() for name, value in network.named_parameters()}
    groups = param_groups(network, lr=1e-2, angle_lr=5e-2)
    assert {group["lr"] for group in groups} == {1e-2, 5e-2}
    optimizer, x = torch.optim.AdamW(groups), inputs(6, 30, 3).float()
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = (network(x)[0] - x.cumsum(0).mean(-1, keepdim=True).sin()).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for name, value in network.named_parameters():
        moved = (value - begun[name]).abs()
        assert (moved > 1e-5).any(), name


class Forecast(nn.Module):
    """A network in a model, as it is used."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.memory = QKANLSTM(1, 4, batch_first=True, **options)
        self.out = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.memory(x)[0][:, -1])
        return found


def test_fit_explain_and_fold_take_it() -> None:
    model, x = Forecast(generator=generator()), inputs(40, 5, 1).float()
    history = fit(model, (x, x.sum(1).sin()), steps=4, progress=False)
    assert history.train_loss[-1] < history.train_loss[0]
    assert [*explain(model, x)] == ["memory.gates.l0"]
    folded = fold(model)
    torch.testing.assert_close(folded(x), model.eval()(x))
    with pytest.raises(QKANError, match="before it is folded"):
        folded.memory.config()
    model.add_module("last", nn.GELU())
    assert [*replace_activation(model)] == ["last"]
    with pytest.raises(QKANError, match="memory is a QKANLSTM, whose circuits depend"):
        estimate(model, x, ExactBackend())


def zeros(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(shape), torch.zeros(shape)


BAD: list[tuple[Any, str]] = [
    (lambda n, x: n(x[0, 0]), r"shape \(3,\); pass \(t, b, 3\)"),
    (lambda n, x: n(x[:0]), "length 0"),
    (lambda n, x: n(x[..., :2]), "input_size=3"),
    (lambda n, x: n(x.double()), "float64"),
    (lambda n, x: n(x.long()), "real floats"),
    (lambda n, x: n([1.0]), "list"),
    (lambda n, x: n(x, torch.zeros(1, 4, 5)), "a pair of tensors"),
    (lambda n, x: n(x, (torch.zeros(1, 4, 5),)), "a tuple of 1"),
    (lambda n, x: n(x, zeros(1, 3, 5)), r"state h has shape \(1, 3, 5\).*\(1, 4, 5\)"),
    (lambda n, x: n(x, (torch.zeros(1, 4, 5), torch.zeros(1, 4, 6))), "state c has shape"),
    (lambda n, x: n(x[:, 0], zeros(1, 1, 5)), r"\(1, 5\)"),
    (lambda n, x: n(x, tuple(z.double() for z in zeros(1, 4, 5))), "state h is torch.float64"),
    (lambda n, x: n(PackedSequence(x[0], torch.tensor([1, 3]))), "must not grow"),
    (lambda n, x: n(x, tuple(z + torch.nan for z in zeros(1, 4, 5))), "given state h"),
    (lambda n, x: n(x, tuple(z.to("meta") for z in zeros(1, 4, 5))), "state h is on meta"),
    (lambda n, x: plot(n, x), r"the DARUAN inside it, model.get_submodule\('gates.l0'\)"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_input_is_named(number: int) -> None:
    call, said = BAD[number]
    with pytest.raises(QKANError, match=said):
        call(QKANLSTM(3, 5), inputs(6, 4, 3).float())


@pytest.mark.parametrize(("options", "error", "said"), [
    ({"proj_size": 2}, QKANError, "proj_size=2"),
    ({"gate": "quan"}, QKANError, "Did you mean 'qkan'"),
    ({"group": 9}, QKANError, "group=9"),
    ({"gruop": 1}, TypeError, "Did you mean 'group'"),
    ({"batchfirst": True}, TypeError, "Did you mean 'batch_first'"),
    ({"group": 9}, QKANError, "hidden_size=5"),
    ({"num_layers": 0}, ValueError, "num_layers"),
    ({"hidden_size": 0}, ValueError, "hidden_size"),
    ({"dropout": 2.0}, ValueError, "dropout"),
    ({"dtype": torch.int64}, QKANError, "real float"),
    ({"engine": "nmba"}, QKANError, "numba"),
])  # fmt: skip
def test_bad_options_are_named(options: Any, error: Any, said: str) -> None:
    for network in (QKANLSTM, QKANGRU):
        with pytest.raises(error, match=said):
            network(**{"input_size": 3, "hidden_size": 5, **options})


def test_options_beside_a_module_of_torch_are_those_of_gates() -> None:
    with pytest.raises(TypeError, match=r"'bidirectional'\. Known: ansatz, encoding"):
        QKANLSTM.from_torch(nn.LSTM(3, 5), bidirectional=True)


@pytest.mark.parametrize("size", [0, 4.0])
def test_the_state_of_a_cell_has_a_size(size: Any) -> None:
    with pytest.raises(QKANError, match="hidden_size="):
        QKANLSTMCell(3, size)


@pytest.mark.parametrize("kind", NETWORKS)
def test_folded_layers_in_gates_compute_what_they_did(kind: str) -> None:
    options: Any = {"gate": "qkan", "encoding": "linear", "dtype": DOUBLE}
    network = learnt(NETWORKS[kind][0](3, 5, bidirectional=True, **options))
    assert_same(fold(network)(inputs(6, 4, 3)), network(inputs(6, 4, 3)))
    cell = learnt(CELLS[kind][0](3, 5, **options))
    assert_same(fold(cell)(inputs(4, 3)), cell(inputs(4, 3)))


@pytest.mark.parametrize("kind", NETWORKS)
def test_gates_have_formulas(kind: str) -> None:
    gate = learnt(NETWORKS[kind][0](3, 4, group=2)).gates["l0"]
    formula = symbolic(gate, inputs(9, gate.features))
    assert formula.error < 1e-9
    grid = np.linspace(-2, 2, 7)[:, None]
    wanted = gate.double()(torch.from_numpy(grid).expand(-1, gate.features))
    each = gate.features // gate.group
    np.testing.assert_allclose(formula(grid), wanted[:, ::each].detach().numpy(), atol=1e-9)


def test_a_number_that_is_none_is_found_where_it_entered() -> None:
    network, x = QKANGRU(3, 5, bidirectional=True, batch_first=True), inputs(4, 6, 3).float()
    x[2, 3, 1] = torch.nan
    with pytest.raises(QKANError, match="step 3 of sample 2"):
        network(x)
    packed = pack_padded_sequence(
        x, torch.tensor([2, 6, 4, 1]), batch_first=True, enforce_sorted=False
    )
    with pytest.raises(QKANError, match="step 3 of sample 2"):
        network(packed)
    # what is only padding does no harm
    network(
        pack_padded_sequence(x, torch.tensor([6, 6, 3, 1]), batch_first=True, enforce_sorted=False)
    )
    x[2, 3, 1] = torch.inf
    with pytest.raises(QKANError, match="infinite number in step 3"):
        network(x)
    with torch.no_grad():
        network.weight_hh_l0[0, 0] = torch.nan
    # parameters that diverged are for the training to see
    assert network(inputs(4, 6, 3).float())[0].isnan().any()
    assert QKANGRUCell(3, 5)(x[2, 3]).isnan().any()


def test_cells_name_bad_input() -> None:
    cell, x = QKANLSTMCell(3, 5), inputs(4, 3).float()
    for call, said in (
        (lambda: cell(x[None]), "For a sequence use QKANLSTM"),
        (lambda: cell(x, torch.zeros(4, 5)), "a pair"),
        (lambda: cell(x, (torch.zeros(5), torch.zeros(5))), r"shape \(4, 5\)"),
        (lambda: QKANGRUCell(3, 5)(x, (torch.zeros(4, 5),)), "one tensor"),
    ):
        with pytest.raises(QKANError, match=said):
            call()


def test_it_compiles_as_one_graph() -> None:
    network = learnt(QKANLSTM(3, 5, generator=generator()))
    x, wanted = inputs(40, 4, 3).float().requires_grad_(), None
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    found = [
        (call(x)[0], torch.autograd.grad(call(x)[0].sum(), [x, *network.parameters()]))
        for call in (compiled, network)
    ]
    assert wanted is None
    assert_same(found[0], found[1], 1e-5)
