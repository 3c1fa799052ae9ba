"""`QKANConv2d`: a `QKANLayer` on every patch, with the shapes and sides of `torch.nn.Conv2d`."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import assert_close
from torch import Tensor, nn
from torch.nn import functional as F

from qkan import QKANConv2d, QKANError, extend, fit, load, save

DOUBLE = torch.float64
TORCH: dict[str, Any] = {"engine": "torch", "dtype": DOUBLE}
CASES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "plain": ({"kernel_size": 3}, (2, 3, 7, 6)),
    "pairs": (
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)},
        (2, 3, 7, 9),
    ),
    "same": ({"kernel_size": (4, 3), "padding": "same", "dilation": (2, 1)}, (1, 3, 6, 5)),
    "valid": ({"kernel_size": 2, "padding": "valid", "stride": 3}, (3, 3, 8, 8)),
    "reflect": ({"kernel_size": 3, "padding": 1, "padding_mode": "reflect"}, (2, 3, 5, 4)),
    "replicate": ({"kernel_size": 3, "padding": 2, "padding_mode": "replicate"}, (2, 3, 5, 4)),
    "circular": ({"kernel_size": 3, "padding": 1, "padding_mode": "circular"}, (2, 3, 5, 4)),
    "one image": ({"kernel_size": 3, "padding": 1}, (3, 5, 4)),
    "no image": ({"kernel_size": 3}, (0, 3, 5, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_shapes_and_places_are_those_of_conv2d(case: str) -> None:
    sizes, shape = CASES[case]
    conv = QKANConv2d(3, 4, **sizes, base="identity", **TORCH)
    plain = nn.Conv2d(3, 4, **sizes, dtype=DOUBLE)
    with torch.no_grad():
        conv.layer.weight.zero_()
        conv.layer.base_weight.copy_(plain.weight.flatten(1))
        conv.layer.bias.copy_(plain.bias)
    x = torch.randn(shape, dtype=DOUBLE)
    assert_close(conv(x), plain(x), case)


def test_each_place_is_the_layer_of_its_patch() -> None:
    conv = QKANConv2d(2, 3, (2, 3), stride=2, padding=1, **TORCH)
    x = torch.randn(2, 2, 5, 6, dtype=DOUBLE)
    out, padded = conv(x), F.pad(x, (1, 1, 1, 1))
    for row, column in itertools.product(range(out.shape[2]), range(out.shape[3])):
        patch = padded[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 3]
        assert_close(out[:, :, row, column], conv.layer(patch.flatten(1)), f"{row}, {column}")


def test_groups_of_activations_count_channels() -> None:
    conv = QKANConv2d(3, 4, 2, group=3, **TORCH)
    x = torch.randn(1, 3, 2, 2, dtype=DOUBLE)
    before = conv(x)
    with torch.no_grad():
        conv.layer.theta[1] += 1.0
    zeros = x.clone()
    zeros[:, 1] = 0
    change = conv(x) - before
    twin = copy.deepcopy(conv)
    with torch.no_grad():
        conv.layer.theta[1] -= 1.0
    # only the second channel's taps have changed
    other = x.clone()
    other[:, [0, 2]] = 0.3
    assert_close(twin(other) - conv(other), change, "change of the second channel")
    assert QKANConv2d(3, 4, 2, group="inputs").layer.group == 12


def test_every_parameter_and_the_image_have_their_gradients() -> None:
    conv = QKANConv2d(2, 2, 2, padding=1, reps=2, **TORCH)
    x = torch.randn(1, 2, 2, 3, dtype=DOUBLE, requires_grad=True)
    names = [name for name, _ in conv.named_parameters()]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(conv, dict(zip(names, values, strict=True)), (x,))
        return out

    values = [p.detach().clone().requires_grad_() for p in conv.parameters()]
    torch.autograd.gradcheck(run, (x, *values), atol=1e-6)


def test_it_is_saved_extended_compiled_and_trained(tmp_path: Path) -> None:
    conv = QKANConv2d(1, 2, (2, 3), 2, "valid", 1, reps=1, group=1, start="silu", **TORCH)
    x = torch.randn(4, 1, 6, 6, dtype=DOUBLE)
    path = tmp_path / "conv.safetensors"
    save(conv, path)
    loaded = load(path)
    assert loaded.config() == conv.config() and repr(loaded) == repr(conv)
    assert torch.equal(loaded(x), conv(x))
    assert_close(extend(conv, 3)(x), conv(x), "extended")
    assert_close(torch.compile(conv, backend="aot_eager", fullgraph=True)(x), conv(x), "compiled")
    padded = QKANConv2d(1, 2, 3, 2, 1, 2, padding_mode="circular", **TORCH)
    again = QKANConv2d.from_config(padded.config(), dtype=DOUBLE)
    again.load_state_dict(padded.state_dict())
    assert torch.equal(again(x), padded(x)) and repr(again) == repr(padded)
    target = conv(x).detach() + 0.1
    history = fit(conv, (x, target), steps=15, optimizer="adam", progress=False)
    assert history.train_loss[-1] < 0.5 * history.train_loss[0]


def test_the_start_follows_the_generator() -> None:
    first, second = (
        QKANConv2d(2, 2, 2, generator=torch.Generator().manual_seed(1)) for _ in range(2)
    )
    second.reset_parameters()
    assert not torch.equal(first.layer.theta, second.layer.theta)
    second.reset_parameters(torch.Generator().manual_seed(1))
    assert torch.equal(first.layer.theta, second.layer.theta)


CONV = QKANConv2d(3, 2, 3, dilation=2)
WRONG = {
    "channels": (lambda: CONV(torch.zeros(1, 2, 9, 9)), r"pass \(n, 3, h, w\)"),
    "dimensions": (lambda: CONV(torch.zeros(3, 9)), r"pass \(n, 3, h, w\)"),
    "no tensor": (lambda: CONV([1.0]), "list"),
    "small": (lambda: CONV(torch.zeros(1, 3, 4, 9)), r"sides \(4, 9\), less than"),
    "dtype": (lambda: CONV(torch.zeros(1, 3, 9, 9, dtype=DOUBLE)), "float64"),
    "kernel": (lambda: QKANConv2d(1, 1, 0), "kernel_size=0"),
    "three": (lambda: QKANConv2d(1, 1, (1, 2, 3)), "a pair"),
    "stride": (lambda: QKANConv2d(1, 1, 2, stride=0), "stride=0"),
    "padding": (lambda: QKANConv2d(1, 1, 2, padding=-1), "padding=-1"),
    "padding name": (lambda: QKANConv2d(1, 1, 2, padding="some"), "Known: same, valid"),
    "same stride": (lambda: QKANConv2d(1, 1, 2, stride=2, padding="same"), "needs stride=1"),
    "mode": (lambda: QKANConv2d(1, 1, 2, padding_mode="zeroes"), "Did you mean 'zeros'"),
    "no channels": (lambda: QKANConv2d(0, 1, 2), "in_channels=0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_right_is_refused_with_a_reason(case: str) -> None:
    call, message = WRONG[case]
    with pytest.raises(QKANError, match=message):
        call()


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(TypeError, match="Unknown option 'groups'"):
        QKANConv2d(1, 1, 2, groups=2)
