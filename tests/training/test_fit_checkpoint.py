"""`fit(checkpoint=…)`: a run cut short goes on to the bit; a wrong or broken file is told."""

from __future__ import annotations

import functools
import importlib.util
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from fitting import Seen, Stopping, Stream, assert_same, data, line, network, quiet, values
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from qkan import QKAN, QKANError
from qkan.training.fit import fit
from qkan.training.history import History


def dropping() -> nn.Module:
    """A model that draws in training and has buffers."""
    layer = QKAN([4, 1], engine="torch", generator=torch.Generator().manual_seed(2))
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.4), layer)
    for parameter in model[0].parameters():
        nn.init.constant_(parameter, 0.3)
    return model


def loader(seed: int | None = None) -> DataLoader[Any]:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(*data()), batch_size=8, shuffle=True, generator=generator)


RUNS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "lbfgs": (network, data, {}),
    "lbfgs validation": (network, data, {"validation": 0.3}),
    "adam dropout": (dropping, data, {"optimizer": "adam", "batch_size": 10}),
    "adamw cosine": (network, data, {"optimizer": "adamw", "batch_size": 5, "scheduler": "cosine"}),
    "adam plateau": (
        dropping, data,
        {"optimizer": "adam", "lr": 0.3, "batch_size": 9, "validation": 0.25, "scheduler":
         functools.partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0)},
    ),
    "adamw full": (network, data, {"optimizer": "adamw", "validation": data(9, seed=4)}),
    "momentum": (
        dropping, data,
        {"optimizer": functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9), "batch_size": 7},
    ),
    "onecycle": (
        network, data,
        {"optimizer": "adam", "batch_size": 6, "scheduler":
         functools.partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=9)},
    ),
    "loader": (dropping, loader, {"optimizer": "adam", "validation": loader()}),
    "loader with generator": (network, lambda: loader(3), {"optimizer": "adam"}),
    "dataset": (network, lambda: TensorDataset(*data()), {"optimizer": "adam", "batch_size": 8}),
}  # fmt: skip
STEPS = 9


def run(name: str, loss: nn.Module, **more: Any) -> tuple[nn.Module, History]:
    make, source, options = RUNS[name]
    model = make()
    history = quiet(model, source(), **{"loss": loss, "steps": STEPS, "seed": 7, **options, **more})
    return model, history


def everything(model: nn.Module, history: History) -> tuple[list[Any], dict[str, Any]]:
    known = history.to_dict()
    assert len(known.pop("seconds")) == len(history) and not known.pop("interrupted")
    return [*values(model), *(buffer.clone() for buffer in model.buffers())], known


@functools.cache
def uninterrupted(name: str) -> tuple[list[Any], dict[str, Any], int, Any]:
    torch.manual_seed(11)
    loss = Stopping(0, 1.0)
    state = everything(*run(name, loss))
    return *state, loss.calls, torch.get_rng_state()


@pytest.mark.parametrize("how", [KeyboardInterrupt, OSError], ids=["ctrl-c", "crash"])
@pytest.mark.parametrize("name", RUNS)
def test_goes_on_to_the_bit(name: str, how: type[BaseException], tmp_path: Path) -> None:
    tensors, history, calls, rng = uninterrupted(name)
    file = tmp_path / "run.pt"
    torch.manual_seed(11)
    # cut short three times, each somewhere else within a step
    for share in (0.35, 0.3, 0.2):
        loss = Stopping(max(3, int(share * calls)), how)
        if how is KeyboardInterrupt:
            assert run(name, loss, checkpoint=file)[1].interrupted
        else:
            with pytest.raises(how):
                run(name, loss, checkpoint=file)
        torch.manual_seed(99)
    found = everything(*run(name, Stopping(0, 1.0), checkpoint=file))
    assert_same(found[0], tensors)
    assert found[1] == history
    assert torch.equal(rng, torch.get_rng_state())
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.parametrize("name", [n for n in RUNS if n not in ("adamw cosine",)])
def test_a_finished_run_goes_on_with_more_steps(name: str, tmp_path: Path) -> None:
    tensors, history, *_ = uninterrupted(name)
    file = tmp_path / "run.pt"
    torch.manual_seed(11)
    for steps in (1, 4, 4, STEPS):
        model, part = run(name, Stopping(0, 1.0), checkpoint=file, steps=steps)
        assert len(part) == steps
    assert_same(everything(model, part)[0], tensors)
    assert everything(model, part)[1] == history


def test_a_checkpoint_changes_nothing() -> None:
    tensors, history, *_ = uninterrupted("adam dropout")
    torch.manual_seed(11)
    found = everything(*run("adam dropout", Stopping(0, 1.0)))
    assert found[1] == history
    assert_same(found[0], tensors)


def test_patience_may_grow(tmp_path: Path) -> None:
    x, y = line()
    wait = functools.partial(
        quiet, train=(x, y), validation=(x, -y), optimizer="sgd", lr=1e-3, steps=9,
        checkpoint=tmp_path / "run.pt",
    )  # fmt: skip
    assert len(wait(Seen(), patience=2)) == 3
    assert wait(Seen(), patience=2).stopped_early
    longer = wait(Seen(), patience=4)
    assert longer.stopped_early and len(longer) == 5 and longer.best_step == 1
    model = Seen()
    assert not wait(model, patience=None).stopped_early
    twin = Seen()
    quiet(twin, (x, y), optimizer="sgd", lr=1e-3, steps=1)
    assert_same(values(model), values(twin))


def test_without_a_seed_the_drawn_one_is_kept(tmp_path: Path) -> None:
    file, copy = tmp_path / "run.pt", tmp_path / "copy.pt"
    options = {"optimizer": "adam", "batch_size": 4, "validation": 0.3, "seed": None}
    run("lbfgs", Stopping(7, KeyboardInterrupt), checkpoint=file, **options)
    shutil.copy(file, copy)
    first = everything(*run("lbfgs", Stopping(0, 1.0), checkpoint=file, **options))
    second = everything(*run("lbfgs", Stopping(0, 1.0), checkpoint=copy, **options))
    assert_same(first[0], second[0])
    assert first[1] == second[1]


# ---- killed without warning

SCRIPT = """
import sys, time, torch
from torch import nn
from qkan import QKAN
from qkan.fit import fit

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        kan = QKAN([2, 3, 1], engine="torch", generator=torch.Generator().manual_seed(0))
        self.body = nn.Sequential(nn.Dropout(0.2), kan)
        self.pause = 0.0

    def forward(self, x):
        time.sleep(self.pause)
        return self.body(x)

def train(path, pause=0.0):
    torch.manual_seed(5)
    model = Slow()
    model.pause = pause
    x = 2 * torch.rand(40, 2, generator=torch.Generator().manual_seed(1)) - 1
    y = x.square().sum(1, keepdim=True)
    history = fit(model, (x, y), validation=0.25, optimizer="adam", batch_size=7, steps=120,
                  scheduler="cosine", seed=3, progress=False, checkpoint=path)
    return model, history

if __name__ == "__main__":
    torch.set_num_threads(1)
    train(sys.argv[1], pause=0.04)
"""


def load_script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("killed_in_a_test", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_killed_process_goes_on_to_the_bit(tmp_path: Path) -> None:
    script, file = tmp_path / "train.py", tmp_path / "run.pt"
    script.write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, str(script), str(file)])
    try:
        taken, deadline = 0, time.monotonic() + 60
        while taken < 10:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
            if file.exists():
                taken = torch.load(file, weights_only=True)["state"]["steps"]
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 10 <= taken < 120
    module, threads = load_script(script), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        killed, whole = module.train(file), module.train(None)
    finally:
        torch.set_num_threads(threads)
    assert_same(everything(*killed)[0], everything(*whole)[0])
    assert everything(*killed)[1] == everything(*whole)[1]


# ---- files that are wrong


DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"model": QKAN([2, 4, 1])}, "model: QKAN of"),
    "ansatz": ({"model": QKAN([2, 3, 1], ansatz="rpz")}, "model: QKAN of"),
    "input range": ({"model": QKAN([2, 3, 1], input_range=(0, 1))}, "model: QKAN of"),
    "data": ({"train": data(seed=3)}, r"train: \(23, 2\) torch.float32.* there"),
    "validation": ({"validation": data(5)}, r"validation: None there, \(5, 2\)"),
    "loss": ({"loss": "l1"}, "loss: mse there, l1 here"),
    "optimizer": ({"optimizer": "sgd"}, "optimizer: Adam"),
    "lr": ({"lr": 0.5}, "'lr': 0.01.* there, Adam.*'lr': 0.5"),
    "scheduler": ({"scheduler": "cosine"}, "scheduler: None there, CosineAnnealingLR"),
    "batch size": ({"batch_size": 5}, "batch_size: 4 there, 5 here"),
    "seed": ({"seed": 1}, "seed: 0 there, 1 here"),
    "fewer": ({"steps": 2}, r"steps=2, but the run in .*run\.pt has already taken 3"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("fit") / "run.pt"
    quiet(network(), data(), optimizer="adam", batch_size=4, seed=0, steps=3, checkpoint=file)
    return file


@pytest.mark.parametrize("other", DIFFERENT)
def test_another_run_is_told_and_the_model_untouched(other: str, written: Path) -> None:
    options, message = DIFFERENT[other]
    model = options.get("model", network())
    before = values(model)
    arguments = {"optimizer": "adam", "batch_size": 4, "seed": 0, "steps": 3, "train": data()}
    with pytest.raises(QKANError, match=message):
        quiet(**{**arguments, "model": model, **options}, checkpoint=written)
    assert_same(values(model), before)


class Harmful:
    """What unpickling must not run."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("harmful"),))


@pytest.mark.parametrize("length", [0, 1, 100, 0.5, 0.9, -1])
def test_a_truncated_file_is_told(length: float, written: Path, tmp_path: Path) -> None:
    content = written.read_bytes()
    file = tmp_path / "run.pt"
    file.write_bytes(content[: int(length * len(content)) if 0 < length < 1 else int(length)])
    with pytest.raises(QKANError, match=r"truncated or not a checkpoint\. Delete it to start anew"):
        quiet(network(), data(), optimizer="adam", steps=3, checkpoint=file)


def test_other_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "run.pt"
    torch.save(network().state_dict(), file)
    with pytest.raises(QKANError, match="is not a checkpoint of this version's fit"):
        quiet(network(), data(), steps=1, checkpoint=file)
    for write in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        write({"format": Harmful()}, file)
        with pytest.raises(QKANError, match="truncated or not a checkpoint"):
            quiet(network(), data(), steps=1, checkpoint=file)
    assert not (tmp_path / "harmful").exists()
    for path in (tmp_path, tmp_path / "absent" / "run.pt"):
        with pytest.raises(QKANError, match="wanted a file in an existing folder"):
            quiet(network(), data(), steps=1, checkpoint=path)


def test_a_relative_path_and_a_string_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quiet(network(), data(), steps=1, checkpoint="run.pt")
    assert (tmp_path / "run.pt").is_file()


def test_a_stream_goes_on(tmp_path: Path) -> None:
    def squares(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (prediction - target).square().mean()

    stream = functools.partial(
        quiet, train=DataLoader(Stream(), batch_size=2), loss=squares, optimizer="sgd", lr=1e-3
    )
    model, twin = Seen(), Seen()
    for steps in (4, 8):
        stream(model, steps=steps, checkpoint=tmp_path / "run.pt")
    stream(twin, steps=8)
    assert model.batches == twin.batches
    assert_same(values(model), values(twin))


def test_a_state_that_cannot_be_read_back_safely_is_told(tmp_path: Path) -> None:
    class Marked(torch.optim.SGD):
        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "note": slice(3)}

    with pytest.raises(QKANError, match="cannot be kept in a checkpoint: it holds"):
        fit(network(), data(), optimizer=Marked, steps=1, progress=False,
            checkpoint=tmp_path / "run.pt")  # fmt: skip
    assert not list(tmp_path.iterdir())
