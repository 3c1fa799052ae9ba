"""The image experiments at tiny sizes: loaders, heads of equal size, and the studies whole."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qkan import effective_parameters

pytestmark = pytest.mark.source_only

PNG = b"\x89PNG"
MODULES = ("classify", "datasets", "mnist", "cifar", "mnist_report", "cifar_report")


@pytest.fixture(scope="module")
def scripts(load: Callable[[str], Any]) -> dict[str, Any]:
    pytest.importorskip("matplotlib")
    return {name: load(f"images.{name}") for name in MODULES}


Arrays = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("QKAN_DATA", str(data))
    return data


def drawn(n: int, *shape: int, seed: int = 0) -> Arrays:
    """Images whose class, sorted, is their brightness."""
    generator = np.random.default_rng(seed)
    y = np.sort(generator.integers(10, size=n)).astype(np.uint8)
    noise = generator.integers(60, size=(n, *shape))
    return (noise + 19 * y.reshape(-1, *[1] * len(shape))).astype(np.uint8), y


def write_keras(folder: Path, train: Arrays, test: Arrays) -> None:
    arrays = dict(zip(("x_train", "y_train", "x_test", "y_test"), (*train, *test), strict=True))
    np.savez(folder / "mnist.npz", **arrays)


def write_parts(folder: Path, train: Arrays, test: Arrays) -> None:
    for part, (x, y) in (("train", train), ("test", test)):
        np.savez(folder / f"mnist_{part}.npz", x=x, y=y)


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_idx(folder: Path, train: Arrays, test: Arrays) -> None:
    for part, (x, y) in (("train", train), ("t10k", test)):
        packed = gzip.compress(idx(x))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(packed)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(y))


def write_cifar_archive(folder: Path, train: Arrays, test: Arrays) -> None:
    files = {f"data_batch_{n + 1}": part for n, part in enumerate(zip(
        *(np.array_split(array, 5) for array in train), strict=True))}  # fmt: skip
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, (x, y) in {**files, "test_batch": test}.items():
            data = np.concatenate([y[:, None], x.reshape(len(x), -1)], 1).tobytes()
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def write_cifar_jpeg(folder: Path, train: Arrays, test: Arrays) -> None:
    from PIL import Image

    arrays = {}
    for part, (x, y) in (("train", train), ("test", test)):
        files = []
        for image in x.transpose(0, 2, 3, 1):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=95, subsampling=0)
            files.append(buffer.getvalue())
        arrays[f"{part}_jpeg"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{part}_offset"] = np.cumsum([0, *map(len, files)])
        arrays[f"{part}_y"] = y
    np.savez(folder / "cifar10_jpeg.npz", **arrays)


def as_rows(*pairs: Any) -> list[bytes]:
    """Every image with its class, in order of bytes."""
    return sorted(
        bytes([int(label)]) + image.numpy().tobytes()
        for x, y in pairs
        for image, label in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("write", [write_keras, write_parts, write_idx])
def test_mnist_is_read_in_every_form(scripts: dict[str, Any], folder: Path, write: Any) -> None:
    train, test = drawn(50, 28, 28), drawn(20, 28, 28, seed=1)
    write(folder, train, test)
    found = scripts["datasets"].mnist(10)
    assert found.name == "MNIST" and found.train[0].shape == (40, 1, 28, 28)
    given = torch.from_numpy(train[0])[:, None], torch.from_numpy(train[1])
    assert as_rows(found.train, found.validation) == as_rows(given)
    assert torch.equal(found.test[0][:, 0], torch.from_numpy(test[0]))
    assert torch.equal(found.test[1], torch.from_numpy(test[1]).long())
    # sorted by class as the file is, its end has one class only
    assert len(found.validation[1].unique()) > 3


def test_cifar_is_read_in_both_forms(scripts: dict[str, Any], folder: Path) -> None:
    train, test = drawn(50, 3, 32, 32), drawn(20, 3, 32, 32, seed=1)
    write_cifar_archive(folder, train, test)
    found = scripts["datasets"].cifar10(10)
    assert found.name == "CIFAR-10"
    given = torch.from_numpy(train[0]), torch.from_numpy(train[1])
    assert as_rows(found.train, found.validation) == as_rows(given)
    write_cifar_jpeg(folder, train, test)
    lossy = scripts["datasets"].cifar10(10)
    assert lossy.name == "CIFAR-10 (JPEG)"
    for part, same in ((lossy.train, found.train), (lossy.test, found.test)):
        assert torch.equal(part[1], same[1])
        assert (part[0].float() - same[0].float()).abs().mean() < 12


def test_missing_images_say_where_they_come_from(scripts: dict[str, Any], folder: Path) -> None:
    with pytest.raises(SystemExit, match=r"has no MNIST\. Fetch https://.*mnist\.npz"):
        scripts["datasets"].mnist(10)
    with pytest.raises(SystemExit, match=r"has no CIFAR-10\. Fetch https://.*QKAN_DATA"):
        scripts["datasets"].cifar10(10)
    write_idx(folder, drawn(5, 28, 28), drawn(5, 28, 28))
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(SystemExit, match=r"shape \[5\] has 3 values"):
        scripts["datasets"].mnist(2)
    path.write_bytes(b"\0\0\x0d\1")
    with pytest.raises(SystemExit, match="starts with 0 0 8"):
        scripts["datasets"].mnist(2)


def test_every_kind_of_head_has_as_many_trials(scripts: dict[str, Any]) -> None:
    for trials in (scripts["mnist"].TRIALS, scripts["cifar"].trials()):
        assert len({len(planned) for planned in trials.values()}) == 1
        for planned in trials.values():
            assert len({json.dumps(trial) for trial in planned}) == len(planned)


def test_the_mnist_models_keep_to_the_limit(scripts: dict[str, Any]) -> None:
    mnist, classify = scripts["mnist"], scripts["classify"]
    counts: dict[str, set[int]] = {}
    for kind, trials in mnist.TRIALS.items():
        for head, _ in trials:
            model = torch.nn.Sequential(mnist.body(), classify.make_head(10, 10, head))
            plain = classify.plain_parameters(model)
            assert effective_parameters(model) <= plain <= mnist.LIMIT
            counts.setdefault(kind, set()).add(plain)
    assert max(counts["QKAN"]) <= min(counts["MLP"])


def test_cifar_heads_of_a_size_are_equal_within_a_percent(scripts: dict[str, Any]) -> None:
    cifar, classify = scripts["cifar"], scripts["classify"]
    for size in cifar.LATENT:
        heads = [cifar.sized(form, size) for forms in cifar.FORMS.values() for form in forms]
        models = [classify.make_head(cifar.FEATURES, 10, head) for head in heads]
        plain = [classify.plain_parameters(model) for model in models]
        assert max(plain) <= 1.01 * min(plain)
        assert plain == [effective_parameters(model) for model in models]


def test_images_are_prepared_to_mean_0_and_spread_1(scripts: dict[str, Any]) -> None:
    x = torch.from_numpy(drawn(40, 3, 8, 8)[0])
    prepare = scripts["classify"].Prepare(x, flip=True)
    prepare.eval()
    plain = prepare(x)
    channels = plain.movedim(1, 0).flatten(1)
    assert torch.allclose(channels.mean(1), torch.zeros(3), atol=1e-5)
    assert torch.allclose(channels.std(1, correction=0), torch.ones(3), atol=1e-4)
    prepare.train()
    seen = prepare(x)
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(seen, plain, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(seen, plain, strict=True)]
    assert sum(mirrored) + sum(same) == 40 and 8 < sum(mirrored) < 32


def test_a_run_repeats_by_seed_and_judges_what_it_trained(
    scripts: dict[str, Any], folder: Path
) -> None:
    classify, mnist = scripts["classify"], scripts["mnist"]
    write_parts(folder, drawn(300, 28, 28), drawn(60, 28, 28, seed=1))
    task = classify.Task(scripts["datasets"].mnist(60), mnist.body, mnist.FEATURES)
    trial = ({"kind": "QKAN", **classify.CIRCUITS[1]}, 3e-2)
    state = torch.get_rng_state()
    first, again = (classify.train(task, trial, 3, 1, test=True) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert {**first, "cpu_seconds": 0} == {**again, "cpu_seconds": 0}
    assert first["validation_loss"] == pytest.approx(min(first["validation_losses"]), rel=1e-4)
    assert len(first["validation_losses"]) == 3
    other = classify.train(task, trial, 1, 2, test=False)
    assert other["test_accuracy"] is None
    assert other["validation_loss"] != first["validation_losses"][0]


def test_judging_counts_every_sample_once(scripts: dict[str, Any]) -> None:
    y = torch.arange(1003) % 4
    logits = torch.randn(1003, 4, generator=torch.Generator().manual_seed(0))
    loss, accuracy = scripts["classify"].judge(torch.nn.Identity(), (logits, y))
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(logits, y).item(), rel=1e-5)
    assert accuracy == pytest.approx((logits.argmax(-1) == y).double().mean().item())


def shorten(monkeypatch: pytest.MonkeyPatch, script: Any) -> None:
    for name, value in (("HELD", 20), ("EPOCHS", 2), ("TRIAL_EPOCHS", 1), ("SEEDS", (1, 2))):
        monkeypatch.setattr(script, name, value)


def check_means(record: dict[str, Any]) -> None:
    for name, row in record["summary"].items():
        tests = [run["test_accuracy"] for run in record["samples"][name]]
        assert row["test_accuracy"]["values"] == tests
        assert row["test_accuracy"]["mean"] == pytest.approx(sum(tests) / len(tests))


def test_the_mnist_study_runs_whole(
    scripts: dict[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist = scripts["mnist"]
    write_parts(folder, drawn(100, 28, 28), drawn(30, 28, 28, seed=1))
    shorten(monkeypatch, mnist)
    few = {kind: trials[:1] for kind, trials in mnist.TRIALS.items()}
    monkeypatch.setattr(mnist, "TRIALS", few)
    mnist.main(["--out", str(tmp_path)])
    assert (tmp_path / "mnist.png").read_bytes().startswith(PNG)
    record = json.loads((tmp_path / "mnist.json").read_text())
    check_means(record)
    assert record["settings"]["parts"] == [80, 20, 30]
    assert {run["seed"] for run in record["samples"]["MLP"]} == {1, 2}
    assert {run["test_accuracy"] for runs in record["trials"].values() for run in runs} == {None}
    text = "\n".join(scripts["mnist_report"].section(record))
    qkan = record["summary"]["QKAN"]
    assert (
        f"| QKAN, pz, 2 repetitions | 710 | 1,896 | {qkan['test_accuracy']['mean']:.2%} ± " in text
    )
    low = {**record, "summary": {**record["summary"], "QKAN": {
        **qkan, "test_accuracy": {"mean": 0.9589, "sd": 0.0, "values": [0.9589] * 2}}}}  # fmt: skip
    assert "does not reach the goal of" in "\n".join(scripts["mnist_report"].section(low))


def test_the_cifar_study_runs_whole(
    scripts: dict[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar = scripts["cifar"]
    write_cifar_jpeg(folder, drawn(100, 3, 32, 32), drawn(30, 3, 32, 32, seed=1))
    shorten(monkeypatch, cifar)
    monkeypatch.setattr(cifar, "RATES", (1e-2,))
    monkeypatch.setattr(cifar, "LINEAR_RATES", (1e-2, 2e-2))
    cifar.main(["--out", str(tmp_path)])
    assert (tmp_path / "cifar.png").read_bytes().startswith(PNG)
    record = json.loads((tmp_path / "cifar.json").read_text())
    check_means(record)
    names = [f"{kind} {size}" for kind in ("HQKAN", "MLP") for size in cifar.LATENT]
    assert [*record["summary"]] == [*names, "linear"]
    mine, other = (
        [run["test_accuracy"] for run in record["samples"][f"{kind} large"]]
        for kind in ("HQKAN", "MLP")
    )
    expected = [a - b for a, b in zip(mine, other, strict=True)]
    assert record["hqkan_minus_mlp"]["large"]["values"] == expected
    text = "\n".join(scripts["cifar_report"].section(record))
    assert text.startswith("CIFAR-10 (JPEG) has 80 training") and "| linear | 2,570 |" in text
    assert text.count("| HQKAN, ") == text.count("| MLP, ") == 3
