"""Functions on the edges: each family, the gate over them, and what hardening keeps."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path

import pytest
import torch
from compare import assert_close
from scipy.interpolate import BSpline
from torch import Tensor

import qkan
from qkan import (
    KAN,
    QKAN,
    DaruanBasis,
    Fourier,
    KANLayer,
    QKANError,
    QKANLayer,
    Rational,
    Spline,
    effective_parameters,
    fit,
    load,
    save,
)
from qkan.nn.basis import Basis, from_json, to_json

DOUBLE = torch.float64
BASES: dict[str, Basis] = {
    "daruan": DaruanBasis(),
    "daruan linear": DaruanBasis("rpz", 2, "linear"),
    "daruan merged": DaruanBasis("pz", 2, "binary"),
    "spline": Spline(),
    "spline linear": Spline(3, 1, -1.0, 2.5),
    "fourier": Fourier(3),
    "rational": Rational(3, 2),
    "rational small": Rational(1, 1),
}
GATED = (DaruanBasis(reps=1), Spline(3), Fourier(2), Rational(2, 1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layer_of(basis: object, features: tuple[int, int] = (3, 2), **options: object) -> KANLayer:
    layer = KANLayer(*features, basis=basis, generator=generator(), dtype=DOUBLE, **options)
    with torch.no_grad():
        for n, parameter in enumerate(layer.parameters()):
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator(n), dtype=DOUBLE)
        layer.mask[0, 1:2] = 0
    return layer


def inputs(samples: int = 7, features: int = 3) -> Tensor:
    return 3 * torch.rand(samples, features, generator=generator(9), dtype=DOUBLE) - 1.4


# ---- one family


@pytest.mark.parametrize("name", BASES)
def test_the_layer_is_its_formula(name: str) -> None:
    layer, x = layer_of(BASES[name]), inputs()
    f = layer.functions(x)
    assert f.shape == (7, 2, 3)
    base = layer.base_weight * torch.nn.functional.silu(x).unsqueeze(1)
    wanted = (layer.mask * (layer.weight * f + base)).sum(-1) + layer.bias
    assert_close(layer(x), wanted, name, 1e-12)


@pytest.mark.parametrize("name", BASES)
def test_gradients_are_the_finite_differences(name: str) -> None:
    layer = layer_of(BASES[name], (2, 2))
    names = [n for n, _ in layer.named_parameters()]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(
            layer, dict(zip(names, values, strict=True)), (x,)
        )
        return found

    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(run, (inputs(4, 2).requires_grad_(), *values), atol=1e-6)


def test_splines_are_scipys() -> None:
    layer, x = layer_of(Spline(5, 3, -1.5, 2.0)), inputs()
    step = 3.5 / 5
    knots = [-1.5 + step * n for n in range(-3, 9)]
    coef = layer.coefficients[0]["coef"].detach().numpy()
    found = layer.functions(x)
    for o in range(2):
        for i in range(3):
            wanted = torch.from_numpy(BSpline(knots, coef[o, i], 3)(x[:, i].numpy()))
            assert_close(found[:, o, i], wanted, f"edge {o}, {i}", 1e-12)


def test_fourier_is_its_sum() -> None:
    layer, x = layer_of(Fourier(2), (1, 1)), inputs(5, 1)
    a1, a2, b1, b2 = layer.coefficients[0]["coef"][0, 0]
    wanted = a1 * x.cos() + a2 * (2 * x).cos() + b1 * x.sin() + b2 * (2 * x).sin()
    assert_close(layer.functions(x)[:, 0], wanted, "fourier", 1e-12)


def test_rational_is_its_quotient() -> None:
    layer, x = layer_of(Rational(3, 2), (1, 1)), inputs(5, 1)
    above, below = (layer.coefficients[0][key][0, 0] for key in ("above", "below"))
    top = sum(a * x**n for n, a in enumerate(above))
    wanted = top / (1 + (below[0] * x + below[1] * x**2).abs())
    assert_close(layer.functions(x)[:, 0], wanted, "rational", 1e-12)
    assert layer(1e30 * torch.ones(1, 1, dtype=DOUBLE)).isfinite().all()


@pytest.mark.parametrize(
    "options", [{}, {"encoding": "linear", "ansatz": "rpz", "reps": 2}, {"encoding": "binary"}],
    ids=str,
)  # fmt: skip
def test_a_daruan_layer_is_a_qkan_layer(options: dict[str, object]) -> None:
    wanted = QKANLayer(3, 2, **options, generator=generator(), dtype=DOUBLE)
    layer = KANLayer(3, 2, basis=DaruanBasis(**options), generator=generator(), dtype=DOUBLE)
    assert torch.equal(layer.coefficients[0]["theta"], wanted.theta)
    with torch.no_grad():
        layer.weight.copy_(wanted.weight)
    assert_close(layer(inputs()), wanted(inputs()), "layer", 1e-12)
    assert effective_parameters(layer) == effective_parameters(wanted)
    assert sum(p.numel() for p in layer.parameters()) == sum(p.numel() for p in wanted.parameters())


def test_starts_have_one_size() -> None:
    for name in ("daruan", "spline", "fourier", "rational"):
        layer = KANLayer(1, 4001, basis=name, base=None, generator=generator())
        x = torch.linspace(-1.5, 1.5, 31).unsqueeze(-1)
        assert 0.25 < float(layer.functions(x).square().mean().detach()) < 0.75, name


def test_effective_parameters_leave_out_what_is_twice() -> None:
    counts = {
        name: effective_parameters(KANLayer(3, 2, basis=basis, base=None, bias=False))
        for name, basis in BASES.items()
    }
    # of 6 edges: 14 angles, scales and shifts without 3 shifts that merge, and the weight
    assert counts["daruan"] == 6 * (8 + 3 + 1)
    assert counts["daruan linear"] == 6 * (3 + 2 + 1)
    assert counts["daruan merged"] == 6 * (6 + 1)
    assert counts["spline"] == 6 * 8
    assert counts["spline linear"] == 6 * 4
    assert counts["fourier"] == 6 * 6
    assert counts["rational"] == 6 * 6


@pytest.mark.parametrize("name", ["daruan", "spline", "fourier", "rational"])
def test_shapes_and_layouts(name: str) -> None:
    layer = layer_of(name)
    x = inputs(24)
    flat = layer(x)
    assert_close(layer(x.reshape(2, 3, 4, 3)), flat.reshape(2, 3, 4, 2), name)
    assert_close(layer(x[0]), flat[0], name)
    strided = x.T.contiguous().T
    assert not strided.is_contiguous()
    assert_close(layer(strided), flat, name)
    assert layer(torch.zeros(2, 0, 3, dtype=DOUBLE)).shape == (2, 0, 2)


# ---- several families and a gate


def gated(seed: int = 0) -> KANLayer:
    layer = layer_of(GATED)
    with torch.no_grad():
        layer.gate.normal_(generator=generator(seed))
    return layer


def test_the_gate_mixes() -> None:
    layer, x = gated(), inputs()
    shares = layer.gate.softmax(-1)
    parts = torch.stack(
        [b.edges(x, dict(c)) for b, c in zip(layer.bases, layer.coefficients, strict=True)], -1
    )
    assert_close(layer.functions(x), (parts * shares).sum(-1), "mix", 1e-12)
    assert_close(layer.shares().sum(-1), torch.ones(2, 3, dtype=DOUBLE), "shares")
    base = layer.base_weight * torch.nn.functional.silu(x).unsqueeze(1)
    wanted = (layer.mask * (layer.weight * layer.functions(x) + base)).sum(-1) + layer.bias
    assert_close(layer(x), wanted, "layer", 1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_hardening_keeps_the_chosen_function_exactly(seed: int) -> None:
    layer, x = gated(seed), inputs()
    before = copy.deepcopy(layer)
    layer.harden()
    chosen = before.gate.argmax(-1)
    f = layer.functions(x)
    for o in range(2):
        for i in range(3):
            n = int(chosen[o, i])
            wanted = before.bases[n].edges(x, dict(before.coefficients[n]))[:, o, i]
            assert torch.equal(f[:, o, i], wanted)
    assert [before.bases[n] for n in chosen.unique().tolist()] == list(layer.bases)
    assert layer.hardened and "gate" not in dict(layer.named_parameters())


def test_hardening_trains_on_and_counts_what_is_left() -> None:
    layer = gated()
    with torch.no_grad():
        layer.gate.copy_(torch.zeros(2, 3, 4))
        layer.gate[0, :, 1] = layer.gate[1, :, 2] = 5.0
    layer.harden()
    assert [basis.name for basis in layer.bases] == ["spline", "fourier"]
    assert effective_parameters(layer) == 3 * 6 + 3 * 4 + 6 + 2
    layer(inputs()).square().sum().backward()
    spline = layer.coefficients[0]["coef"].grad
    assert float(spline[1].abs().max()) == 0.0 and float(spline[0].abs().max()) > 0.0
    state = layer.state_dict()
    layer.harden()
    assert all(torch.equal(state[name], value) for name, value in layer.state_dict().items())


def test_one_choice_for_all_needs_no_gate() -> None:
    layer = gated()
    with torch.no_grad():
        layer.gate[..., 3] += 100.0
    layer.harden()
    assert layer.bases == (GATED[3],) and layer.gate is None
    assert effective_parameters(layer) == effective_parameters(KANLayer(3, 2, basis=GATED[3]))


def test_the_gate_finds_the_family_that_fits() -> None:
    x = torch.linspace(-3, 3, 101, dtype=DOUBLE).unsqueeze(-1)
    y = 2 * torch.sin(2 * x) - torch.cos(x)
    model = KANLayer(
        1, 1, basis=[Rational(2, 2), Fourier(2), Spline(2, 1)], base=None, generator=generator(),
        dtype=DOUBLE,
    )  # fmt: skip
    fit(model, (x, y), steps=300, optimizer="adam", lr=0.05, progress=False)
    model.harden()
    assert [basis.name for basis in model.bases] == ["fourier"]
    history = fit(model, (x, y), steps=5, progress=False)
    assert history.train_loss[-1] < 1e-8


# ---- networks


@pytest.mark.parametrize("basis", ["spline", "fourier", "rational", "daruan", GATED], ids=str)
def test_networks_train(basis: object) -> None:
    x = 2 * torch.rand(100, 2, generator=generator(1), dtype=DOUBLE) - 1
    y = torch.sin(math.pi * x[:, :1]) + x[:, 1:] ** 2
    model = KAN([2, 3, 1], basis=basis, input_range=(-1, 1), generator=generator(), dtype=DOUBLE)
    history = fit(model, (x, y), steps=8, progress=False)
    assert history.train_loss[-1] < 2e-3


def test_the_input_range_is_qkans() -> None:
    model = KAN([2, 1], basis=Fourier(1), input_range=(0, 4), dtype=DOUBLE)
    qkan = QKAN([2, 1], input_range=(0, 4), dtype=DOUBLE)
    x = inputs(5, 2)
    assert torch.equal(model(x), model.layers[0](qkan.map_input(x)))


@pytest.mark.parametrize("hard", [False, True])
def test_networks_save_and_load(hard: bool, tmp_path: Path) -> None:
    model = KAN([2, 3, 2], basis=GATED, input_range=(-2, 2), generator=generator(), dtype=DOUBLE)
    with torch.no_grad():
        for layer in model.layers:
            layer.gate.normal_(generator=generator(4))
    if hard:
        model.harden()
    for part in (model, model.layers[0]):
        save(part, tmp_path / "model.safetensors")
        loaded = load(tmp_path / "model.safetensors")
        assert torch.equal(loaded(inputs(5, 2)), part(inputs(5, 2)))
        assert loaded.config() == part.config()
        assert [n for n, _ in loaded.named_parameters()] == [n for n, _ in part.named_parameters()]


@pytest.mark.parametrize("name", BASES)
def test_bases_survive_json(name: str) -> None:
    assert from_json(to_json(BASES[name])) == BASES[name]


# ---- what is refused


def test_wrong_bases_are_refused() -> None:
    with pytest.raises(QKANError, match="spline"):
        KANLayer(1, 1, basis="splines")
    with pytest.raises(QKANError, match="at least one"):
        KANLayer(1, 1, basis=[])
    with pytest.raises(QKANError, match="Unknown basis 3"):
        KANLayer(1, 1, basis=["spline", 3])
    for wrong in ({"intervals": 0}, {"degree": -1}, {"intervals": 2.0}, {"degree": True}):
        with pytest.raises(QKANError, match="whole number"):
            Spline(**wrong)
    for wrong in ({"low": 2.0}, {"high": math.nan}):
        with pytest.raises(QKANError, match="low below high"):
            Spline(**wrong)
    for basis in (lambda: Fourier(0), lambda: Rational(0), lambda: Rational(2, 0)):
        with pytest.raises(QKANError, match="1 or more"):
            basis()


def test_wrong_layers_and_inputs_are_refused() -> None:
    with pytest.raises(QKANError, match="silu"):
        KANLayer(1, 1, base="silo")
    for sizes in ((0, 1), (1, 2.5), (True, 1)):
        with pytest.raises(QKANError, match="1 or more"):
            KANLayer(*sizes)
    with pytest.raises(TypeError, match="basiss"):
        KANLayer(1, 1, basiss="spline")
    with pytest.raises(QKANError, match="in_features=3"):
        layer_of("spline")(inputs(5, 2))
    with pytest.raises(QKANError, match="float64"):
        layer_of("spline")(inputs().float())
    with pytest.raises(QKANError, match="widths"):
        KAN([2])
    with pytest.raises(QKANError, match="low below high"):
        KAN([2, 1], input_range=(1, 1))


def test_the_old_name_of_the_circuits_basis_warns_and_its_pickles_load() -> None:
    with pytest.warns(DeprecationWarning, match="called qkan.DaruanBasis now"):
        old = qkan.Daruan
    assert old is DaruanBasis and "Daruan" not in dir(qkan)
    layer = KANLayer(3, 2, basis=DaruanBasis("rpz", 2, "linear"), generator=generator())
    written = pickle.dumps(layer.bases[0], protocol=0)
    assert b"qkan.nn.basis\nDaruanBasis" in written
    for module in (b"qkan.nn.basis", b"qkan.basis"):
        earlier = written.replace(b"qkan.nn.basis\nDaruanBasis", module + b"\nDaruan")
        assert pickle.loads(earlier) == layer.bases[0]
    assert (
        from_json({"name": "daruan", "ansatz": "rpz", "reps": 2, "encoding": "linear"})
        == (layer.bases[0])
    )
