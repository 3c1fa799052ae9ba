"""Every engine that claims a card, in many uses of a layer: values and gradients of the CPU."""

from __future__ import annotations

import contextlib

import pytest
import torch
from card_combinations import EVERY, Combination, covering, pairs, selection
from card_module import module, waits
from compare import assert_close
from torch import Tensor
from torch.func import functional_call

import qkan

TOLERANCE = {"float32": 2e-4, "float64": 1e-9, "bfloat16": 0.05, "autocast": 0.05}
Found = dict[str, Tensor]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "combination" in metafunc.fixturenames:
        chosen = selection(EVERY, metafunc.config.getoption("--full"))
        metafunc.parametrize("combination", chosen, ids=str)


def test_the_selection_holds_every_pair() -> None:
    chosen = covering(EVERY)
    assert set().union(*map(pairs, chosen)) == set().union(*map(pairs, EVERY))
    assert len(chosen) < len(EVERY) / 20
    assert {one.engine for one in chosen} == {one.engine for one in EVERY}


# what is left of a graph that breaks: torch's compiler asks tensors that are no leaves
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_values_and_gradients_are_those_of_the_cpu(
    combination: Combination, card: torch.device
) -> None:
    layer, x = _problem(combination, combination.engine)
    plain, y = _problem(combination, "torch")
    wanted = _use(combination, plain, y)
    found = _use(combination, layer.to(card), x.detach().to(card).requires_grad_())
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        assert tensor.device == card, name
        assert tensor.dtype == wanted[name].dtype, name
        size = float(wanted[name].detach().abs().double().mean()) + 1e-3
        assert_close(
            tensor.cpu().double() / size, wanted[name].double() / size, name,
            TOLERANCE[combination.number],
        )  # fmt: skip


@pytest.mark.parametrize("engine", ["torch", "fourier", "cupy", "chebyshev"])
def test_several_observables_are_those_of_the_cpu(engine: str, card: torch.device) -> None:
    options = {"encoding": "linear"} if engine == "fourier" else {}
    layer = qkan.QKANLayer(5, 3, engine=engine, observable=("x", "y", "z"), **options)
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    found = {}
    for device in (torch.device("cpu"), card):
        layer.engine = "torch" if device.type == "cpu" else engine
        placed, held = layer.to(device), x.detach().to(device).requires_grad_()
        layer.zero_grad()
        out = placed(held)
        out.square().sum().backward()
        assert out.shape == (40, 3, 3) and held.grad is not None and layer.theta.grad is not None
        found[device] = [t.detach().cpu().clone() for t in (out, held.grad, layer.theta.grad)]
    for mine, wanted in zip(found[card], found[torch.device("cpu")], strict=True):
        assert_close(mine / 100, wanted / 100, engine, 2e-5)


@pytest.mark.parametrize("engine", ["auto", "torch", "fourier", "cupy", "chebyshev"])
def test_only_an_engine_that_looks_at_the_inputs_lets_the_host_wait(
    engine: str, card: torch.device
) -> None:
    options = {"encoding": "linear"} if engine in ("auto", "fourier") else {}
    layer = qkan.QKANLayer(5, 3, engine=engine, device=card, **options)
    x = torch.randn(40, 5, device=card, requires_grad=True)
    layer(x).sum().backward()
    with waits() as found:
        layer(x).square().sum().backward()
    # the degree of a series depends on numbers
    assert found == (["_local_scalar_dense"] if engine == "chebyshev" else [])


@pytest.mark.parametrize("engine", ["auto", "torch", "fourier", "cupy", "chebyshev"])
def test_a_training_step_can_be_captured(engine: str, card: torch.device) -> None:
    """While a graph is captured no engine asks for a number, for none has been computed."""
    options = {"encoding": "linear"} if engine == "fourier" else {}
    layer = qkan.QKANLayer(5, 3, engine=engine, device=card, **options)
    x = torch.randn(40, 5, device=card, requires_grad=True)
    layer(x).sum().backward()
    with module.capture():
        layer(x).square().sum().backward()


def _problem(combination: Combination, engine: str) -> tuple[qkan.QKANLayer, Tensor]:
    generator = torch.Generator().manual_seed(3)
    layer = qkan.QKANLayer(
        5, 3, encoding=combination.encoding, group=combination.group, base=combination.base,
        reps=2, engine=engine, generator=generator, dtype=combination.dtype,
    )  # fmt: skip
    with torch.no_grad():
        layer.mask[1, 2] = 0
    shape = (48, 5) if combination.dimensions == 2 else (6, 8, 5)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return layer, x.to(combination.dtype).requires_grad_()


def _use(combination: Combination, layer: qkan.QKANLayer, x: Tensor) -> Found:
    kind = x.device.type
    rounded = combination.number == "autocast"
    with torch.autocast(kind, torch.bfloat16) if rounded else contextlib.nullcontext():
        match combination.use:
            case "inference":
                with torch.no_grad():
                    return {"value": layer.eval()(x)}
            case "vmap":
                return _ensemble(layer, x)
            case "functional_call":
                parameters = {n: p.detach().clone() for n, p in layer.named_parameters()}
                for tensor in parameters.values():
                    tensor.requires_grad_()
                value = functional_call(layer, parameters, (x,))
            case "compile" if kind == "card":
                parameters = dict(layer.named_parameters())
                value = torch.compile(layer, backend="aot_eager")(x)
            case _:
                parameters = dict(layer.named_parameters())
                value = layer(x)
    leaves = {"x": x, **parameters}
    slopes = torch.autograd.grad(value.float().square().sum(), list(leaves.values()))
    return {"value": value, **dict(zip(leaves, slopes, strict=True))}


def _ensemble(layer: qkan.QKANLayer, x: Tensor) -> Found:
    """Values and gradients of two layers at once."""
    both = {n: torch.stack([p, 0.5 * p]).detach() for n, p in layer.named_parameters()}

    def loss(parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        value = functional_call(layer, parameters, (x.detach(),))
        return value.float().square().sum(), value

    slopes, value = torch.func.vmap(torch.func.grad(loss, has_aux=True))(both)
    return {"value": value, **slopes}
