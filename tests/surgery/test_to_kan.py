"""QKANs to spline KANs and back: pykan itself loads and evaluates what is written."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compare import assert_close
from paths import EXPERIMENTS
from torch import Tensor, nn

from qkan import QKAN, QKANError, QKANLayer, ScaleWarning, SplineKAN, fit, from_kan, to_kan
from qkan.io.kan_files import efficient_state_dict, pykan_state_dict, read_kan, save_pykan
from qkan.nn.splines import SplineLayer, bsplines, uniform_grid


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(count: int, width: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(count, width, generator=generator(seed), dtype=torch.float64) - 1


def model(**options: Any) -> QKAN:
    """[2, 3, 2] with every parameter off its default, and a masked edge."""
    made = QKAN([2, 3, 2], generator=generator(0), dtype=torch.float64, **options)
    g = generator(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=g, dtype=torch.float64)
        made.layers[0].mask[1, 0] = 0
    return made


# --- B-splines ---


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_the_basis_is_scipys(degree: int) -> None:
    from scipy.interpolate import BSpline

    knots = torch.linspace(-2, 3, 9 + 2 * degree, dtype=torch.float64) ** 3
    x = torch.linspace(
        float(knots[degree]), float(knots[-degree - 1]) - 1e-9, 53, dtype=torch.float64
    )
    wanted = BSpline.design_matrix(x.numpy(), knots.numpy(), degree).toarray()
    found = bsplines(x[:, None], knots[None], degree)[:, 0]
    assert_close(found, torch.from_numpy(wanted), f"degree {degree}")
    assert_close(found.sum(-1), torch.ones_like(x), "a partition of one")
    far = bsplines(torch.tensor([[-1e3], [1e3]], dtype=torch.float64), knots[None], degree)
    assert not far.any()


def test_splines_are_differentiable_and_inputs_have_grids_of_their_own() -> None:
    low, high = torch.tensor([-1.0, 0.0]).double(), torch.tensor([1.0, 5.0]).double()
    layer = SplineLayer(
        uniform_grid(low, high, 4, 3), torch.randn(3, 2, 7, generator=generator(0)).double()
    )
    x = torch.tensor([[0.3, 2.0], [-0.9, 4.7]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    assert_close(layer.splines(x).sum(-1), layer(x), "edges add up")
    assert layer(torch.zeros(3, 0, 2).double()).shape == (3, 0, 3)


# --- to_kan ---

OPTIONS = {
    "silu": {},
    "input range": {"input_range": (-1, 1)},
    "identity, groups": {"base": "identity", "group": 1},
    "gelu, fixed": {"base": "gelu", "encoding": "binary", "reps": 2},
    "amplitude, no base": {"readout": "amplitude", "base": None, "reps": 1},
    "arccos, no bias": {"ansatz": "px", "bias": False},
}


FAST = {
    "pz": {},
    "binary": {"encoding": "binary"},
    "ternary": {"encoding": "ternary", "reps": 4},
    "input range": {"encoding": "binary", "input_range": (-3, 7)},
    "groups": {"encoding": "binary", "group": 1},
}


@pytest.mark.parametrize("name", FAST)
def test_the_grid_follows_the_bandwidth(name: str) -> None:
    options = {"reps": 5, "dtype": torch.float64, **FAST[name]}
    made = QKAN([2, 3, 2], generator=generator(0), **options)
    with torch.no_grad():
        for layer in made.layers:
            layer.weight *= 1 / made.layers[1](torch.zeros(1, 3).double()).abs().max()
    x = points(300, 2)
    kan = to_kan(made, x)
    wanted = made(x)
    error = (kan(x) - wanted).square().mean().sqrt()
    assert kan.deviation == pytest.approx(error.item(), rel=1e-6)
    assert kan.deviation < 0.02 * wanted.std(0).min().item()
    assert kan.layers[0].coef.shape == (3, 2, kan.layers[1].coef.shape[2])


def test_a_grid_that_is_too_coarse_is_told() -> None:
    made, x = QKAN([1, 1], reps=5, encoding="binary", dtype=torch.float64), points(300, 1)
    with pytest.warns(ScaleWarning, match=r"output 0 .* % of its spread, with grid=5\. .*grid=10"):
        kan = to_kan(made, x, grid=5)
    assert kan.deviation > 0.1 * made(x).std().item()
    assert copy.deepcopy(kan).float().deviation == kan.deviation
    assert SplineKAN.start([1, 1]).deviation is None
    # the square roots of an arccos are beyond any spline, and that is said
    with pytest.warns(ScaleWarning, match="train it further"):
        to_kan(QKAN([1, 1], ansatz="px", reps=5, generator=generator(0)), 3 * x.float())


@pytest.mark.filterwarnings("ignore::qkan.ScaleWarning")
@pytest.mark.parametrize("name", OPTIONS)
def test_the_splines_follow_the_model(name: str) -> None:
    made, x = model(**OPTIONS[name]), points(400, 2)
    wanted = made(x)
    errors = [(to_kan(made, x, grid=g)(x) - wanted).abs().max().item() for g in (4, 16, 64)]
    assert errors[0] > errors[2]
    # the square roots of an arccos and an amplitude gain less
    assert errors[2] < (0.3 if name.startswith("a") else 1e-5)
    inner = made.layers[1].base_weight
    if name in ("silu", "input range", "identity, groups"):
        assert_close(to_kan(made, x).layers[1].base_weight, inner, "base weights are kept")


def test_grids_are_in_the_users_units_and_follow_the_data() -> None:
    x = 7 + points(300, 2) * torch.tensor([1.0, 0.1], dtype=torch.float64)
    kan = to_kan(QKAN([2, 1], input_range=(6, 8), dtype=torch.float64), x, margin=0.0)
    low, high = kan.layers[0].domain
    assert_close(low, x.min(0).values, "low", 2e-5)
    assert_close(high, x.max(0).values, "high", 2e-5)


def test_adaptive_knots_go_to_the_data() -> None:
    x = points(2000, 1) ** 3
    made = QKAN([1, 1], dtype=torch.float64)
    uniform, moved = (to_kan(made, x, grid=6, adaptive=a).layers[0].grid[0] for a in (0.0, 0.9))
    assert moved[5].item() > uniform[5].item() and torch.equal(
        moved[[0, 3, 9, 12]], uniform[[0, 3, 9, 12]]
    )
    assert (moved.diff() > 0).all()
    spread = x.flatten().quantile(torch.arange(1, 6).double() / 6)
    assert ((moved[4:9] - spread).abs() < 0.12 * (uniform[4:9] - spread).abs() + 1e-6).all()


def test_a_constant_node_and_a_single_layer() -> None:
    x = torch.cat([points(50, 1), torch.full((50, 1), 3.0, dtype=torch.float64)], 1)
    layer = QKANLayer(2, 2, generator=generator(0), dtype=torch.float64)
    assert_close(to_kan(layer, x, grid=20)(x), layer(x), "constant input", 1e-4)


def test_dtype_follows_and_the_model_is_left_alone() -> None:
    made = QKAN([2, 3, 1])
    before = copy.deepcopy(made.state_dict())
    kan = to_kan(made, points(100, 2).float())
    assert all(p.dtype == torch.float32 for p in kan.parameters())
    assert all(torch.equal(v, before[k]) for k, v in made.state_dict().items())


@pytest.mark.filterwarnings("ignore::qkan.ScaleWarning")
def test_the_splines_train_on() -> None:
    made, x = model(), points(300, 2)
    kan = to_kan(made, x, grid=3)
    y = torch.stack([x[:, 0] * x[:, 1], x[:, 0]], -1)
    before = (kan(x) - y).square().mean().item()
    history = fit(kan, (x, y), steps=5, progress=False)
    assert history.train_loss[-1] < before / 10


# --- files ---


PYKAN = """
import torch, warnings
warnings.simplefilter("ignore")
from kan import KAN
torch.set_default_dtype(torch.float64)
x = torch.load("x.pt")
for name in NAMES:
    torch.save(KAN.loadckpt(name)(x).detach(), name + ".out")
for base in ("silu", "zero"):
    model = KAN([2, 3, 1], grid=4, k=3, seed=1, auto_save=False, base_fun=base, noise_scale=0.5)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad and p.ndim < 3:
                p += 0.05 * torch.arange(p.numel()).reshape(p.shape) / p.numel()
        model.act_fun[0].mask[0, 1] = 0
    torch.save(model(0.8 * x).detach(), base + "-made.out")
    model.saveckpt(base + "-made")
"""
LOADED = ("silu", "identity, groups", "gelu, fixed")


@pytest.fixture(scope="module")
def pykan(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor, dict[str, SplineKAN]]:
    """What pykan makes of our files, and files of its own: in another process, as it seeds
    globally, writes to the folder it is in and prints at will.
    """
    pytest.importorskip("kan")
    folder, x = tmp_path_factory.mktemp("pykan"), points(20, 2)
    made = {name.partition(",")[0]: to_kan(model(**OPTIONS[name]), x, degree=2) for name in LOADED}
    for name, kan in made.items():
        assert save_pykan(kan, folder / name) == folder / name
    torch.save(x, folder / "x.pt")
    done = subprocess.run(
        [sys.executable, "-c", PYKAN.replace("NAMES", repr([*made]))],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, x, made


def test_pykan_loads_and_evaluates_what_is_written(pykan: Any) -> None:
    folder, x, made = pykan
    for name, kan in made.items():
        assert_close(torch.load(folder / f"{name}.out"), kan(x), name)


@pytest.mark.parametrize("base", ["silu", "zero"])
def test_a_pykan_checkpoint_is_read(pykan: Any, base: str) -> None:
    folder, x, _ = pykan
    wanted = torch.load(folder / f"{base}-made.out")
    kan = read_kan(folder / f"{base}-made")
    assert kan.widths == [2, 3, 1] and kan.layers[0].base == (base if base == "silu" else None)
    assert_close(kan(0.8 * x), wanted, "checkpoint")
    assert_close(read_kan(str(folder / f"{base}-made"))(0.8 * x), wanted, "a path as text")
    if base == "silu":
        state = torch.load(folder / "silu-made_state")
        assert_close(read_kan(state)(0.8 * x), wanted, "state_dict")


class PretendPykan(nn.Module):
    """What `read_kan` looks at of a pykan model: its state_dict and the name of its base."""

    def __init__(self, state: dict[str, Tensor], base: str) -> None:
        super().__init__()
        self.state, self.base_fun_name = state, base

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        return self.state


def test_every_scale_of_a_pykan_state_counts() -> None:
    kan, x = to_kan(model(), points(100, 2)), points(100, 2)[:30]
    state = pykan_state_dict(kan)
    state["node_scale_1"] *= 2
    state["subnode_scale_1"] *= -1.5
    state["subnode_bias_1"] += 0.25
    state["node_bias_1"] += 1.0
    bias = kan.layers[1].bias
    wanted = -3 * (kan(x) - bias) + 0.5 + bias + 1
    found = read_kan(PretendPykan(state, "silu"))
    assert_close(found(x), wanted, "node scales and biases")


@pytest.mark.filterwarnings("ignore::qkan.ScaleWarning")
def test_efficient_kan_has_the_same_function() -> None:
    kan, x = to_kan(model(), points(100, 2), grid=5), points(100, 2)[:30]
    state = efficient_state_dict(kan)
    assert state["layers.0.spline_weight"].shape == (3, 2, 8)
    assert state["layers.0.grid"].shape == (2, 12) and state["layers.1.base_weight"].shape == (2, 3)
    assert_close(read_kan(state)(x), kan(x), "efficient-kan", 1e-9)
    del state["layers.0.spline_scaler"]
    assert_close(read_kan(state)(x), kan(x), "without scalers", 1e-9)


def test_the_checkpoint_is_plain_yaml(tmp_path: Path) -> None:
    import yaml

    save_pykan(to_kan(model(), points(100, 2)), tmp_path / "deep" / "kan")
    text = (tmp_path / "deep" / "kan_config.yml").read_text()
    assert yaml.safe_load(text) == json.loads(text)


# --- from_kan ---


def test_there_and_back() -> None:
    x = points(400, 2)
    kan = to_kan(model(), x, grid=8)
    back = from_kan(kan, reps=4, starts=4, steps=10, generator=generator(0))
    assert back.widths == [2, 3, 2] and back.layers[0].base == "silu"
    assert (back(x) - kan(x)).square().mean().sqrt() < 5e-3 * kan(x).std()
    assert torch.equal(back.layers[0].base_weight, kan.layers[0].base_weight)


def test_the_curves_of_a_known_kan_are_found() -> None:
    low = torch.tensor([-2.0, 1.0], dtype=torch.float64)
    knots = uniform_grid(low, low + 3, 9, 3)
    kan = SplineKAN([SplineLayer(knots, torch.zeros(1, 2, 12, dtype=torch.float64), base=None)])
    x = low + 3 * torch.rand(500, 2, generator=generator(0), dtype=torch.float64)
    y = torch.sin(2 * x[:, :1]) + torch.log(x[:, 1:])
    fit(kan, (x, y), steps=10, progress=False)
    made = from_kan(kan, generator=generator(1), reps=3, steps=20)
    assert made.layers[0].base is None
    assert (made(x) - y).square().mean() < 1e-6


@pytest.mark.parametrize("name", ["px", "rpz"])
def test_any_circuit_can_be_fitted(name: str) -> None:
    x = points(200, 1)
    kan = to_kan(QKAN([1, 1], base=None, generator=generator(0), dtype=torch.float64), x)
    made = from_kan(kan, ansatz=name, reps=4, generator=generator(0), steps=15)
    assert (made(x) - kan(x)).square().mean().sqrt() < 2e-2 * kan(x).std()


def test_starts_come_from_the_generator() -> None:
    kan = to_kan(QKAN([1, 1]), points(50, 1).float())
    state = torch.get_rng_state()
    first, again = (from_kan(kan, steps=1, starts=2, generator=generator(3)) for _ in range(2))
    assert torch.equal(first.layers[0].theta, again.layers[0].theta)
    assert (
        torch.equal(torch.get_rng_state(), state) and first.layers[0].theta.dtype == torch.float32
    )


@pytest.mark.full
def test_the_transfer_experiment_runs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    short = ["--first", "0", "--seeds", "2", "--starts", "1", "--short", "0.01"]
    done = subprocess.run(
        [sys.executable, str(EXPERIMENTS), "transfer", *short, "--out", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "transfer.json").read_text())
    assert record["settings"]["seeds"] == [0, 1] and len(record["samples"]) == 2
    methods = {"QKAN", "grid 5, Adam", "grid 10, Adam", "from scratch, grid 5, LBFGS"}
    assert methods <= set(record["summary"]) == set(record["samples"][0]["test_mse"])
    assert (tmp_path / "transfer.png").read_bytes().startswith(b"\x89PNG")


def small() -> SplineKAN:
    return SplineKAN.start([2, 1], generator=generator(0))


def pykan_state(**changes: Any) -> dict[str, Tensor]:
    return pykan_state_dict(small()) | changes


def nan_model() -> QKAN:
    made = QKAN([2, 1])
    with torch.no_grad():
        made.layers[0].weight[0, 0] = np.nan
    return made


X = torch.zeros(3, 2)
KNOTS = torch.arange(12.0)
WRONG = {
    "a linear layer": (lambda: to_kan(nn.Linear(2, 1), X), "model is Linear"),
    "nan model": (lambda: to_kan(nan_model(), X), r"layers\.0\.weight"),
    "nan data": (lambda: to_kan(QKAN([2, 1]), X / 0), "not finite at sample 0"),
    "grid": (lambda: to_kan(QKAN([2, 1]), X, grid=0), "grid=0"),
    "degree": (lambda: to_kan(QKAN([2, 1]), X, degree=2.0), "degree=2.0"),
    "margin": (lambda: to_kan(QKAN([2, 1]), X, margin=-1), "margin=-1"),
    "adaptive": (lambda: to_kan(QKAN([2, 1]), X, adaptive=1.0), "adaptive=1.0"),
    "starts": (lambda: from_kan(small(), starts=0), "starts=0"),
    "steps": (lambda: from_kan(small(), steps=0), "steps=0"),
    "base": (lambda: from_kan(small(), base="silu"), r"\['base'\] follow"),
    "unknown option": (lambda: from_kan(small(), repz=3), "reps"),
    "no kan": (lambda: read_kan(3), "int; pass a pykan model"),
    "no state": (lambda: read_kan({"weight": X}), "neither act_fun"),
    "another module": (lambda: read_kan(nn.Linear(1, 1)), "neither act_fun"),
    "no file": (lambda: read_kan("nowhere/kan"), "does not exist"),
    "symbolic edge": (
        lambda: read_kan(pykan_state(**{"symbolic_fun.0.mask": torch.ones(1, 2)})), "symbolic edge",
    ),
    "multiplication": (
        lambda: read_kan(pykan_state(subnode_scale_0=torch.ones(3))), "multiplication nodes",
    ),
    "pykan base": (lambda: read_kan(PretendPykan(pykan_state(), "gelu")), "activation is 'gelu'"),
    "shapes": (lambda: SplineLayer(KNOTS[None], torch.zeros(1, 2, 8)), "with the same i"),
    "knots": (lambda: SplineLayer(0 * KNOTS[None], torch.zeros(1, 1, 8)), "must ascend"),
    "layer base": (lambda: SplineLayer(KNOTS[None], torch.zeros(1, 1, 8), base="relu"), "'relu'"),
    "bias": (lambda: SplineLayer(KNOTS[None], torch.zeros(1, 1, 8), bias=X), r"bias is \(3, 2\)"),
    "no layer": (lambda: SplineKAN([]), "do not match: "),
    "sizes": (lambda: SplineKAN([*small().layers, *small().layers]), "do not match: "),
    "mixed layers": (
        lambda: save_pykan(
            SplineKAN([*small().layers, *SplineKAN.start([1, 1], grid=4).layers]), "x"
        ), "the same in all",
    ),
    "efficient identity": (
        lambda: efficient_state_dict(to_kan(QKAN([2, 1], base="identity"), X)), "efficient-kan has",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_right_is_refused_with_a_reason(case: str) -> None:
    ask, message = WRONG[case]
    with pytest.raises((QKANError, TypeError), match=message):
        ask()
