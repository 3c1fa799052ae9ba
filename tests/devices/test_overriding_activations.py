"""What a `with` lends a model is not copied, not pickled, and gone when the `with` is."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from exact_backend import ExactBackend
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from qkan import QKAN, QKANError, load, noisy, on_device, save
from qkan.circuits import DeviceNoise, PulseNoise

WEAK = DeviceNoise(PulseNoise(0.5, 0.5, 0.0), PulseNoise(0.5, 0.5, 0.0))


def network() -> QKAN:
    return QKAN([2, 3, 1], engine="torch", generator=torch.Generator().manual_seed(0))


def inputs() -> Tensor:
    return torch.rand(5, 2, generator=torch.Generator().manual_seed(1))


def through_torch(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    found: nn.Module = torch.load(buffer, weights_only=False)
    return found


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": through_torch,
    "average": lambda model: AveragedModel(model).module,
}


@pytest.mark.parametrize("where", ["noisy", "on_device"])
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_the_model_alone_inside_and_after(how: str, where: str) -> None:
    model, x = network(), inputs()
    backend = ExactBackend(shots=0)
    lent = noisy(model, WEAK) if where == "noisy" else on_device(model, backend)
    wanted = model(x)
    with lent:
        twin = COPIES[how](model)
        assert torch.equal(twin(x), wanted)
        assert not any(layer.activations for layer in twin.layers)  # type: ignore[union-attr]
        jobs = () if where == "noisy" else lent.jobs  # type: ignore[union-attr]
        assert jobs == () and not torch.equal(model(x), wanted)
    assert torch.equal(twin(x), wanted) and torch.equal(model(x), wanted)
    with noisy(twin, WEAK):
        assert not torch.equal(twin(x), wanted)


@pytest.mark.parametrize("where", ["noisy", "on_device"])
def test_a_shallow_copy_refuses_after_the_end(where: str) -> None:
    model, x = network().layers[0], inputs()
    lent = noisy(model, WEAK) if where == "noisy" else on_device(model, ExactBackend(shots=0))
    with lent:
        twin = copy.copy(model)
        found = twin(x)
        assert torch.equal(found, model(x))
    with pytest.raises(QKANError, match=r"that `with` block has ended\. Use the model itself"):
        twin(x)
    assert model(x).shape == (5, 3)


def test_an_error_inside_ends_it_too() -> None:
    model, x = network(), inputs()
    with pytest.raises(ZeroDivisionError), noisy(model, WEAK):
        twin = copy.copy(model.layers[0])
        raise ZeroDivisionError
    with pytest.raises(QKANError, match="has ended"):
        twin(x)
    assert model.layers[0].activations is None


def test_save_inside_writes_the_model(tmp_path: Path) -> None:
    model, x = network(), inputs()
    with noisy(model, WEAK):
        save(model, tmp_path / "model")
    assert torch.equal(load(tmp_path / "model")(x), model(x))
