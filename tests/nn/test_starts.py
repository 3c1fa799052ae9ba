"""Starts by name: a layer begins as a known activation, and says when it cannot."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import CIRCUITS
from compare import assert_close
from torch import Tensor, nn
from torch._subclasses import FakeTensor, FakeTensorMode

from qkan import (
    HQKAN,
    QKAN,
    ActivationFit,
    QKANAttention,
    QKANConv2d,
    QKANError,
    QKANLayer,
    ansatz,
    expectation,
    extend,
    fit_activation,
    load,
    save,
)
from qkan.circuits import CircuitError
from qkan.nn.functional import amplitude
from qkan.nn.starts import fit_program, second_moment
from qkan.simulators import BASES

DOUBLE = torch.float64
FITS: dict[str, tuple[str, str, dict[str, object], float]] = {
    "gelu": ("pz", "gelu", {}, 0.01),
    "relu": ("pz", "relu", {}, 0.05),
    "ternary gelu": ("pz", "gelu", {"encoding": "ternary"}, 0.06),
    "ternary identity": ("pz", "identity", {"encoding": "ternary"}, 0.06),
    "linear rpz silu": ("rpz", "silu", {"encoding": "linear"}, 0.02),
    "no offset": ("pz", "tanh", {"offset": False, "encoding": "binary"}, 0.02),
    "amplitude": ("pz", "silu", {"readout": "amplitude"}, 0.02),
    "px": ("px", "relu", {}, 0.02),
}


def values(fit: ActivationFit, x: Tensor, name: str, readout: object, engine: str) -> Tensor:
    """gain·φ + offset."""
    theta, scale, shift = (
        torch.tensor(v, dtype=DOUBLE)[None, None] for v in (fit.theta, fit.scale, fit.shift)
    )
    z = expectation(ansatz(name), x[:, None], theta, scale, shift, engine=engine)[:, 0, 0]
    return fit.gain * (amplitude(z) if readout == "amplitude" else z) + fit.offset


@pytest.mark.parametrize("case", FITS)
def test_a_fit_is_as_near_as_it_says(case: str) -> None:
    name, activation, options, bound = FITS[case]
    fit = fit_activation(ansatz(name), activation, **options)
    assert fit.error < bound and fit.reach == (4.0 if "encoding" not in options else 2.0)
    x = torch.linspace(-fit.reach, fit.reach, 1009, dtype=DOUBLE)
    density = torch.exp(-x.square() / 2)
    density /= density.sum()
    wanted = BASES[activation](x)
    deviation = (density * (wanted - density @ wanted).square()).sum().sqrt()
    found = values(fit, x, name, options.get("readout"), "reference")
    error = (density * (found - wanted).square()).sum().sqrt() / deviation
    assert abs(float(error) - fit.error) < 0.05 * fit.error
    x = torch.randn(20_000, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    moment = float(values(fit, x, name, options.get("readout"), "torch").square().mean())
    assert abs(moment / fit.moment - 1) < 0.05
    assert fit.offset == 0.0 or options.get("offset", True)


def test_a_fit_is_found_again() -> None:
    first = fit_activation(ansatz("rpz", 2), "silu")
    assert fit_activation(ansatz("rpz", 2), "silu") is first
    fit_program.cache_clear()
    state = torch.get_rng_state()
    assert fit_activation(ansatz("rpz", 2), "silu") == first
    assert torch.equal(torch.get_rng_state(), state)


OPTIONS: dict[str, dict[str, object]] = {
    "own activations": {"start": "gelu"},
    "groups": {"start": "gelu", "group": 3, "base": None},
    "one an input": {"start": "gelu", "group": "inputs", "encoding": "ternary"},
    "no bias": {"start": "tanh", "bias": False, "encoding": "binary"},
    "identity": {"start": "identity", "encoding": "ternary", "group": 1},
    "amplitude": {"start": "silu", "readout": "amplitude", "group": 2},
}


def near(layer: QKANLayer, wanted: Tensor, x: Tensor, weight: Tensor) -> None:
    """The layer's error is no more than that of independent errors of its activations."""
    fit = fit_activation(
        layer.circuit, layer.start, encoding=layer.encoding, readout=layer.readout,
        offset=layer.bias is not None,
    )  # fmt: skip
    allowed = fit.error * float(weight.detach().square().sum(1).mean().sqrt())
    with torch.no_grad():
        error = float((layer(x) - wanted).square().mean().sqrt())
    assert error < 2 * allowed, f"off by {error:.3g}, allowed {2 * allowed:.3g}"


@pytest.mark.parametrize("name", OPTIONS)
def test_a_layer_begins_as_linear_behind_the_activation(name: str) -> None:
    options = OPTIONS[name]
    layer = QKANLayer(12, 7, **options, engine="torch", dtype=DOUBLE)
    linear = nn.Linear(12, 7, bias=layer.bias is not None, dtype=DOUBLE)
    layer.theta.data.normal_()
    layer.mask[0, 0] = 0
    layer.begin_as(linear)
    x = torch.randn(400, 12, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    # a fixed encoding repeats itself beyond its period
    x = x.clamp(-2, 2) if options.get("encoding") else x
    near(layer, linear(BASES[str(options["start"])](x)), x, linear.weight)
    layer(x).square().sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0


@pytest.mark.parametrize("options", [{}, {"group": 3, "base": "gelu"}, {"encoding": "linear"}])
def test_a_layer_begins_as_its_base_alone_and_every_parameter_learns(
    options: dict[str, object], tmp_path: Path
) -> None:
    layer = QKANLayer(12, 7, start="base", dtype=DOUBLE, **options)
    x = torch.randn(4000, 12, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    act = BASES[str(layer.base)]
    assert layer.base_weight is not None and not layer.weight.any()
    assert torch.allclose(layer(x), nn.functional.linear(act(x), layer.base_weight), atol=1e-12)
    assert 0.5 < float(layer(x).detach().square().mean()) < 2
    linear = nn.Linear(12, 7, dtype=DOUBLE)
    layer.begin_as(linear)
    assert_close(layer(x), linear(act(x)).detach(), "linear(base(x))", 1e-12)
    save(layer, tmp_path / "layer.safetensors")
    again = load(tmp_path / "layer.safetensors")
    assert again.start == "base" and torch.equal(again(x), layer(x))
    start = copy.deepcopy([*layer.parameters()])
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        (layer(x) - torch.sin(3 * x[:, :7])).square().mean().backward()
        optimizer.step()
    for (name, now), before in zip(layer.named_parameters(), start, strict=True):
        assert float((now - before).detach().abs().max()) > 0, name


def test_a_block_begins_as_a_bottleneck_with_a_known_activation() -> None:
    block = HQKAN(16, latent=4, base="gelu", start="base")
    layer, x = block.qkan.layers[0], torch.randn(30, 16)
    hidden = nn.functional.linear(nn.functional.gelu(block.down(x)), layer.base_weight)
    assert_close(block(x), block.up(hidden).detach(), "a bottleneck", 1e-6)
    again = HQKAN.from_config(block.config())
    assert again.qkan.layers[0].start == "base"
    with pytest.raises(QKANError, match="start='base' makes the layer begin as its base"):
        HQKAN(16, base=None, start="base")


def test_an_identity_matrix_makes_it_the_activation_of_every_element() -> None:
    layer = QKANLayer(5, 5, group="inputs", start="silu", base=None, engine="torch")
    identity = nn.Linear(5, 5, bias=False)
    nn.init.eye_(identity.weight)
    layer.begin_as(identity)
    x = torch.randn(500, 5).clamp(-3, 3)
    assert_close(layer(x), nn.functional.silu(x), "every element", 0.02)


def test_the_random_linear_map_is_drawn_from_the_generator_and_keeps_the_size() -> None:
    def build() -> QKANLayer:
        generator = torch.Generator().manual_seed(2)
        return QKANLayer(
            256, 128, group=1, start="gelu", engine="torch", dtype=DOUBLE, generator=generator
        )

    before = torch.get_rng_state()
    layer, twin = build(), build()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, layer.parameters(), twin.parameters()))
    fit = fit_activation(layer.circuit, "gelu")
    assert_close(layer.theta[0], torch.tensor(fit.theta, dtype=DOUBLE), "theta")
    linear = layer.weight.detach() / fit.gain
    assert float(linear.abs().max()) < math.sqrt(3 / (256 * fit.moment))
    assert abs(float(linear.var()) * 256 * fit.moment - 1) < 0.05
    assert layer.base_weight is not None and not layer.base_weight.any()
    x = torch.randn(200, 256, dtype=DOUBLE)
    near(layer, nn.functional.gelu(x) @ linear.T, x, linear)


@pytest.mark.parametrize("start", ["gelu", "identity"])
@pytest.mark.parametrize("encoding", ["trainable", "ternary"])
def test_ten_layers_keep_the_size_of_their_signal(start: str, encoding: str) -> None:
    generator = torch.Generator().manual_seed(0)
    model = QKAN(
        [64] * 11, group=1, start=start, encoding=encoding, engine="torch", generator=generator
    )
    h = torch.randn(256, 64, generator=generator)
    with torch.no_grad():
        for layer in model.layers:
            h = layer(h)
            assert 0.4 <= float(h.square().mean()) <= 2.5


def test_outputs_that_share_their_activations_start_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = QKANLayer(64, 200, group=1, base=None, engine="torch", generator=generator)
    x = torch.randn(500, 64, generator=generator)
    with torch.no_grad():
        out = layer(x)
    assert torch.linalg.matrix_rank(out) > 60
    sizes = []
    for _ in range(30):
        layer.reset_parameters(generator)
        with torch.no_grad():
            sizes.append(float(layer(x).square().mean()))
    assert 0.7 < sum(sizes) / 30 < 1.4


def test_a_group_for_every_input_is_stored_as_its_number() -> None:
    model = QKAN([3, 5, 2], group="inputs")
    assert [layer.group for layer in model.layers] == [3, 5]
    assert [len(layer.theta) for layer in model.layers] == [3, 5]
    assert QKAN.from_config(model.config()).config() == model.config()
    with pytest.raises(QKANError, match=r"Unknown group 'input'.*'inputs'"):
        QKANLayer(3, 2, group="input")


def test_the_start_is_kept_wherever_a_layer_goes(tmp_path: Path) -> None:
    model = QKAN([3, 4, 2], start="gelu", encoding="linear", reps=2)
    layer = model.layers[0]
    assert "start='gelu'" in repr(layer) and layer.config()["start"] == "gelu"
    path = tmp_path / "model.safetensors"
    save(model, path)
    fit_program.cache_clear()
    loaded = load(path)
    # reading a file fits nothing
    assert fit_program.cache_info().misses == 0
    assert repr(loaded) == repr(model) and loaded.config() == model.config()
    x = torch.randn(9, 3)
    assert torch.equal(loaded(x), model(x))
    longer = extend(model, 3)
    assert longer.layers[0].start == "gelu"
    assert_close(longer(x), model(x), "extended", 1e-5)
    config = {k: v for k, v in QKANLayer(3, 2).config().items() if k != "start"}
    assert QKANLayer.from_config(config).start == "random"


def test_a_layer_without_memory_starts_once_it_has_some() -> None:
    layer = QKANLayer(4, 3, start="tanh", device="meta").to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    layer.reset_parameters(generator)
    wanted = QKANLayer(4, 3, start="tanh", generator=torch.Generator().manual_seed(0))
    assert all(map(torch.equal, layer.state_dict().values(), wanted.state_dict().values()))
    assert not copy.deepcopy(wanted).base_weight.any()


FAKE: dict[str, Callable[[], nn.Module]] = {
    "layer": lambda: QKANLayer(4, 3),
    "activation": lambda: QKANLayer(4, 3, start="gelu", group=2, encoding="linear"),
    "network": lambda: QKAN([2, 3, 1], input_range=(-1, 1)),
    "block": lambda: HQKAN(8, latent=3, depth=2, gate=True),
    "attention": lambda: QKANAttention(8, 2, 5, rank=3),
    "convolution": lambda: QKANConv2d(3, 4, 3),
}


@pytest.mark.parametrize("name", FAKE)
def test_the_first_of_its_kind_may_be_a_fake(name: str) -> None:
    """What a start is computed from has numbers, also where no other tensor has."""
    for kept in (second_moment, fit_program):
        kept.cache_clear()
    with FakeTensorMode():
        fake = FAKE[name]()
        fake.load_state_dict(fake.state_dict())
    real = FAKE[name]()
    assert all(type(value.data) is FakeTensor for value in fake.state_dict().values())
    for key, value in real.state_dict().items():
        assert fake.state_dict()[key].shape == value.shape and value.isfinite().all()


def test_an_hqkan_begins_with_it() -> None:
    block = HQKAN(16, start="gelu", group="inputs")
    layer = block.qkan.layers[0]
    fit = fit_activation(layer.circuit, "gelu", encoding=layer.encoding)
    assert_close(layer.theta[0], torch.tensor(fit.theta), "theta", 1e-6)


LAYER = QKANLayer(3, 2, start="tanh", encoding="linear", bias=False)
WRONG = {
    "name": (lambda: QKANLayer(2, 2, start="gulu"), QKANError, "Unknown start 'gulu'.*'gelu'"),
    "option": (lambda: QKANLayer(2, 2, strat="gelu"), TypeError, "Did you mean 'start'"),
    "activation": (
        lambda: fit_activation(ansatz("pz"), "random"), QKANError, "Unknown activation 'random'",
    ),
    "readout": (
        lambda: fit_activation(ansatz("pz"), "gelu", readout="y"), QKANError, "Unknown readout 'y'",
    ),
    "scales": (
        lambda: fit_activation(ansatz("pz"), "gelu", encoding=(1.0, 2.0)), CircuitError, "scale",
    ),
    "one sinusoid": (
        lambda: QKANLayer(2, 2, ansatz="real", start="gelu"), QKANError, "error of 0.12.*reps",
    ),
    "one sinusoid of a fixed frequency": (
        lambda: QKANLayer(2, 2, ansatz="real", start="identity", encoding="ternary"),
        QKANError, r"scales \(1.0, 3.0, 9.0\) has .* error of 1 .*±2",
    ),
    "no bias for the offset": (
        lambda: QKANLayer(2, 2, ansatz="real", start="silu", bias=False), QKANError, "no bias",
    ),
    "a circuit without angles": (
        lambda: QKANLayer(2, 2, ansatz=CIRCUITS["bare"], start="identity", encoding="linear"),
        QKANError, "start='identity'",
    ),
    "the input never reaches it": (
        lambda: QKANLayer(2, 2, ansatz=CIRCUITS["unmoved"], start="gelu"), QKANError, "of 1 of",
    ),
    "random layers follow nothing": (
        lambda: QKANLayer(3, 2).begin_as(nn.Linear(3, 2)), QKANError, "start='random'",
    ),
    "sizes": (lambda: LAYER.begin_as(nn.Linear(2, 3)), QKANError, r"Linear\(3, 2\), got Linear"),
    "no linear map": (lambda: LAYER.begin_as(nn.ReLU()), QKANError, "got ReLU"),
    "no place for the bias": (lambda: LAYER.begin_as(nn.Linear(3, 2)), QKANError, "has a bias"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_right_is_refused_with_a_reason(case: str) -> None:
    call, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        call()
