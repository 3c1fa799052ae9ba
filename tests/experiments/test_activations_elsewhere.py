"""Learnt activations on images, and tuning nothing else, at a tiny size: records and sections."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytestmark = pytest.mark.source_only


@pytest.fixture(scope="module")
def images(load: Callable[[str], Any]) -> Any:
    return load("images.activation_images")


@pytest.fixture(scope="module")
def tuning(load: Callable[[str], Any]) -> Any:
    return load("language.tuning")


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    return torch.randint(256, (count, 3, 16, 16), generator=generator).byte(), labels


def test_models_on_images_begin_as_the_one_with_gelu(images: Any) -> None:
    from images.datasets import Images

    data = Images("noise", pictures(40, 0), pictures(20, 1), pictures(20, 2))
    x = data.test[0]
    models = {name: images.build(row, data, 3).eval() for name, row in images.ROWS.items()}
    wanted = models["GELU"](x)
    for name, model in models.items():
        assert torch.equal(model(x), wanted) == name.startswith("GELU"), name
    counts = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    assert counts["GELU + DARUAN"] == counts["GELU"] + images.LAYERS * 8 * 6
    assert counts[images.SINE] == counts["GELU"] + images.LAYERS * 8 * 3


def test_a_study_on_images_is_recorded_and_reported(
    images: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from images.activation_images_report import section
    from images.datasets import Images

    data = Images("noise", pictures(40, 0), pictures(20, 1), pictures(20, 2))
    monkeypatch.setattr(images, "cifar10", lambda held: data)
    monkeypatch.setattr(images, "RATES", (1e-3, 2e-3))
    monkeypatch.setattr(images, "ROWS", {k: images.ROWS[k] for k in [*images.ROWS][:3]})
    asked = ["--out", str(tmp_path), "--steps", "2", "--trial-steps", "1", "--seeds", "2"]
    images.main(asked)
    record = json.loads((tmp_path / "activation_images.json").read_text())
    assert len(record["runs"]) == 3 * (2 + 2)
    images.main(asked)
    assert json.loads((tmp_path / "activation_images.json").read_text()) == record
    assert "| GELU + DARUAN |" in capsys.readouterr().out
    assert (tmp_path / "activation_images.png").read_bytes().startswith(b"\x89PNG")
    lines = section(record)
    assert lines[0].startswith("GELU + DARUAN is ahead of the classical learnt one, GELU + a·sin")
    assert "p = " in lines[0] and "of 2 seeds" in lines[0]
    assert section({**record, "runs": []}) == []


class Words:
    """A tokenizer that numbers words."""

    def __call__(self, texts: list[str], **options: Any) -> dict[str, Tensor]:
        rows = [torch.tensor([1 + len(word) % 20 for word in text.split()][:6]) for text in texts]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def small_body() -> torch.nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=30, hidden_size=16, num_attention_heads=2, intermediate_size=32,
        num_hidden_layers=2, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    return BertModel(config, add_pooling_layer=False).eval()


def test_adapters_begin_as_the_model_and_nothing_else_learns(tuning: Any) -> None:
    body, words = small_body(), Words()
    given = words(["a few words here", "and some other ones"])
    wanted = body(**given).last_hidden_state
    for row in tuning.ROWS:
        torch.manual_seed(1)
        model = tuning.Tuned(body, row).eval()
        found = model.body(**given).last_hidden_state
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6, msg=row)
        before = [p.detach().clone() for p in model.parameters()]
        torch.nn.init.normal_(model.head.weight)
        model(given).square().sum().backward()
        learning = {id(p) for p in model.parameters() if p.grad is not None}
        own = {id(p) for p in (*model.adapter, *model.head.parameters())}
        assert learning == own, row
        assert len(before) == len([*model.parameters()])
    assert all(p.requires_grad and p.grad is None for p in body.parameters())


def test_sentences_are_split_by_document(tuning: Any) -> None:
    found = {}
    for label in tuning.CLASSES:
        between = " " if label == "Shakespeare" else "/"
        for n in range(20):
            found[f"{label}{between}{n}"] = [f"{label} {n} {k}" for k in range(6)]
    parts = tuning.labelled(found, {"train": 50, "validation": 10, "test": 10})
    assert {part: len(rows) for part, rows in parts.items()} == {
        "train": 50, "validation": 10, "test": 10,
    }  # fmt: skip
    documents = [{text.rsplit(" ", 1)[0] for text, _ in rows} for rows in parts.values()]
    assert not documents[0] & documents[1] and not documents[0] & documents[2]
    assert all(text.startswith(tuning.CLASSES[label]) for text, label in parts["test"])


def test_a_study_of_adapters_is_recorded_and_reported(
    tuning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from language.tuning_report import section

    rows = [(f"{'word ' * (label + 2)}{n}", label) for label in range(5) for n in range(8)]
    texts = tuning.Texts({"train": rows, "validation": rows[::3], "test": rows[::4]}, Words())
    monkeypatch.setattr(tuning, "load", lambda: (small_body(), texts))
    monkeypatch.setattr(tuning, "RATES", (1e-3, 1e-2))
    asked = ["--out", str(tmp_path), "--steps", "2", "--trial-steps", "1", "--seeds", "2"]
    tuning.main(asked)
    record = json.loads((tmp_path / "tuning.json").read_text())
    assert len(record["runs"]) == len(tuning.ROWS) * (2 + 2)
    tuning.main(asked)
    assert json.loads((tmp_path / "tuning.json").read_text()) == record
    lines = section(record)
    assert lines[0].startswith("Best on validation: ")
    assert sum(line.startswith(f"| {row} |") for row in tuning.ROWS for line in lines) == 6
    assert section({**record, "runs": []}) == []
