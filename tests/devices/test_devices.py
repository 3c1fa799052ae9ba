"""Models on devices: what is measured, what it costs, and refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compare import assert_close
from device_models import DOUBLE, EXACT, MODELS, inputs, network, run
from exact_backend import ExactBackend
from torch import Tensor, nn

from qkan import QKANError, estimate

# ---- values


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("mode", ["sequential", "teacher_forced"])
def test_an_exact_device_gives_the_models_values(name: str, mode: str) -> None:
    model, shape = MODELS[name]
    x = inputs(*shape)
    model.eval()
    with torch.no_grad():
        wanted = model(x)
    model.train()
    result = run(model, x, EXACT(), mode=mode)
    assert_close(result.values, wanted, name)
    assert_close(result.stderr, torch.zeros_like(wanted), "stderr", 1e-6)
    assert result.complete and result.mode == mode
    assert model.training and all(m.training for m in model.modules())


def test_single_precision_is_cast() -> None:
    model, x = network([3, 2, 1], torch.float32), inputs(5, 3, dtype=torch.float32)
    result = run(model, x, EXACT())
    assert result.values.dtype == result.stderr.dtype == torch.float32
    assert_close(result.values, model(x), "values", 1e-5)
    half = network([3, 2], torch.bfloat16)
    assert run(half, x.bfloat16(), EXACT()).values.dtype == torch.bfloat16


def test_pruned_edges_and_copies_within_a_group_are_never_measured() -> None:
    sizes: dict[str, list[int]] = {
        "pruned": [5 * 5, 5 * 1], "group": [7 * 5, 7 * 3], "group without its outputs": [3 * 4],
    }  # fmt: skip
    for name, values in sizes.items():
        backend, (model, shape) = EXACT(), MODELS[name]
        plan = estimate(model, inputs(*shape), backend)
        assert not backend.measured, "an estimate submits nothing"
        assert [stage.values for stage in plan.stages] == values
        run(model, inputs(*shape), backend)
        assert [task.angles[..., 0].size for task in backend.measured] == values


def test_nothing_to_measure_is_no_job() -> None:
    backend = EXACT(before=lambda call: pytest.fail("a job was submitted"))
    result = run(network([3, 2]), inputs(0, 3), backend)
    assert result.values.shape == result.stderr.shape == (0, 2)
    assert result.jobs == () and result.seconds == 0
    model = network([3, 2])
    with torch.no_grad():
        model.layers[0].mask.zero_()
        assert_close(run(model, inputs(4, 3), backend).values, model(inputs(4, 3)), "all pruned")


def test_layers_called_twice_are_measured_twice() -> None:
    layer = network([3, 3]).layers[0]
    backend, model = EXACT(), nn.Sequential(layer, nn.Tanh(), layer)
    plan = estimate(model, inputs(2, 3), backend)
    assert [stage.name for stage in plan.stages] == ["0", "0 (call 2)"]
    assert_close(run(model, inputs(2, 3), backend).values, model(inputs(2, 3)), "values")


def test_the_heavy_edges_are_named_to_the_backend() -> None:
    backend, model = EXACT(), network([3, 2], group=1)
    with torch.no_grad():
        model.layers[0].weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, 0.25]]))
        model.layers[0].mask[1, 0] = 0
    run(model, inputs(1, 3), backend)
    assert backend.measured[0].weight.tolist() == [1.0, 2.0, 0.75]


# ---- the plan


def test_the_plan_adds_up_and_prints() -> None:
    backend = ExactBackend(shots=100, width=8)
    plan = estimate(network([3, 2, 1]), inputs(7, 3), backend)
    assert [(s.name, s.values, s.cost.rows) for s in plan.stages] == [
        ("layers.0", 42, 6), ("layers.1", 14, 2),
    ]  # fmt: skip
    assert (plan.values, plan.rows, plan.jobs, plan.executions) == (56, 8, 2, 800)
    assert plan.seconds == pytest.approx(4 + 800 * 3.5e-4) and plan.seconds_left is None
    text = str(plan).splitlines()
    assert text[0] == "exact, 100 shots a value, 8 qubits at once" and text[-1].split()[:5] == [
        "in", "all", "56", "8", "2",
    ]  # fmt: skip
    forced = estimate(network([3, 2, 1]), inputs(7, 3), backend, mode="teacher_forced")
    assert (forced.values, forced.rows, forced.jobs) == (56, 7, 1)
    step = estimate(network([3, 2, 1]), inputs(7, 3), backend, gradient="parameter-shift")
    assert step.values == 56 * 17


# ---- bad input: named, and nothing is submitted


def test_a_bad_input_is_named_and_nothing_is_submitted() -> None:
    backend = EXACT(before=lambda call: pytest.fail("a job was submitted"))
    model = network([3, 2, 1])
    for value in (torch.nan, torch.inf):
        x = inputs(5, 3)
        x[3, 1] = value
        with pytest.raises(QKANError, match=rf"sample 3, feature 1 is {value} \(1 such"):
            run(model, x, backend)
    wrong: list[tuple[Any, str]] = [
        (torch.ones(2, 3, dtype=torch.complex64), "complex64"),
        (torch.ones(2, 3, dtype=torch.long), "int64"),
        ([[1.0, 2.0, 3.0]], "list"),
        (torch.ones(2, 4, dtype=DOUBLE), "in_features=3"),
        (torch.ones(2, 3), "float32"),
    ]
    for x, found in wrong:
        with pytest.raises(QKANError, match=found):
            run(model, x, backend)
    with pytest.raises(QKANError, match="Known: hybrid, parameter-shift"):
        estimate(model, inputs(2, 3), backend, gradient="adjoint")
    with pytest.raises(QKANError, match="Known: sequential, teacher_forced"):
        run(model, inputs(2, 3), backend, mode="parallel")
    with pytest.raises(QKANError, match="no QKANLayer"):
        run(nn.Linear(3, 2), inputs(2, 3), backend)
    with pytest.raises(QKANError, match=r"wanted a torch\.nn\.Module"):
        run("model", inputs(2, 3), backend)


@pytest.mark.parametrize("name", ["theta", "scale", "shift", "weight", "base_weight"])
def test_a_bad_parameter_is_named_with_layer_and_edge(name: str) -> None:
    model = network([3, 2, 1])
    with torch.no_grad():
        getattr(model.layers[1], name)[0, 1] = torch.nan
    with pytest.raises(QKANError, match=rf"layers\.1: {name} of the edge of output 0, input 1 is"):
        run(model, inputs(2, 3), EXACT())
    grouped = network([3, 2], group=2)
    with torch.no_grad():
        grouped.layers[0].theta[1] = torch.inf
    with pytest.raises(QKANError, match=r"layers\.0: theta of group 1 is inf"):
        run(grouped, inputs(2, 3), EXACT())


def test_a_bad_classical_layer_and_an_overflow_between_layers() -> None:
    class Log(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.log(x)

    backend = EXACT(before=lambda call: pytest.fail("a job was submitted"))
    model = nn.Sequential(Log(), network([2, 1]))
    with pytest.raises(QKANError, match=r"1\.layers\.0: for sample 1, input 0 is -inf"):
        run(model, torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=DOUBLE), backend)
    linear = nn.Sequential(nn.Linear(2, 2).double(), network([2, 1]))
    with torch.no_grad():
        linear[0].bias[1] = torch.nan
    with pytest.raises(QKANError, match=r"0\.bias"):
        run(linear, inputs(2, 2), backend)


def test_models_that_mix_up_samples_or_return_no_tensor_are_refused() -> None:
    class Chunks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = network([2, 1])

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x[:-1])
            return out

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = network([2, 1])

        def forward(self, x: Tensor) -> Any:
            return self.layer(x), x

    with pytest.raises(QKANError, match="2 rows for 3 samples"):
        run(Chunks(), inputs(3, 2), EXACT())
    with pytest.raises(QKANError, match="returned a tuple"):
        run(Pair(), inputs(3, 2), EXACT())
