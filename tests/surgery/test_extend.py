"""`extend` leaves the function as it is, `fit_extending` trains what it adds."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable

import pytest
import torch
from compare import assert_close
from torch import Tensor, nn
from torch.nn.utils import parametrize

from qkan import QKAN, QKANError, QKANLayer, ansatze, extend, load, save
from qkan.circuits import (
    RX,
    RY,
    RZ,
    Circuit,
    Encoding,
    H,
    Theta,
    ansatz,
    fixed_scale,
    register_ansatz,
)  # fmt: skip
from qkan.circuits.ansatz import SHIPPED
from qkan.circuits.scales import FIXED_ENCODINGS

DOUBLE = torch.float64


def zigzag(reps: int) -> Circuit:
    """Nothing commutes with Z and |0⟩ is no eigenstate: the angles must turn."""
    gates = [gate for u in range(reps) for gate in (RX(Theta(u)), RY(Encoding(u)))]
    return Circuit(gates)


def closing_first(reps: int) -> Circuit:
    """The closing block has the first slots, and the observable is X."""
    gates = [RY(0.4)]
    for u in range(reps):
        gates += [RX(Theta(2 + 2 * u)), RZ(Theta(3 + 2 * u)), RY(Encoding(u)), RX(0.2), RX(-0.2)]
    return Circuit((*gates, RZ(Theta(0)), RX(Theta(1))), observable="X")


def one_theta(reps: int) -> Circuit:
    """The same angle in every repetition: one more of them changes the function."""
    gates = [gate for u in range(reps) for gate in (RX(Theta(0)), RY(Encoding(u)))]
    return Circuit(gates)


def encoding_twice(reps: int) -> Circuit:
    """Each encoding enters twice, about two axes."""
    gates = [H]
    for u in range(reps):
        gates += [RY(Theta(2 * u)), RZ(Encoding(u)), RX(Theta(2 * u + 1)), RX(Encoding(u))]
    return Circuit((*gates, RY(Theta(2 * reps))))


def opening(reps: int) -> Circuit:
    """Only the first encoding's shift does what a theta does."""
    blocks = [gate for u in range(reps) for gate in (RZ(Encoding(u)), RY(Theta(u + 1)))]
    return Circuit([H, RZ(Theta(0)), *blocks])


OWN: dict[str, Callable[[int], Circuit]] = {
    build.__name__: build for build in (zigzag, closing_first, encoding_twice, opening)
}
REFUSED = {"real", "closing_first", "encoding_twice"}
"""No identity with a fixed encoding."""


@pytest.fixture(autouse=True)
def _own_ansatze() -> None:
    for name, build in {**OWN, "one_theta": one_theta}.items():
        register_ansatz(name, build)


def build(seed: int = 0, features: tuple[int, int] = (5, 3), **options: object) -> QKANLayer:
    """A layer away from its start, with a pruned edge."""
    layer = QKANLayer(
        *features, **{"dtype": DOUBLE, **options}, generator=torch.Generator().manual_seed(seed)
    )
    g = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=g, dtype=DOUBLE)
        layer.mask[0, 1] = 0
    return layer


def inputs(samples: int = 11, features: int = 5) -> Tensor:
    # inside an arccos, so that it has a gradient
    return 1.4 * torch.rand(
        samples, features, generator=torch.Generator().manual_seed(3), dtype=DOUBLE
    ) - 0.7  # fmt: skip


def reps_of(layer: nn.Module) -> int:
    assert isinstance(layer, QKANLayer)
    return layer.circuit.num_encodings


# ---- the function stays


@pytest.mark.parametrize("name", [*SHIPPED, *OWN])
@pytest.mark.parametrize("reps", [(1, 2), (2, 5)], ids=str)
def test_a_trainable_encoding_keeps_its_function(name: str, reps: tuple[int, int]) -> None:
    layer = build(ansatz=name, reps=reps[0])
    longer = extend(layer, reps[1])
    assert reps_of(layer) == reps[0] and reps_of(longer) == reps[1]
    assert longer.circuit == ansatz(name, reps[1])
    assert_close(longer(inputs()), layer(inputs()), name, 1e-13)


def random_family(seed: int) -> Callable[[int], Circuit]:
    """Any gates in a repetition, any around it, any observable."""
    rng = random.Random(seed)
    block, around = (rng.choices([RX, RY, RZ], k=rng.randint(*size)) for size in ((1, 3), (0, 2)))
    encode, first = rng.choice([RX, RY, RZ]), rng.choice([[], [H], [RY(0.3)]])
    observable = rng.choice(["X", "Y", "Z", (0.48, -0.6, 0.64)])

    def family(reps: int) -> Circuit:
        slots = map(Theta, itertools.count())
        gates = list(first)
        for u in range(reps):
            gates += [*(gate(next(slots)) for gate in block), encode(Encoding(u))]
        return Circuit([*gates, *(gate(next(slots)) for gate in around)], observable)

    return family


@pytest.mark.parametrize("seed", range(12))
def test_any_family_of_a_users_own_keeps_its_function(seed: int) -> None:
    register_ansatz("random family", random_family(seed))
    layer = build(ansatz="random family", reps=2)
    assert_close(extend(layer, 4)(inputs()), layer(inputs()), str(layer.circuit), 1e-12)


@pytest.mark.parametrize("encoding", FIXED_ENCODINGS)
@pytest.mark.parametrize(
    "name", [name for name in (*SHIPPED, *OWN) if name not in REFUSED]
)  # fmt: skip
def test_a_fixed_encoding_keeps_its_function(name: str, encoding: str) -> None:
    layer = build(ansatz=name, reps=2, encoding=encoding)
    longer = extend(layer, 4)
    assert longer.fixed_scale is not None
    assert sorted(longer.fixed_scale) == list(fixed_scale(encoding, 4))
    assert_close(longer.scale, torch.tensor(longer.fixed_scale, dtype=DOUBLE).expand(3, 5, 4), "")
    assert_close(longer(inputs()), layer(inputs()), name, 1e-13)
    again = extend(longer, 5)
    assert again.fixed_scale is not None
    assert sorted(again.fixed_scale) == list(fixed_scale(encoding, 5))
    assert_close(again(inputs()), layer(inputs()), f"{name}, once more", 1e-13)


@pytest.mark.parametrize(
    "options",
    [
        {"group": 2}, {"group": 1, "encoding": "binary"}, {"group": 5, "ansatz": "mix"},
        {"readout": "amplitude"}, {"base": None, "bias": False}, {"base": "gelu"},
        {"engine": "torch"}, {"engine": "fourier", "encoding": "ternary"},
        {"engine": "chebyshev"}, {"engine": "numba", "ansatz": "rpz"}, {"dtype": torch.float32},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_is_kept(options: dict[str, object]) -> None:
    layer = build(**options, reps=2)
    longer = extend(layer, 4)
    wanted = {**layer.config(), "circuit": longer.config()["circuit"]}
    assert longer.config() == wanted
    x = inputs().to(layer.weight.dtype)
    rounding = 1e-13 if layer.weight.dtype == DOUBLE else 2e-6
    assert_close(longer(x), layer(x), str(options), rounding)
    for name in ("weight", "base_weight", "bias", "mask"):
        old, new = getattr(layer, name), getattr(longer, name)
        assert (old is None and new is None) or torch.equal(old, new)


def test_scales_of_ones_own_go_on_geometrically_or_by_word() -> None:
    three = build(encoding=(0.5, 1.5), reps=2)
    longer = extend(three, 3)
    assert longer.fixed_scale == pytest.approx((0.5, 1.5, 4.5))
    assert_close(longer(inputs()), three(inputs()), "geometric", 1e-13)
    loose = build(encoding=(1.0, 2.5, 2.7))
    with pytest.raises(QKANError, match="not a geometric sequence"):
        extend(loose, 4)
    longer = extend(loose, 5, scale=(0.3, 7.0))
    assert longer.encoding == (1.0, 2.5, 2.7, 0.3, 7.0)
    assert_close(longer(inputs()), loose(inputs()), "by word", 1e-13)


def test_a_name_is_kept_only_while_it_is_true() -> None:
    assert extend(build(encoding="binary"), 5).encoding == "binary"
    # px has its identity first, so the new scale comes before the others
    longer = extend(build(encoding="binary", ansatz="px", reps=2), 3)
    assert longer.encoding == (4.0, 1.0, 2.0)
    assert extend(build(encoding="linear", ansatz="px", reps=2), 3).encoding == "linear"


# ---- everything else stays, too


def test_the_old_model_is_untouched_and_shares_nothing() -> None:
    layer = build(reps=2)
    before = copy.deepcopy(layer.state_dict())
    longer = extend(layer, 3)
    with torch.no_grad():
        for value in longer.state_dict().values():
            value.add_(1.0)
    assert layer.circuit == ansatz("pz", 2)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_equal_reps_give_a_copy() -> None:
    layer = build()
    same = extend(layer, 3)
    assert same is not layer and same.theta is not layer.theta
    assert torch.equal(same(inputs()), layer(inputs()))


def test_flags_modes_hooks_and_names_are_kept() -> None:
    layer = build(reps=2).eval()
    layer.theta.requires_grad_(False)
    layer.weight.requires_grad_(False)
    seen: list[object] = []
    layer.register_forward_hook(lambda *arguments: seen.append(arguments))
    layer(inputs()).sum().backward()
    longer = extend(layer, 3)
    assert not longer.training
    flags = {name: p.requires_grad for name, p in longer.named_parameters()}
    assert list(flags.items()) == [(n, p.requires_grad) for n, p in layer.named_parameters()]
    assert all(p.grad is None for p in longer.parameters())
    longer(inputs())
    assert len(seen) == 2


def test_random_numbers_are_not_drawn() -> None:
    layer = build(reps=1)
    torch.manual_seed(5)
    wanted = torch.get_rng_state()
    extend(layer, 4)
    assert torch.equal(torch.get_rng_state(), wanted)


def test_layers_inside_any_module() -> None:
    inner = QKAN([4, 3, 2], reps=1, input_range=(-1, 2), generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(5, 4), inner, nn.LayerNorm(2), QKANLayer(2, 2, reps=2)).double()
    longer = extend(model, 4)
    layers = [part for part in longer.modules() if isinstance(part, QKANLayer)]
    assert [reps_of(layer) for layer in layers] == [4, 4, 4]
    assert_close(longer(inputs()), model(inputs()), "inside", 1e-13)


def test_tied_parameters_stay_tied() -> None:
    a, b = build(reps=2), build(seed=5, reps=2)
    b.theta, b.scale = a.theta, a.scale
    longer = extend(nn.ModuleList([a, b]), 4)
    one, two = longer
    assert one.theta is two.theta and one.scale is two.scale and one.shift is not two.shift
    shared = extend(nn.Sequential(a_square := build(features=(4, 4), reps=1), a_square), 2)
    assert shared[0] is shared[1] and reps_of(shared[0]) == 2


def test_a_shift_becomes_a_parameter_where_the_longer_circuit_needs_one() -> None:
    layer = build(ansatz="opening", reps=1, encoding="linear")
    assert "shift" in dict(layer.named_buffers())
    longer = extend(layer, 2)
    assert "shift" in dict(longer.named_parameters())
    assert_close(longer(inputs()), layer(inputs()), "shift", 1e-13)


def test_extended_models_save_and_load(tmp_path: object) -> None:
    for name, encoding in (("px", "binary"), ("pz", "trainable"), ("zigzag", "ternary")):
        longer = extend(build(ansatz=name, reps=2, encoding=encoding), 4)
        save(longer, f"{tmp_path}/model.safetensors")
        loaded = load(f"{tmp_path}/model.safetensors")
        assert torch.equal(loaded(inputs()), longer(inputs()))
        assert reps_of(extend(loaded, 5)) == 5


# ---- what is new learns


@pytest.mark.parametrize("name", [*SHIPPED, *OWN])
@pytest.mark.parametrize("encoding", ["trainable", "binary"])
def test_new_parameters_learn_within_two_steps(name: str, encoding: str) -> None:
    if encoding == "binary" and name in REFUSED:
        with pytest.raises(QKANError, match="encoding='trainable'"):
            extend(build(ansatz=name, encoding=encoding), 4)
        return
    layer = build(ansatz=name, reps=2, encoding=encoding)
    longer = extend(layer, 4)
    target = torch.randn(11, 3, generator=torch.Generator().manual_seed(4), dtype=DOUBLE)
    optimizer = torch.optim.SGD(longer.parameters(), lr=0.05)
    seen = {n: torch.zeros_like(p, dtype=torch.bool) for n, p in longer.named_parameters()}
    for _ in range(2):
        optimizer.zero_grad()
        (longer(inputs()) - target).square().mean().backward()
        for n, p in longer.named_parameters():
            seen[n] |= p.grad.abs() > 1e-12
        optimizer.step()
    used = learnable(longer)
    for n in used:
        # a pruned edge never learns
        learned = seen[n][longer.mask.bool()]
        assert bool(learned[:, used[n]].all()), f"{n} of {name}"


def learnable(layer: QKANLayer) -> dict[str, list[int]]:
    """The slots that can matter: those with a gradient at random parameters."""
    other = copy.deepcopy(layer)
    with torch.no_grad():
        for p in (p for n, p in other.named_parameters() if n in ("theta", "scale", "shift")):
            p.uniform_(0.1, 0.4, generator=torch.Generator().manual_seed(2))
    other(inputs()).square().sum().backward()
    grads = {n: p.grad for n, p in other.named_parameters() if n in ("theta", "scale", "shift")}
    return {
        n: (g.abs().amax((0, 1)) > 1e-12).nonzero().flatten().tolist() for n, g in grads.items()
    }


# ---- what is refused


def test_what_cannot_be_extended_says_why() -> None:
    with pytest.raises(QKANError, match="no QKANLayer"):
        extend(nn.Linear(2, 2), 3)
    with pytest.raises(QKANError, match="already has 3"):
        extend(build(), 2)
    for reps in (0, 2.0, True, "3"):
        with pytest.raises(QKANError, match="whole number"):
            extend(build(), reps)
    bare = QKAN([2, 2], ansatz=Circuit([H, RZ(Encoding(0)), RY(Theta(0))]))
    with pytest.raises(QKANError, match=r"layers\.0.*bare list of gates"):
        extend(bare, 2)


def test_a_circuit_without_an_identity_says_so() -> None:
    with pytest.raises(QKANError, match="another ansatz") as error:
        extend(build(ansatz="one_theta"), 4)
    assert "encoding='trainable', whose" not in str(error.value)


def test_scales_that_do_not_fit_are_refused() -> None:
    with pytest.raises(QKANError, match="leave it out"):
        extend(build(), 4, scale=(1.0,))
    with pytest.raises(QKANError, match="leave it out"):
        extend(build(encoding="linear"), 4, scale=(1.0,))
    loose = build(encoding=(1.0, 2.5, 2.7))
    for wrong in ((1.0,), (1.0, 2.0, 3.0), (1.0, float("nan"))):
        with pytest.raises(QKANError, match="each of the 2 new repetitions"):
            extend(loose, 5, scale=wrong)
    with pytest.raises(QKANError, match="Pass scale"):
        extend(build(encoding=(1.0,), reps=1), 2)


def test_a_parametrized_layer_is_refused() -> None:
    layer = build()
    parametrize.register_parametrization(layer, "theta", nn.Identity())
    with pytest.raises(QKANError, match="remove_parametrizations"):
        extend(layer, 4)


def test_every_shipped_ansatz_is_tested() -> None:
    assert set(SHIPPED) <= set(ansatze())
