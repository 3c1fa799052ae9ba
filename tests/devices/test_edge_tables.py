"""Edge tables: measured once, they serve any input within range, with bars that hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CIRCUITS, own_circuit
from compare import assert_close
from exact_backend import ExactBackend
from torch import Tensor, nn

from qkan import QKAN, Circuit, QKANError, estimate, run, tabulate
from qkan.circuits import RY, Encoding, Theta

DOUBLE = torch.float64


def inputs(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.rand(*shape, generator=generator, dtype=DOUBLE) - 1.5


def network(widths: list[int], seed: int = 0, **options: Any) -> QKAN:
    generator = torch.Generator().manual_seed(seed)
    model = QKAN(widths, dtype=DOUBLE, generator=generator, engine="torch", **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=DOUBLE)
        for layer in model.layers:
            if layer.fixed_scale is not None:
                layer.scale.copy_(torch.tensor(layer.fixed_scale).expand_as(layer.scale))
    return model


OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"ansatz": circuit} for name, circuit in CIRCUITS.items() if not circuit.uses_arccos},
    "linear": {"encoding": "linear"},
    "ternary": {"encoding": "ternary", "ansatz": "rpz"},
    "numbers": {"encoding": (1.0, 2.5), "reps": 2},
    "group": {"group": 2},
    "amplitude": {"readout": "amplitude"},
    "range": {"input_range": (-1.5, 1.5)},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_exact_table_is_the_model(name: str) -> None:
    model, x = network([2, 3, 1], **OPTIONS[name]), inputs(40, 2)
    with torch.no_grad():
        model.layers[0].mask[1, 0] = 0
        wanted = model(x)
    backend = ExactBackend(shots=0)
    tables = tabulate(model, x, backend, points=65)
    assert_close(tables(x).values, wanted, name, 1e-5)
    edges = [3 * 2, 3] if name != "group" else [2, 3]
    pruned = 0 if name == "group" else 1
    sizes = [task.angles[..., 0].size for task in backend.measured]
    assert sizes == [65 * (edges[0] - pruned), 65 * edges[1]]
    assert len(tables.jobs) == 1


@pytest.mark.parametrize("name", ["pz3", "own", "ternary", "real3", "group"])
@pytest.mark.parametrize("points", [9, 33])
def test_the_bars_hold(name: str, points: int) -> None:
    model, x = network([2, 3, 2], **OPTIONS[name]), inputs(60, 2)
    within = []
    for seed in range(40):
        backend = ExactBackend(shots=2000, seed=seed, calibration_error=0.01, width=5)
        result = tabulate(model, x, backend, points=points)(x)
        with torch.no_grad():
            within.append(((result.values - model(x)).abs() <= 2 * result.stderr).double().mean())
    assert torch.stack(within).mean() >= 0.93


def test_predicted_and_drawn_spread_agree() -> None:
    model, x = network([2, 2, 2], encoding="linear"), inputs(7, 2)
    results = []
    for seed in range(250):
        backend = ExactBackend(shots=20_000, seed=seed, calibration_error=0.01, width=3)
        results.append(tabulate(model, x, backend, points=9)(x))
    drawn = torch.stack([result.values for result in results]).std(0)
    predicted = torch.stack([result.stderr**2 for result in results]).mean(0).sqrt()
    ratio = predicted / drawn
    assert ((ratio - 1).abs() < 0.12).all() and abs(float(ratio.mean()) - 1) < 0.05, ratio


def test_a_few_points_serve_many_inputs_with_smaller_bars_than_a_run() -> None:
    """40 edges on 33 points and 32 qubits are 42 rows in one job."""
    model, x = network([4, 8, 1]), inputs(200, 4)
    backend = ExactBackend(shots=4096, width=32)
    plan = estimate(model, x, backend, mode="tabulate", points=33)
    assert (plan.values, plan.rows, plan.jobs) == (40 * 33, 42, 1)
    sequential = estimate(model, x, backend)
    assert (sequential.rows, sequential.jobs) == (250, 2)
    table = tabulate(model, x, backend, points=33)(x)
    measured = run(model, x, backend, progress=False)
    assert table.stderr.median() < measured.stderr.median()
    assert table.mode == "tabulate" and table.complete


def test_single_precision_single_vectors_and_more_dimensions() -> None:
    model = network([2, 2]).float()
    tables = tabulate(model, inputs(30, 2).float(), ExactBackend(shots=0))
    x = inputs(3, 2, 2).float() / 2
    with torch.no_grad():
        assert_close(tables(x).values, model(x), "three dimensions", 1e-5)
        assert_close(tables(x[0, 0]).values, model(x[0, 0]), "one vector", 1e-5)
    many = inputs(1025, 2).float() / 2
    assert tables(many).values.shape == (1025, 2) and tables(many).values.dtype == torch.float32
    assert tables(many[:0]).values.shape == (0, 2)


def test_inputs_outside_the_measured_range_are_refused() -> None:
    model, x = network([2, 2, 1]), inputs(40, 2)
    tables = tabulate(model, x, ExactBackend(), margin=0.0)
    beyond = x[:3].clone()
    beyond[2, 1] = x[:, 1].max() + 0.01
    with pytest.raises(QKANError, match=r"layers\.0: for sample 2, input 1 is 1\.\d+, .* on \["):
        tables(beyond)
    # a hidden layer is served only where its own inputs were foreseen
    with torch.no_grad():
        model.layers[0].bias += 5
    with pytest.raises(QKANError, match=r"layers\.1: for sample 0, input 0"):
        tables(x)
    wide = tabulate(model, x, ExactBackend(), margin=0.2)
    assert wide(x + 0.3).complete


def test_edges_that_were_trained_since_are_refused() -> None:
    model, x = network([2, 2, 1]), inputs(40, 2)
    tables = tabulate(model, x, ExactBackend())
    with torch.no_grad():
        model.layers[1].weight *= 0.5
        assert tables(x).complete, "weights may change, circuits may not"
        model.layers[1].theta[0, 1, 2] += 1e-6
    with pytest.raises(QKANError, match=r"layers\.1: the angles, the mask, .* changed"):
        tables(x)


def test_an_interruption_says_how_to_go_on(tmp_path: Path) -> None:
    def stop(call: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        tabulate(network([2, 1]), inputs(9, 2), ExactBackend(before=stop), store=tmp_path)
    assert f"the same tabulate(…, store='{tmp_path}')" in caught.value.__notes__[0]


def test_points_that_are_lost_widen_the_bars() -> None:
    model, x = network([1, 1], encoding="linear"), inputs(20, 1)
    whole = tabulate(model, x, ExactBackend(), points=9)(x)
    gaps = tabulate(model, x, ExactBackend(fail={0: [0, 3, 4]}), points=9)(x)
    assert gaps.complete and gaps.stderr.mean() > whole.stderr.mean()
    none = tabulate(model, x, ExactBackend(fail={0: list(range(9))}), points=9)(x)
    assert none.missing.all()


def test_the_same_call_goes_on_in_its_store(tmp_path: Path) -> None:
    model, x = network([2, 1]), inputs(20, 2)
    first = tabulate(model, x, ExactBackend(), store=tmp_path)(x)

    def nothing(call: int) -> None:
        pytest.fail("measured twice")

    again = tabulate(model, x, ExactBackend(before=nothing, seed=5), store=tmp_path)(x)
    assert torch.equal(first.values, again.values) and first.jobs == again.jobs


def test_bad_use_is_refused() -> None:
    model, x = network([2, 1]), inputs(20, 2)
    backend = ExactBackend(before=lambda call: pytest.fail("a job was submitted"))
    for options, found in (
        ({"points": 1}, "points=1"), ({"points": 2.5}, "points=2.5"), ({"margin": -0.1}, "margin"),
    ):  # fmt: skip
        with pytest.raises(QKANError, match=found):
            tabulate(model, x, backend, **options)
    with pytest.raises(QKANError, match="pass samples"):
        tabulate(model, x[:0], backend)
    x[3, 1] = torch.nan
    with pytest.raises(QKANError, match="sample 3, feature 1"):
        tabulate(model, x, backend)
    with pytest.raises(QKANError, match="no QKANLayer"):
        tabulate(nn.Linear(2, 1), x, backend)
    mixed = Circuit([RY(Theta(0)), RY(Encoding(0, arccos=True))])
    for circuit in ("px", mixed, own_circuit()):
        refused = network([2, 1], ansatz=circuit)
        if refused.layers[0].circuit.uses_arccos:
            with pytest.raises(QKANError, match=r"layers\.0 encodes x through an arccos"):
                tabulate(refused, inputs(3, 2), backend)
