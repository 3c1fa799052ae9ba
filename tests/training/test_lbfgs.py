"""`qkan.LBFGS` takes the steps of `torch.optim.LBFGS`, and goes on from its own state exactly."""

import functools

import pytest
import torch
from torch import Tensor, nn

import qkan
from qkan.training.lbfgs import _History

TORCH = functools.partial(torch.optim.LBFGS, lr=1.0, line_search_fn="strong_wolfe")


def two_loops(pairs: list[tuple[Tensor, Tensor]], gradient: Tensor) -> Tensor:
    """The direction as textbooks compute it (Nocedal and Wright 2006, Algorithm 7.4)."""
    direction, alphas = gradient.clone(), []
    for s, y in reversed(pairs):
        alphas.append(s.dot(direction) / s.dot(y))
        direction -= alphas[-1] * y
    s, y = pairs[-1]
    direction *= s.dot(y) / y.dot(y)
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        direction += (alpha - y.dot(direction) / s.dot(y)) * s
    return -direction


def test_the_direction_is_that_of_the_two_loops_also_when_pairs_are_dropped() -> None:
    torch.manual_seed(0)
    size, parameters = 5, 11
    matrix = torch.randn(parameters, parameters, dtype=torch.float64)
    hessian = matrix @ matrix.T + torch.eye(parameters)
    history = _History({}, torch.zeros(parameters, dtype=torch.float64), size)
    point = torch.randn(parameters, dtype=torch.float64)
    torch.testing.assert_close(history.direction(hessian @ point), -hessian @ point)
    pairs: list[tuple[Tensor, Tensor]] = []
    for _ in range(4 * size):
        change = torch.randn(parameters, dtype=torch.float64)
        history.moved(change)
        point = point + change
        pairs = [*pairs, (change, hessian @ change)][-size:]
        found = history.direction(hessian @ point)
        torch.testing.assert_close(found, two_loops(pairs, hessian @ point), rtol=1e-9, atol=1e-9)


def rosenbrock(parameters: list[nn.Parameter]) -> Tensor:
    x = torch.cat([p.reshape(-1) for p in parameters])
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def begun(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    """Parameters of several shapes."""
    torch.manual_seed(1)
    return [
        nn.Parameter(torch.randn(3, dtype=dtype)),
        nn.Parameter(torch.randn(2, 3, dtype=dtype)),
        nn.Parameter(torch.randn((), dtype=dtype)),
    ]


def descend(
    parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, steps: int
) -> list[float]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = rosenbrock(parameters)
        loss.backward()
        return loss

    return [optimizer.step(closure).item() for _ in range(steps)]  # type: ignore[arg-type]


@pytest.mark.parametrize("history_size", [3, 100])
def test_the_steps_are_those_of_torch(history_size: int) -> None:
    losses = []
    for make in (TORCH, qkan.LBFGS):
        parameters = begun()
        losses.append(
            descend(parameters, make(parameters, max_iter=4, history_size=history_size), 6)
        )
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=1e-9)
    assert losses[1][-1] < 0.1 * losses[1][0]


def test_parameters_that_are_not_contiguous_give_the_same() -> None:
    plain, transposed = begun(), begun()
    transposed[1] = nn.Parameter(transposed[1].detach().T.contiguous().T)
    assert not transposed[1].is_contiguous()
    assert descend(plain, qkan.LBFGS(plain), 2) == descend(transposed, qkan.LBFGS(transposed), 2)


def test_a_network_is_fitted_as_well_as_by_torch() -> None:
    x = torch.linspace(-1, 1, 64, dtype=torch.float64)[:, None]
    finals = []
    for optimizer in (TORCH, "lbfgs"):
        torch.manual_seed(0)
        model = qkan.QKAN([1, 2, 1], dtype=torch.float64)
        history = qkan.fit(
            model, (x, torch.sin(3 * x)), optimizer=optimizer, steps=12, progress=False
        )
        finals.append(history.train_loss[-1])
    assert finals[1] < 2 * finals[0] < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_goes_on_from_a_saved_state_to_the_bit(dtype: torch.dtype, tmp_path: object) -> None:
    make = functools.partial(qkan.LBFGS, max_iter=3, history_size=4)
    whole = begun(dtype)
    expected = descend(whole, make(whole), 8)
    first = begun(dtype)
    optimizer = make(first)
    losses = descend(first, optimizer, 4)
    torch.save(optimizer.state_dict(), f"{tmp_path}/state.pt")
    second = [nn.Parameter(p.detach().clone()) for p in first]
    resumed = make(second)
    resumed.load_state_dict(torch.load(f"{tmp_path}/state.pt", weights_only=True))
    assert losses + descend(second, resumed, 4) == expected
    # and the optimizer that was saved has not been touched
    assert losses + descend(first, optimizer, 4) == expected


def test_tolerances_decide_when_a_step_ends() -> None:
    def iterations(**tolerances: float) -> int:
        parameters = [nn.Parameter(1e-4 * torch.randn(20, dtype=torch.float64))]
        calls = 0

        def closure() -> Tensor:
            nonlocal calls
            calls += 1
            optimizer.zero_grad()
            loss = (parameters[0] ** 4).sum() + 1e-3 * (parameters[0] ** 2).sum()
            loss.backward()
            return loss

        optimizer = qkan.LBFGS(parameters, **tolerances)
        optimizer.step(closure)
        return calls

    torch.manual_seed(0)
    assert iterations() < 4 < iterations(tolerance_grad=0, tolerance_change=0)


def test_a_parameter_without_gradient_stays() -> None:
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    optimizer = qkan.LBFGS([used, unused])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = used.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert used.abs().max() < 1e-3
    assert torch.equal(unused, torch.ones(2))


def test_what_it_cannot_do_is_said() -> None:
    p, q = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match="parameter groups"):
        qkan.LBFGS([{"params": [p]}, {"params": [q]}])
    with pytest.raises(ValueError, match="real parameters"):
        qkan.LBFGS([nn.Parameter(torch.ones(1, dtype=torch.complex64))])
    parameters = begun()
    theirs = TORCH(parameters, max_iter=3)
    descend(parameters, theirs, 2)
    with pytest.raises(ValueError, match=r"state of torch\.optim\.LBFGS"):
        qkan.LBFGS(parameters).load_state_dict(theirs.state_dict())
