"""`distill_ffn`: blocks learn what the teacher's blocks do, end to end too, and runs go on."""

from __future__ import annotations

import copy
import json
import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from distilling import MODELS, albert, bert, block, changed, gpt2, pair, texts, values
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from qkan import HQKAN, Distillation, QKANError, distill_ffn, replace_ffn
from qkan.hybrid.block_pairs import find_pairs
from qkan.hybrid.comparison import call
from qkan.hybrid.stages import module_by_module


@pytest.mark.parametrize("case", MODELS)
def test_the_blocks_learn_and_nothing_else_changes(case: str) -> None:
    build, batches, options, count = MODELS[case]
    torch.manual_seed(0)
    teacher = build()
    student = copy.deepcopy(teacher)
    names = replace_ffn(student, block)
    student.eval()
    before = values(teacher), values(student)
    data = batches()
    fast = torch.backends.mha.get_fastpath_enabled()
    history = distill_ffn(teacher, student, data, steps=40, lr=0.02, progress=False, **options)
    assert list(history.layers) == [*names] and len(names) == count
    for errors in history.layers.values():
        assert len(errors) == 40 and errors[-1] < 0.8 * errors[0]
    assert not changed(before[0], teacher) and teacher.training and not student.training
    moved = changed(before[1], student)
    assert moved and all(any(name.startswith(own) for own in names) for name in moved)
    hooks = [m for m in teacher.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks and all(p.grad is None for p in student.parameters())
    assert torch.backends.mha.get_fastpath_enabled() == fast


def ffn_calls(model: nn.Module, batch: Any, reads: nn.Module, writes: nn.Module) -> list[Any]:
    """(input, output) of every use of a block."""
    seen: list[Any] = []
    handles = [
        reads.register_forward_pre_hook(lambda m, args: seen.append([args[0]])),
        writes.register_forward_hook(lambda m, args, out: seen[-1].append(out)),
    ]
    with torch.no_grad():
        model.eval()(**batch)
    for handle in handles:
        handle.remove()
    return seen


def relative(found: Tensor, wanted: Tensor, batch: Any) -> float:
    keep = batch["attention_mask"].bool()
    error = (found - wanted)[keep].square().sum() / wanted[keep].square().sum()
    return float(error)


def test_the_error_is_relative_to_the_teacher_and_counts_no_padding() -> None:
    teacher, student = pair(bert)
    batch = texts(1)[0]
    layer = teacher.encoder.layer[1]
    [(x, wanted)] = ffn_calls(teacher, batch, layer.intermediate, layer.output.dense)
    with torch.no_grad():
        error = relative(student.encoder.layer[1].intermediate(x), wanted, batch)
    history = distill_ffn(teacher, student, [batch], progress=False)
    assert history.layers["encoder.layer.1.intermediate"] == [pytest.approx(error, rel=1e-5)]


def test_what_stands_in_the_padding_does_not_matter() -> None:
    results = []
    for other in (0, 5):
        teacher, student = pair(bert)
        batches = texts(2)
        for batch in batches:
            hidden = batch["attention_mask"] == 0
            batch["input_ids"] = torch.where(hidden, other, batch["input_ids"])
        distill_ffn(teacher, student, batches, end_to_end_steps=2, progress=False)
        results.append(values(student))
    for name, value in results[0].items():
        assert torch.allclose(value, results[1][name], atol=1e-6), name


def test_a_block_used_three_times_learns_from_the_mean_of_its_uses() -> None:
    teacher, student = pair(albert)
    batch = texts(1)[0]
    layer = teacher.albert.encoder.albert_layer_groups[0].albert_layers[0]
    new = student.albert.encoder.albert_layer_groups[0].albert_layers[0].ffn
    calls = ffn_calls(teacher, batch, layer.ffn, layer.ffn_output)
    assert len(calls) == 3
    twin, keep = copy.deepcopy(new), batch["attention_mask"].bool()
    errors = []
    for x, wanted in calls:
        gap = (twin(x) - wanted)[keep].square().sum() / wanted[keep].square().sum()
        errors.append(gap)
    mean = sum(errors) / 3
    mean.backward()
    history = distill_ffn(
        teacher, student, [batch], progress=False,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    )  # fmt: skip
    assert next(iter(history.layers.values())) == [pytest.approx(mean.item(), rel=1e-5)]
    for name, parameter in twin.named_parameters():
        step = parameter.detach() - 0.1 * parameter.grad
        assert torch.allclose(dict(new.named_parameters())[name], step, atol=1e-6), name


def test_no_activation_outlives_its_block() -> None:
    teacher, student = pair(gpt2)
    outputs: list[weakref.ref[Tensor]] = []

    def watch(module: nn.Module, args: Any, output: Tensor) -> None:
        assert all(old() is None for old in outputs), "an earlier block's output is kept"
        outputs.append(weakref.ref(output))

    for layer in teacher.transformer.h:
        layer.mlp.register_forward_hook(watch)
    distill_ffn(teacher, student, texts(3), progress=False)
    assert len(outputs) == 6


@pytest.mark.parametrize("train", ["replaced", "all"])
def test_end_to_end_learns_what_it_should(train: str) -> None:
    teacher, student = pair()
    student.transformer.wte.requires_grad_(False)
    before, frozen = values(student), {n for n, p in student.named_parameters() if p.requires_grad}
    history = distill_ffn(
        teacher, student, texts(2), steps=0, end_to_end_steps=30, train=train, lr=0.01,
        end_to_end_lr=0.02, scheduler="cosine", progress=False,
    )  # fmt: skip
    assert len(history.end_to_end) == 30
    assert history.end_to_end[-1] < 0.8 * history.end_to_end[0]
    assert {n for n, p in student.named_parameters() if p.requires_grad} == frozen
    outside = {name for name in changed(before, student) if ".mlp." not in name}
    assert bool(outside) == (train == "all")
    assert not any("wte" in name for name in outside)


def test_old_blocks_help_less_and_less_and_are_gone_at_the_end() -> None:
    torch.manual_seed(0)
    teacher = gpt2()
    student = copy.deepcopy(teacher)
    replaced = replace_ffn(student, block)
    # no dropout outside the new blocks, so that the old ones alone make no difference
    student.eval()
    before = values(teacher), values(student)
    history = distill_ffn(
        teacher, student, texts(2), steps=0, end_to_end_steps=20, self_guided=0.5, lr=0.02,
        progress=False,
    )  # fmt: skip
    wanted = [math.cos(math.pi / 2 * (n + 1) / 11) ** 2 for n in range(10)] + [0.0] * 10
    assert history.guidance == pytest.approx(wanted, abs=1e-12)
    assert history.end_to_end[0] < 0.1 * history.end_to_end[10]
    assert not changed(before[0], teacher) and all(p.grad is None for p in teacher.parameters())
    assert all(p.requires_grad for p in teacher.parameters())
    assert all(".mlp." in name for name in changed(before[1], student))
    assert not any(module._forward_hooks for module in student.modules())
    batch = texts(1)[0]
    alone = student.eval()(**batch).logits
    loss = distill_ffn(
        teacher, copy.deepcopy(student), [batch], steps=0, end_to_end_steps=1, progress=False
    )
    assert loss.end_to_end[0] > 0 and loss.guidance == [0.0]
    replaced.undo()
    assert not torch.allclose(student(**batch).logits, alone)
    assert torch.equal(student(**batch).logits, teacher.eval()(**batch).logits)


@pytest.mark.parametrize("case", MODELS)
def test_a_guided_block_returns_a_mixture_of_both(case: str) -> None:
    build, batches, _, _ = MODELS[case]
    torch.manual_seed(0)
    teacher = build().eval()
    student = copy.deepcopy(teacher)
    replace_ffn(student, block)
    for one in find_pairs(teacher, student, None):
        seen: list[Any] = []
        with (
            one.reads.register_forward_pre_hook(lambda m, args, seen=seen: seen.append(args[0])),
            one.writes.register_forward_hook(lambda m, args, out, seen=seen: seen.append(out)),
            module_by_module(),
            torch.no_grad(),
        ):
            call(teacher, batches()[0])
        # a decoder of a T5 calls no block but its own in between
        x, old = seen[:2]
        new = one.student(x)
        with one.guiding(0.25):
            found = one.student(x)
        torch.testing.assert_close(found, 0.25 * old + 0.75 * new, msg=one.name)
        assert torch.equal(one.student(x), new)


def test_the_losses_are_what_they_are_called() -> None:
    batch = texts(1)[0]
    keep = batch["attention_mask"].bool()
    teacher, student = pair()
    with torch.no_grad():
        logits, wanted = (m.eval()(**batch).logits[keep] for m in (student, teacher))
    p = wanted.softmax(-1)
    losses = {
        None: (p * (p.log() - logits.log_softmax(-1))).sum(-1).mean(),
        "kl": (p * (p.log() - logits.log_softmax(-1))).sum(-1).mean(),
        "mse": (logits - wanted).square().sum() / wanted.square().sum(),
        "cosine": 1 - F.cosine_similarity(logits, wanted).mean(),
    }
    for name, value in losses.items():
        history = distill_ffn(
            teacher, copy.deepcopy(student), [batch], steps=0, end_to_end_steps=1, loss=name,
            progress=False,
        )  # fmt: skip
        assert history.end_to_end == [pytest.approx(float(value), rel=1e-4)], name


def test_a_loss_of_ones_own_sees_both_outputs_and_the_batch() -> None:
    teacher, student = pair()

    def loss(found: Any, wanted: Any, batch: Any) -> Tensor:
        assert set(batch) == {"input_ids", "attention_mask"} and not wanted.logits.requires_grad
        return (found.logits - wanted.logits).abs().mean()

    history = distill_ffn(
        teacher, student, texts(), steps=0, end_to_end_steps=3, loss=loss, progress=False
    )
    assert len(history.end_to_end) == 3


def rows() -> list[dict[str, Tensor]]:
    return [{name: value[0] for name, value in batch.items()} for batch in texts(7)]


class Stopped(Exception):
    """Raised in the middle of a run."""


class Stopping(DataLoader):
    """A shuffling loader that stops for good after some batches."""

    left: int = -1

    def __iter__(self) -> Iterator[Any]:
        for batch in super().__iter__():
            if self.left == 0:
                raise Stopped
            self.left -= 1
            yield batch


@pytest.mark.parametrize("after", [4, 8, 10])
def test_a_run_goes_on_as_if_it_had_never_stopped(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # every step is written, and dropout draws random numbers
    monkeypatch.setattr("qkan.training.checkpoint.Checkpoint.due", True)
    options = {
        "steps": 6, "end_to_end_steps": 5, "scheduler": "cosine", "seed": 3, "progress": False,
        "lr": 0.01, "self_guided": 0.8,
    }  # fmt: skip

    def run(left: int, **more: Any) -> tuple[nn.Module, Distillation]:
        teacher, student = pair(dropout=0.2)
        loader = Stopping(rows(), batch_size=2, shuffle=True)
        loader.left = left
        return student, distill_ffn(teacher, student, loader, **options, **more)

    torch.manual_seed(1)
    whole, history = run(-1)
    path = tmp_path / "run.pt"
    torch.manual_seed(1)
    with pytest.raises(Stopped):
        run(after, checkpoint=path)
    resumed, rest = run(-1, checkpoint=path)
    assert not changed(values(whole), resumed)
    assert rest.layers == history.layers and rest.end_to_end == history.end_to_end
    assert rest.guidance == history.guidance
    assert [share > 0 for share in rest.guidance] == [True] * 4 + [False]
    assert len(rest.seconds) == 11
    again, finished = run(-1, checkpoint=path)
    assert finished.to_dict() == rest.to_dict() and not changed(values(whole), again)
    with pytest.raises(QKANError, match="belongs to another run"):
        run(-1, checkpoint=path, names=["transformer.h.0.mlp"])


def test_the_order_of_the_batches_follows_the_seed() -> None:
    def errors(seed: int) -> list[float]:
        teacher, student = pair()
        loader = DataLoader(rows(), batch_size=2, shuffle=True)
        history = distill_ffn(teacher, student, loader, steps=3, seed=seed, progress=False)
        return next(iter(history.layers.values()))

    assert errors(1) == errors(1) != errors(2)


def test_a_one_shot_iterator_serves_as_long_as_it_lasts() -> None:
    teacher, student = pair()
    assert len(distill_ffn(teacher, student, iter(texts(3)), steps=3, progress=False).seconds) == 3
    with pytest.raises(QKANError, match="one-shot iterator and ran out after 3 batches"):
        distill_ffn(teacher, student, iter(texts(3)), steps=4, progress=False)


class Mlp(nn.Module):
    """Two linear maps in a module of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.back = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.into(x).relu())


def own() -> tuple[nn.Module, nn.Module, list[str]]:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.LayerNorm(4), Mlp())
    student = copy.deepcopy(teacher)
    names = replace_ffn(student, block, where=lambda name, module: isinstance(module, Mlp))
    return teacher, student, [*names]


def test_modules_of_ones_own_are_learnt_by_name() -> None:
    teacher, student, names = own()
    batches = [(torch.randn(6, 4),), torch.randn(6, 4)]
    history = distill_ffn(teacher, student, batches, names=names, steps=2, progress=False)
    assert list(history.layers) == ["1"]
    with pytest.raises(QKANError, match="pass names="):
        distill_ffn(teacher, student, batches, progress=False)
    teacher.forward, teacher.spare, student.spare = teacher[0].forward, Mlp(), Mlp()
    with pytest.raises(QKANError, match="did not pass through spare"):
        distill_ffn(teacher, student, batches, names=["spare"], progress=False)


def test_what_is_not_finite_stops_before_it_does_harm() -> None:
    teacher, student, names = own()
    before = values(student)
    bad = torch.full((6, 4), torch.nan)
    with pytest.raises(QKANError, match="at step 1 these are not finite: 1: nan"):
        distill_ffn(teacher, student, [bad], names=names, progress=False)
    with pytest.raises(QKANError, match="step 2 these are not finite: loss: inf"):
        distill_ffn(
            teacher, student, [torch.randn(6, 4)], names=names, steps=1, end_to_end_steps=1,
            loss=lambda found, wanted, batch: found.sum() * torch.inf, lr=1e-12, progress=False,
        )  # fmt: skip
    assert all(torch.allclose(v, before[n], atol=1e-6) for n, v in student.state_dict().items())


def test_the_history_is_json() -> None:
    teacher, student, names = own()
    history = distill_ffn(
        teacher, student, [torch.randn(6, 4)], names=names, end_to_end_steps=1, progress=False
    )
    assert json.loads(json.dumps(history.to_dict())) == history.to_dict()
    assert "1 blocks, 1 steps" in repr(history) and "1 end to end" in repr(history)


def attempt(**options: Any) -> None:
    teacher, student = pair()
    given = {"teacher": teacher, "student": student, "batches": texts(1), "progress": False}
    for name, value in options.items():
        given[name] = value(teacher, student) if name in ("teacher", "student") else value
    distill_ffn(**given)


def shared(teacher: nn.Module, student: nn.Module) -> nn.Module:
    student.transformer.h[0].mlp = teacher.transformer.h[0].mlp
    return student


def narrow(teacher: nn.Module, student: nn.Module) -> nn.Module:
    student.transformer.h[0].mlp = HQKAN(16, 8, engine="torch")
    return student


def tied(teacher: nn.Module, student: nn.Module) -> nn.Module:
    student.transformer.ln_f = teacher.transformer.ln_f
    return student


def frozen(teacher: nn.Module, student: nn.Module) -> nn.Module:
    return student.requires_grad_(False)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "one model": ({"student": lambda t, s: t}, "which would learn too"),
    "shared parameters": (
        {"student": tied, "end_to_end_steps": 1, "train": "all"}, "which would learn too",
    ),
    "no second stage": ({"loss": "kl", "train": "all"}, "train, loss only have an effect"),
    "no module": ({"teacher": lambda t, s: print}, "teacher is a builtin_function"),
    "nothing replaced": ({"student": lambda t, s: copy.deepcopy(t)}, "replace_ffn"),
    "another model": ({"student": lambda t, s: bert()}, "no replaced block in the BertModel"),
    "no such name": ({"names": ["transformer.h.9.mlp"]}, "teacher, a GPT2LMHeadModel, has no mod"),
    "shared module": ({"student": shared, "names": ["transformer.h.0.mlp"]}, "share the module"),
    "other outputs": ({"student": narrow}, r"to \(3, 7, 16\) in the teacher and to \(3, 7, 8\)"),
    "frozen": ({"student": frozen}, "Nothing to train"),
    "no batches": ({"batches": []}, "batches is empty"),
    "no batch comes": ({"batches": [], "steps": 2}, "empty"),
    "one batch": ({"batches": texts(1)[0]}, "batches is a dict"),
    "a batch": ({"batches": ["text"]}, "a batch is a str"),
    "no length": ({"batches": iter([])}, "pass steps"),
    "steps": ({"steps": -1}, "steps=-1"),
    "no stage to guide": ({"self_guided": 0.5}, "self_guided only have an effect"),
    "guided too long": (
        {"self_guided": 2, "end_to_end_steps": 1}, "self_guided=2; wanted the share",
    ),
    "guided or not": ({"self_guided": True, "end_to_end_steps": 1}, "a number from 0 to 1"),
    "no steps": ({"steps": 0}, "no step to take"),
    "train": ({"train": "some"}, "Unknown train 'some'. Known: all, replaced"),
    "loss": ({"loss": "kll", "end_to_end_steps": 1}, "Did you mean 'kl'"),
    "no scalar": (
        {"loss": lambda found, wanted, batch: found.logits, "end_to_end_steps": 1}, "a scalar",
    ),
    "lbfgs": ({"optimizer": "lbfgs"}, "LBFGS"),
    "optimizer": ({"optimizer": torch.optim.SGD([torch.zeros(1)])}, "an optimizer object"),
    "plateau": ({"scheduler": "plateau"}, "'cosine'"),
    "mask": ({"mask": lambda batch: batch["attention_mask"]}, "mask returned torch.int64"),
    "mask size": (
        {"mask": lambda batch: torch.ones(3, 2, dtype=torch.bool)}, "21 tokens.* mask has 6",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_right_is_refused_with_a_reason(case: str) -> None:
    options, message = WRONG[case]
    with pytest.raises(QKANError, match=message):
        attempt(**options)
