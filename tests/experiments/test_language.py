"""The language-model experiments at tiny sizes: their parts do what the records say of them."""

from __future__ import annotations

import collections
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.source_only

PNG = b"\x89PNG"
WORDS = "the model learns what another one did before and after it saw some new text".split()


@pytest.fixture(scope="module")
def scripts(load: Callable[[str], Any]) -> dict[str, Any]:
    return {name: load(f"language.{name}") for name in ("albert", "char_lm", "minilm")}


@pytest.fixture
def char_lm(scripts: dict[str, Any]) -> Any:
    return scripts["char_lm"]


@pytest.fixture(scope="module")
def text(scripts: dict[str, Any]) -> Any:
    tokens = torch.randint(65, (2000,), generator=torch.Generator().manual_seed(0))
    return scripts["char_lm"].Text(tokens[:1500], tokens[1500:1700], tokens[1700:])


def test_a_run_is_computed_once_for_equal_settings(scripts: Any, tmp_path: Path) -> None:
    from shared.runs import Runs

    calls: list[float] = []

    def do() -> dict[str, Any]:
        calls.append(0.5)
        return {"loss": (len(calls), 0.5)}

    runs = Runs(tmp_path / "out" / "runs.json")
    first = runs.get({"seed": 1, "sizes": (2, 3)}, do)
    again = Runs(runs.path).get({"seed": 1, "sizes": (2, 3)}, do)
    other = Runs(runs.path).get({"seed": 2, "sizes": (2, 3)}, do)
    assert first == again == {"loss": [1, 0.5]} and other == {"loss": [2, 0.5]}
    assert len(Runs(runs.path).done) == 2
    # it has not seen the second run, which another process might have made
    runs.get({"seed": 3}, do)
    assert len(Runs(runs.path).done) == 3


def test_all_candidates_have_equally_many_trials(scripts: dict[str, Any]) -> None:
    from language.students import VARIANTS

    assert len({len(trials) for trials in scripts["char_lm"].TRIALS.values()}) == 1
    assert len({len(forms) for forms in VARIANTS.values()}) == 1


def test_no_control_of_the_language_model_is_given_less_than_hqkan(char_lm: Any) -> None:
    from language.ffn import parameters

    shapes = {
        kind: {json.dumps(shape): shape for shape, _ in trials}.values()
        for kind, trials in char_lm.TRIALS.items()
    }
    counts = {
        kind: [parameters(char_lm.SIZE.width, shape) for shape in found]
        for kind, found in shapes.items()
    }
    for mine in ("HQKAN", "Linear → QKANLayer"):
        for kind in ("MLP", "identity"):
            assert max(counts[mine]) <= 1.005 * max(counts[kind])


def test_a_fitted_shape_is_the_largest_within_the_budget(scripts: Any) -> None:
    from language.ffn import parameters
    from language.students import VARIANTS, fitted

    for forms in VARIANTS.values():
        for form in forms:
            shape = fitted(48, form, 3000)
            larger = shape | {"latent": shape["latent"] + 1}
            assert parameters(48, shape) <= 3000 < parameters(48, larger)


def test_the_gpt_sees_no_later_character(char_lm: Any) -> None:
    model = char_lm.build({"latent": 5, "activation": "gelu"}, seed=0)
    x = torch.randint(65, (2, 64), generator=torch.Generator().manual_seed(1))
    changed = x.clone()
    changed[:, 40] = (x[:, 40] + 1) % 65
    with torch.no_grad():
        before, after = model(x), model(changed)
    assert torch.allclose(before[:, :40], after[:, :40], atol=1e-5)
    assert not torch.allclose(before[:, 40:], after[:, 40:], atol=1e-3)
    following = x.roll(-1, dims=1).flatten()
    start = torch.nn.functional.cross_entropy(before.flatten(0, 1), following).item()
    assert math.isclose(start, math.log(65), rel_tol=0.05)


def test_a_text_loss_is_the_mean_over_its_characters(char_lm: Any, text: Any) -> None:
    model = char_lm.build({"latent": 3, "activation": "silu"}, seed=0)
    tokens = text.test[: 2 * 64 + 1]
    with torch.no_grad():
        logits = model(tokens[:-1].view(2, 64)).flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, tokens[1:]).item()
    assert math.isclose(char_lm.loss_on(model, tokens), expected, rel_tol=1e-6)


def test_the_rate_warms_up_and_falls_to_a_tenth(char_lm: Any) -> None:
    factors = [char_lm.schedule(step, 200) for step in range(200)]
    assert 0 < factors[0] < 0.15 and max(factors) == factors[10] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert math.isclose(char_lm.schedule(200, 200), 0.1)


def test_training_repeats_by_seed_and_leaves_the_global_generator(char_lm: Any, text: Any) -> None:
    state = torch.get_rng_state()
    shape = {"encoding": "linear", "reps": 1, "latent": 2}
    first, again, other = (
        char_lm.run(text, shape, 1e-3, seed, 3, True) for seed in (1, 1, 2)
    )  # fmt: skip
    assert torch.equal(state, torch.get_rng_state())
    assert first["test_loss"] == again["test_loss"] != other["test_loss"]
    assert [point[0] for point in first["curve"]] == [1, 2, 3]
    assert first["curve"][-1][-1] == first["validation_loss"]
    assert char_lm.run(text, shape, 1e-3, 1, 3, False)["test_loss"] is None


def test_the_study_chooses_trains_and_draws(
    char_lm: Any, text: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    mlp, hqkan = {"latent": 2, "activation": "relu"}, {"latent": 2, "reps": 1}
    monkeypatch.setattr(char_lm, "TRIALS", {"HQKAN": [(hqkan, 1e-3)] * 2, "MLP": [(mlp, 1e-2)] * 2})
    monkeypatch.setattr(char_lm, "TRIAL_STEPS", 1)
    monkeypatch.setattr(char_lm, "STEPS", 3)
    monkeypatch.setattr(char_lm, "ENCODING_SEEDS", (3,))
    monkeypatch.setattr(char_lm, "load_text", lambda: text)
    char_lm.main(["--out", str(tmp_path), "--seeds", "2"])
    assert "HQKAN, 2 trials" in capsys.readouterr().out
    assert (tmp_path / "char_lm.png").read_bytes().startswith(PNG)
    record = json.loads((tmp_path / "char_lm.json").read_text())
    losses = [[run["test_loss"] for run in record["samples"][kind]] for kind in ("HQKAN", "MLP")]
    assert record["hqkan_minus_others"]["MLP"]["values"] == [
        a - b for a, b in zip(*losses, strict=True)
    ]
    assert record["summary"]["MLP"]["test_loss"]["values"] == losses[1]
    assert len(record["encodings"]) == 4 and "commit" in record["environment"]


def test_a_missing_text_says_where_it_comes_from(
    char_lm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QKAN_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match=r"tinyshakespeare.txt is missing\. Fetch https://"):
        char_lm.load_text()
    lines = "\n\n".join(f"KATE:\nWhat says the man of number {n} to this? O!" for n in range(200))
    (tmp_path / "tinyshakespeare.txt").write_text(lines)
    found = char_lm.load_text()
    sizes = [len(part) for part in (found.train, found.validation, found.test)]
    assert sum(sizes) == len(lines) and sizes[0] == int(0.9 * len(lines))


ATOM = re.compile(r"\[([A-Za-z][a-z]?)[^\]]*\]|(Cl|Br|[BCNOPSFI]|[cnos])")


def atoms(smiles: str) -> collections.Counter[str]:
    """Heavy atoms of a SMILES by element."""
    found = ("".join(pair) for pair in ATOM.findall(smiles))
    names = ("N" if name in ("nH", "NH") else name.capitalize() for name in found)
    return collections.Counter(names)


def test_made_up_reactions_make_nothing_out_of_nothing(scripts: Any) -> None:
    from language.reactions import KINDS, reactions

    found = reactions(400, seed=1)
    assert found == reactions(400, seed=1) != reactions(400, seed=2)
    assert len(set(found)) == 400 and len(KINDS) == 9
    for reaction in found:
        before, after = (atoms(side) for side in reaction.split(">>"))
        assert after <= before, reaction
        for molecule in re.split(r"\.|>>", reaction):
            bare = re.sub(r"\[[^\]]*\]", "", molecule)
            digits = collections.Counter(re.findall(r"\d", bare))
            assert all(count % 2 == 0 for count in digits.values()), reaction
            assert bare.count("(") == bare.count(")"), reaction


def write_vocabulary(folder: Path, tokens: list[str]) -> int:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    names = list(dict.fromkeys([*special, *tokens]))
    (folder / "vocab.txt").write_text("\n".join(names) + "\n")
    return len(names)


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of whole words in the folder, of the tokens in its vocab.txt."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    lines = (folder / "vocab.txt").read_text().splitlines()
    words = tokenizers.models.WordLevel({word: n for n, word in enumerate(lines)}, "[UNK]")
    made = tokenizers.Tokenizer(words)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]")
    tokenizer.save_pretrained(folder)


@pytest.fixture
def small_albert(scripts: dict[str, Any], tmp_path: Path) -> Any:
    import transformers

    albert = scripts["albert"]
    texts = albert.parts({"train": 8, "validation": 4, "test": 4})
    tokens = [
        token for part in texts.values() for text in part for token in albert.TOKEN.findall(text)
    ]
    config = transformers.AlbertConfig(
        vocab_size=write_vocabulary(tmp_path, tokens), embedding_size=8, hidden_size=32,
        num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        max_position_embeddings=256,
    )  # fmt: skip
    transformers.AlbertForMaskedLM(config).save_pretrained(tmp_path)
    return albert.task(tmp_path, texts)


def test_albert_masks_and_scores(
    scripts: dict[str, Any], small_albert: Any, tmp_path: Path
) -> None:
    albert, tokenizer = scripts["albert"], scripts["albert"].Tokenizer(tmp_path)
    texts = albert.Masked(albert.parts({"train": 8})["train"], tokenizer, 0)
    seen = list(texts.with_answers())
    again = list(texts)
    for (batch, _), same in zip(seen, again, strict=True):
        assert torch.equal(batch["input_ids"], same["input_ids"])
    mask = texts.tokenizer.ids["[MASK]"]
    for batch, answers in seen:
        hidden = answers != -100
        assert torch.equal(hidden, batch["input_ids"] == mask) and hidden.any()
        assert not (hidden & (batch["attention_mask"] == 0)).any()

    class Oracle(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            answers = next(a for b, a in seen if torch.equal(b["input_ids"], input_ids))
            right = answers.clamp(min=0)
            logits = 100 * torch.nn.functional.one_hot(right, len(texts.tokenizer.ids)).float()
            return type("Output", (), {"logits": logits})

    assert albert.score(Oracle(), texts) == {"accuracy": 1.0, "perplexity": 1.0}


@pytest.mark.full
def test_the_albert_study_runs_whole(small_albert: Any, tmp_path: Path) -> None:
    from language.students import (
        GUIDED,
        KINDS,
        SHARES,
        Steps,
        Study,
        figure,
        print_table,
        without_blocks,
    )
    from shared.runs import Runs

    kinds, runs = (*KINDS, *GUIDED), Runs(tmp_path / "runs.json")
    study = Study(small_albert, runs, Steps(1, 1), Steps(2, 2), kinds)
    trials = study.trials(seed=0)
    assert {len(tried) for tried in trials.values()} == {4}
    found = study.finals(trials, seeds=(1,))
    assert [run["kind"] for run in found] == [*kinds] * len(SHARES)
    guided = {run["settings"]["self_guided"] for run in runs.done}
    assert guided == {0.0, 0.5}
    for run in found:
        assert run["after"] <= run["before"] / run["share"] and run["end_to_end_loss"][0] > 0
        assert len(run["block_errors"]) == 1 and min(run["block_errors"].values()) > 0
    floor = small_albert.judge(without_blocks(small_albert.teacher), "test")
    print_table(found, {"no FFN": floor}, ("accuracy", "perplexity"))
    drawn = figure(found, {"no FFN": floor}, ("accuracy", "perplexity"), tmp_path / "a.png")
    assert drawn.read_bytes().startswith(PNG)


def test_a_student_with_the_teachers_weights_scores_one(
    scripts: dict[str, Any], tmp_path: Path
) -> None:
    import transformers

    minilm = scripts["minilm"]
    documents = {f"document {n}": [f"{a} {b} {n}" for a in WORDS for b in WORDS] for n in range(20)}
    texts = minilm.parts(documents, {"train": 32, "validation": 8, "test": 8})
    owners = [{text.rsplit(" ", 1)[1] for text in part} for part in texts.values()]
    assert not (owners[0] & owners[1] or owners[0] & owners[2] or owners[1] & owners[2])
    size = write_vocabulary(tmp_path, WORDS)
    write_tokenizer(tmp_path)
    config = transformers.BertConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=128,
    )  # fmt: skip
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    work = minilm.task(tmp_path, texts)
    assert work.judge(work.teacher, "test") == pytest.approx(dict.fromkeys(minilm.NAMES, 1.0))
    from language.students import VARIANTS, Lessons, Steps, fitted, train

    shape = fitted(work.width, VARIANTS["HQKAN"][0], work.block_parameters // 4)
    student, course = train(work, Lessons(work), shape, 1e-3, 0, Steps(1, 1))
    assert 0 < work.judge(student, "test")["cosine"] < 1 and len(course["block_errors"]) == 2
    rows = minilm.speed(work, [{"kind": "HQKAN", "share": 4, "shape": shape}], repeats=2)
    assert {row["model"] for row in rows} == {"teacher", "HQKAN 1/4"}
    assert all(len(row["samples"]) == 2 for row in rows)


def test_pairs_are_what_the_teachers_blocks_get_and_give(
    scripts: dict[str, Any], small_albert: Any
) -> None:
    from language.students import Lessons, relative_error

    teacher, lessons = small_albert.teacher, Lessons(small_albert)
    (name, (x, y)), *others = lessons.pairs.items()
    # one block, used by both layers
    tokens = sum(int(batch["attention_mask"].sum()) for batch in small_albert.batches)
    assert not others and len(x) == 2 * tokens
    layer = teacher.get_submodule(name.rpartition(".")[0])
    with torch.no_grad():
        assert torch.allclose(layer.ffn_output(layer.activation(layer.ffn(x))), y, atol=1e-5)
        batch = small_albert.batches[0]
        found = lessons.teacher(**batch)
        assert torch.equal(found.logits, teacher(**batch).logits)
        assert lessons.teacher(**batch) is found
    assert relative_error(y, y) == 0 and 0.4 < relative_error(torch.zeros_like(y), y) < 1


def test_batches_are_of_texts_of_about_one_length(scripts: dict[str, Any]) -> None:
    from language.students import alike

    texts = ["x" * (17 * n % 23) for n in range(23)]
    found = alike(texts, 5)
    assert sorted(text for row in found for text in row) == sorted(texts)
    assert found == alike(texts, 5) and found != [sorted(texts)[n : n + 5] for n in range(0, 23, 5)]
    assert all(max(map(len, row)) - min(map(len, row)) < 5 for row in found)


def test_a_layer_behind_a_linear_map_starts_as_an_hqkan_does(scripts: dict[str, Any]) -> None:
    from language.ffn import make_ffn

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 64, generator=generator)
    for shape in (
        {"up": False, "latent": 32, "group": 8, "base": None, "start": "gelu"},
        {"up": False, "latent": 32, "group": 8, "reps": 1, "encoding": "linear"},
        {"latent": 32, "activation": "silu", "gate": True},
    ):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            block = make_ffn(64, shape)
        with torch.no_grad():
            assert 0.05 < float(block(x).square().mean().sqrt()) < 0.2, shape
