"""`DARUAN`, the activation: what it begins as, what it learns, and where it runs."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qkan import DARUAN, QKANError, QKANLayer, fit, param_groups
from qkan.nn.activation import ACTIVATIONS

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "groups": {"group": 8},
    "uneven groups": {"group": 7, "reps": 3},
    "one a feature": {"group": "inputs"},
    "fixed scales": {"encoding": "ternary", "reps": 3},
    "arccos": {"ansatz": "px", "reps": 2},
    "many repetitions": {"reps": 5},
}
BASES: dict[str, Any] = {
    **{name: name for name in ACTIVATIONS}, "module": nn.Softplus(), "function": F.mish,
}  # fmt: skip


def inputs(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def drawn(features: int | None = 20, **options: Any) -> DARUAN:
    """An activation whose amplitude is not 0."""
    generator = torch.Generator().manual_seed(0)
    return DARUAN(features, **{"amplitude": 0.7, "generator": generator, **options})


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("options", OPTIONS)
def test_it_begins_as_its_base_to_the_bit(base: str, options: str) -> None:
    x, function = inputs(4, 3, 20), BASES[base]
    wanted = (ACTIVATIONS[function] if isinstance(function, str) else function)(x)
    assert torch.equal(DARUAN(20, base=function, **OPTIONS[options])(x), wanted)


@pytest.mark.parametrize("options", OPTIONS)
def test_it_is_base_plus_amplitude_times_circuit(options: str) -> None:
    activation = drawn(base="tanh", dtype=torch.float64, **OPTIONS[options])
    x = inputs(4, 20, dtype=torch.float64)
    index = torch.arange(20) * activation.group // 20
    with torch.no_grad():
        edges = (t[index] for t in (activation.theta, activation.scale, activation.shift))
        phi = activation._values(x, *(t.unsqueeze(0) for t in edges)).squeeze(1)
        wanted = x.tanh() + activation.amplitude[index] * phi
        torch.testing.assert_close(activation(x), wanted, rtol=0, atol=1e-12)
    assert (phi.abs() <= 1 + 1e-12).all() and phi.std() > 0.05


@pytest.mark.parametrize("options", OPTIONS)
def test_every_parameter_leaves_its_start(options: str) -> None:
    generator = torch.Generator().manual_seed(2)
    activation = DARUAN(20, generator=generator, **OPTIONS[options])
    begun = {name: value.clone() for name, value in activation.state_dict().items()}
    optimizer = torch.optim.Adam(activation.parameters(), 1e-2)
    x = inputs(200, 20).clamp(-0.9, 0.9)
    for _ in range(4):
        optimizer.zero_grad()
        (activation(x) - (3 * x).sin()).square().mean().backward()
        optimizer.step()
    used = {k for rotation in activation.program.rotations for k in rotation.thetas}
    for name, parameter in activation.named_parameters():
        moved = (parameter - begun[name]).abs().detach()
        columns = [k for k in range(moved.shape[-1]) if name != "theta" or k in used]
        assert (moved[..., columns] > 1e-5).all(), name


def test_shapes_without_features_and_empty_ones() -> None:
    activation = drawn(None)
    for shape in ((), (1,), (3, 1031), (0, 4), (2, 0)):
        assert activation(torch.zeros(shape)).shape == shape
    assert drawn(20)(torch.zeros(0, 20)).shape == (0, 20)


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a)),
            lambda a: _rebuilt(a)], ids=["deepcopy", "pickle", "config"],
)  # fmt: skip
def test_copies_compute_the_same(how: Any) -> None:
    activation, x = drawn(group=3, reps=2, encoding="binary"), inputs(5, 20)
    assert torch.equal(how(activation)(x), activation(x))


def _rebuilt(activation: DARUAN) -> DARUAN:
    again = DARUAN.from_config(activation.config(), device="meta")
    again.load_state_dict(activation.state_dict(), assign=True)
    return again


def test_it_compiles_as_one_graph() -> None:
    activation = drawn(group=3)
    compiled = torch.compile(activation, fullgraph=True)
    found, wanted = (inputs(6, 20).requires_grad_() for _ in range(2))
    out, plain = compiled(found), activation(wanted)
    torch.testing.assert_close(out, plain)
    out.square().sum().backward()
    plain.square().sum().backward()
    torch.testing.assert_close(found.grad, wanted.grad)


def test_export_trace_transforms_and_other_dtypes() -> None:
    activation, x = drawn(group=3), inputs(6, 20)
    wanted = activation(x)
    exported = torch.export.export(activation, (x,)).module()
    for found in (
        exported(x),
        torch.jit.trace(activation, (x,))(x),
        torch.func.vmap(activation)(x),
    ):
        torch.testing.assert_close(found, wanted)
    half = copy.deepcopy(activation).bfloat16()
    assert half(x.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert activation(x.bfloat16()).dtype == torch.bfloat16
    assert drawn(device="meta")(x.to("meta")).shape == x.shape


def test_an_ensemble_of_parameters_through_vmap() -> None:
    members = [drawn(group=2, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    parameters, buffers = torch.func.stack_module_state(members)  # type: ignore[arg-type]
    bare, x = copy.deepcopy(members[0]).to("meta"), inputs(4, 20)

    def one(p: Any, b: Any) -> Tensor:
        found: Tensor = torch.func.functional_call(bare, (p, b), (x,))
        return found

    found = torch.func.vmap(one)(parameters, buffers)
    torch.testing.assert_close(found, torch.stack([member(x) for member in members]))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DARUAN(4, base="gelou"), "Did you mean 'gelu'"),
        (lambda: DARUAN(4, base=3), "a function from a tensor"),
        (lambda: DARUAN(None, group=3), "pass features, or group=1"),
        (lambda: DARUAN(4, group=5), "group"),
        (lambda: DARUAN(4, amplitude=float("nan")), "finite number"),
        (lambda: DARUAN(4)(torch.zeros(3)), "4"),
        (lambda: DARUAN(4)(torch.zeros(4, dtype=torch.int64)), "real floats"),
        (lambda: DARUAN.from_config(DARUAN(4, base=nn.Softplus()).config()), "Softplus"),
        (lambda: DARUAN(4, base=nn.Softplus), r"a module such as torch\.nn\.Softplus\(\)"),
        (lambda: DARUAN(4, base=lambda x: x[..., :1])(torch.zeros(2, 4)), r"to \(2, 1\)"),
        (lambda: DARUAN(4, base=lambda x: (x, x))(torch.zeros(2, 4)), "to tuple"),
        (lambda: DARUAN(4, base=nn.GLU())(torch.zeros(2, 4)), "GLU maps"),
        (lambda: DARUAN(4, base=lambda x: x.relu_())(torch.zeros(2, 4)), "in place"),
        (lambda: DARUAN(4, group=5), "features=4"),
    ],
)
def test_what_cannot_be_right_is_said(make: Any, said: str) -> None:
    with pytest.raises(QKANError, match=said):
        make()


def test_groups_of_parameters_give_the_angles_their_own_rate() -> None:
    model = nn.Sequential(nn.Linear(3, 20), DARUAN(20, group=4), QKANLayer(20, 2))
    groups = param_groups(model, lr=1e-3, weight_decay=0.1)
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(1e-3, 0.1), (1e-3, 0.0), (1e-2, 0.0)]
    own = {id(p) for p in model[1].parameters()}
    assert {id(p) for p in groups[2]["params"]} == own
    (*_, angles) = param_groups(model, lr=1e-3, angle_lr=0.5)
    assert angles["lr"] == 0.5 and len(angles["params"]) == len(own) + 3
    assert sum(len(g["params"]) for g in groups) == len([*model.parameters()])
    with pytest.raises(QKANError, match="angle_lr=-1"):
        param_groups(model, lr=1e-3, angle_lr=-1)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_fit_gives_the_angles_their_own_rate(optimizer: str) -> None:
    def trained(**options: Any) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(1, 20), DARUAN(20), nn.Linear(20, 1))
        x = torch.linspace(-1, 1, 40).unsqueeze(-1)
        fit(model, (x, (5 * x).sin()), optimizer=optimizer, lr=1e-3, steps=3, progress=False,
            **options)  # fmt: skip
        return [parameter.detach() for parameter in model[1].parameters()]

    slow, default, fast = trained(angle_lr=1e-9), trained(), trained(angle_lr=1e-2)
    assert all(torch.equal(a, b) for a, b in zip(default, fast, strict=True))
    assert any((a - b).abs().max() > 1e-6 for a, b in zip(slow, fast, strict=True))


def test_what_has_no_rate_of_angles_says_so() -> None:
    data = (torch.rand(8, 2), torch.rand(8, 1))
    model = nn.Sequential(nn.Linear(2, 1), DARUAN(1))
    with pytest.raises(QKANError, match=r"angle_lr=0\.1 with LBFGS"):
        fit(model, data, angle_lr=0.1, steps=1, progress=False)
    with pytest.raises(QKANError, match=r"angle_lr=0\.1 was passed with an optimizer of your own"):
        fit(model, data, optimizer=torch.optim.SGD(model.parameters()), angle_lr=0.1, steps=1)


@pytest.mark.parametrize("option", ["start", "readout", "bias", "activation", "aplitude"])
def test_options_of_layers_that_an_activation_lacks_are_refused(option: str) -> None:
    with pytest.raises(TypeError, match=f"Unknown option '{option}'.* amplitude, .*features"):
        DARUAN(4, **{option: True})


@pytest.mark.parametrize("base", [torch.sin, F.relu_, nn.Sequential(nn.ReLU(inplace=True))])
def test_a_function_as_its_base_compiles_as_one_graph(base: Any) -> None:
    x, activation = inputs(5, 20).float(), drawn(base=base).float()
    found = torch.compile(activation, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(found, activation(x))
    assert torch.equal(x, inputs(5, 20).float())


@pytest.mark.parametrize(
    "base", [nn.ReLU(inplace=True), torch.relu_, nn.Sequential(nn.ReLU(inplace=True))]
)
def test_a_base_that_works_in_place_leaves_the_input_to_the_circuit(base: Any) -> None:
    x = inputs(5, 20)
    activation, wanted = drawn(base=base), drawn(base=nn.ReLU())
    found = activation(x)
    assert torch.equal(x, inputs(5, 20)) and torch.equal(found, wanted(x))
    model = nn.Sequential(nn.Linear(20, 20), activation)
    model(x).sum().backward()
    assert activation.theta.grad is not None and activation.theta.grad.abs().max() > 0


class _Doubled(nn.GELU):
    """GELU times two."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def _patched() -> nn.Module:
    base = nn.GELU()
    base.forward = lambda x: 3 * x  # type: ignore[method-assign]
    return base


@pytest.mark.parametrize(
    "base",
    [nn.GELU(), nn.GELU("tanh"), nn.SiLU(), _Doubled(), _patched(), F.gelu, torch.tanh, None],
    ids=repr,
)
def test_the_gradient_is_that_of_the_base_as_it_is(base: Any) -> None:
    activation = DARUAN(6, group=2, base=base, amplitude=0.5, dtype=torch.float64)
    x = torch.randn(9, 6, dtype=torch.float64, requires_grad=True)
    plain = torch.zeros_like(x) if base is None else base(x)
    circuit = DARUAN(6, group=2, base=None, amplitude=0.5, dtype=torch.float64)
    circuit.load_state_dict(activation.state_dict())
    weight = torch.randn(9, 6, dtype=torch.float64)
    wanted = torch.autograd.grad((weight * (plain + circuit(x))).sum(), x)[0]
    found = torch.autograd.grad((weight * activation(x)).sum(), x)[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_hooks_of_a_base_are_called_and_may_change_what_it_returns() -> None:
    base, calls = nn.GELU(), []
    base.register_forward_hook(lambda module, args, out: 2 * out)
    base.register_full_backward_hook(lambda *args: calls.append(args))
    activation, x = DARUAN(6, base=base), torch.randn(4, 6, requires_grad=True)
    out = activation(x)
    torch.testing.assert_close(out, 2 * F.gelu(x))
    out.sum().backward()
    wanted = torch.autograd.grad(2 * F.gelu(x).sum(), x)[0]
    torch.testing.assert_close(x.grad, wanted)
    assert len(calls) == 1


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, "fast", True])
def test_a_rate_of_angles_is_a_number_above_zero(rate: Any) -> None:
    with pytest.raises(QKANError, match=r"angle_lr=.*a finite number above 0, or None"):
        param_groups(DARUAN(4), 1e-3, angle_lr=rate)
