"""Losses and targets as people bring them: the right thing, or a sentence that says what is."""

from __future__ import annotations

import pytest
import torch
from fitting import quiet
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from qkan import QKANError, QKANLayer
from qkan._losses import make_loss
from qkan.training.batches import held_out


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


LOGITS = torch.randn(6, 3, generator=generator())
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8], ids=str)
@pytest.mark.parametrize("shape", [(6,), (6, 1)], ids=str)
def test_labels_of_any_whole_type_and_as_a_column(dtype: torch.dtype, shape: tuple[int]) -> None:
    found = make_loss("cross_entropy")(LOGITS, LABELS.to(dtype).reshape(shape))
    assert torch.equal(found, F.cross_entropy(LOGITS, LABELS))


def test_other_targets_of_cross_entropy() -> None:
    loss, two = make_loss("cross_entropy"), LOGITS[:, :2]
    wanted = F.cross_entropy(two, (LABELS > 0).long())
    assert torch.equal(loss(two, LABELS > 0), wanted)
    shares = LOGITS.softmax(1)
    assert torch.equal(loss(LOGITS, shares), F.cross_entropy(LOGITS, shares))
    ignored = torch.where(LABELS == 2, -100, LABELS)
    assert torch.equal(loss(LOGITS, ignored), F.cross_entropy(LOGITS, ignored))
    rows = torch.randn(2, 3, 5, generator=generator())
    labels = torch.randint(3, (2, 5), generator=generator())
    assert torch.equal(loss(rows, labels), F.cross_entropy(rows, labels))


WRONG = {
    "from 1": ("cross_entropy", LOGITS, LABELS + 1, "from 1 to 3, .* 3 outputs.* use y - 1"),
    "negative": ("cross_entropy", LOGITS, LABELS - 1, "from -1 to 1"),
    "too many": ("cross_entropy", LOGITS[:, :2], LABELS, r"labels 0 to 1\. Build it with one"),
    "floats": ("cross_entropy", LOGITS, LABELS.float(), r"\(6,\) of torch.float32.*y\.long"),
    "one output": ("cross_entropy", LOGITS[:, :1], LABELS, "bce_with_logits"),
    "shape": ("cross_entropy", LOGITS, LABELS[:4], r"\(6, 3\) and the target \(4,\)"),
    "signs": ("bce_with_logits", LOGITS, LOGITS.sign(), r"from -1 to 1; .* \(y \+ 1\) / 2"),
    "classes": ("bce_with_logits", LOGITS, 2 * LOGITS.sigmoid().round(), "from 0 to 2"),
}


@pytest.mark.parametrize("case", WRONG)
def test_targets_that_cannot_be_right_are_refused(case: str) -> None:
    name, prediction, target, message = WRONG[case]
    with pytest.raises(QKANError, match=message):
        make_loss(name)(prediction, target)


def squares(prediction: Tensor, target: Tensor) -> Tensor:
    return ((prediction - target) ** 2).mean()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("loss", [squares, nn.SmoothL1Loss(), nn.PairwiseDistance()], ids=repr)
def test_a_loss_of_ones_own_must_not_broadcast(loss: object, reverse: bool) -> None:
    prediction, target = LOGITS[:, :1], LOGITS[:, 1]
    pair = (target, prediction) if reverse else (prediction, target)
    with pytest.raises(QKANError, match=r"\(6, 1\).*broadcast: .*y\.reshape"):
        make_loss(loss)(*pair)  # type: ignore[arg-type]


def test_a_loss_of_ones_own_may_shape_them_itself() -> None:
    def squeezed(prediction: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(prediction.squeeze(-1), target)

    assert make_loss(squeezed)(LOGITS[:, :1], LOGITS[:, 1]) > 0
    assert make_loss(F.cross_entropy)(LOGITS, LABELS) > 0


def test_inputs_that_were_computed_are_refused_and_leaves_are_not() -> None:
    layer, first = QKANLayer(2, 1, engine="torch"), nn.Linear(2, 2)
    x, y = torch.rand(6, 2), torch.rand(6, 1)
    with pytest.raises(QKANError, match=r"train x was computed .* x\.detach\(\)"):
        quiet(layer, (first(x), y), optimizer="adam", steps=2)
    with pytest.raises(QKANError, match=r"train y was computed .* y\.detach\(\)"):
        quiet(layer, (x, first(x)[:, :1]), optimizer="adam", steps=2)
    quiet(layer, (x.requires_grad_(), y), optimizer="adam", steps=2)


# ---- what is held out


@pytest.mark.parametrize("held", range(1, 38))
def test_classes_have_their_share_and_none_is_lost(held: int) -> None:
    labels = torch.tensor([0] * 24 + [1] * 12 + [2] * 3 + [3])
    labels = labels[torch.randperm(40, generator=generator(held))]
    if held > 36:
        with pytest.raises(QKANError, match=r"37 of 40 samples .* 4 classes"):
            held_out(labels, held, generator())
        return
    chosen = held_out(labels, held, generator(held))
    assert chosen.tolist() == sorted({*chosen.tolist()}) and len(chosen) == held
    counts = labels[chosen].bincount(minlength=4)
    for kind, size in enumerate((23, 11, 2, 0)):
        assert abs(counts[kind].item() - held * size / 36) < 1
    rest = labels.clone().index_fill(0, chosen, -1)
    assert {*rest.tolist()} >= {0, 1, 2, 3}


@pytest.mark.parametrize("kind", ["labels", "column", "bool", "zeros and ones", "dataset"])
def test_fit_holds_no_rare_class_out_whole(kind: str) -> None:
    y = torch.zeros(40, dtype=torch.long)
    y[17] = y[23] = 1
    x, seen = torch.rand(40, 2), []

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        seen.append(target.sum().item())
        return prediction.mean()

    shaped = {
        "column": y.unsqueeze(-1), "bool": y.bool(), "zeros and ones": y.float().unsqueeze(-1),
    }.get(kind, y)  # fmt: skip
    for seed in range(9):
        seen.clear()
        pair = (x, shaped)
        quiet(
            QKANLayer(2, 2, engine="torch"), TensorDataset(*pair) if kind == "dataset" else pair,
            validation=0.5, loss=loss, optimizer="adam", steps=1, seed=seed,
        )  # fmt: skip
        assert seen == [1, 1]


def test_numbers_are_held_out_at_random_as_ever() -> None:
    x = torch.arange(10.0).unsqueeze(-1)
    for y in (x, torch.arange(10).unsqueeze(-1)):
        seen: list[list[float]] = []

        def loss(prediction: Tensor, target: Tensor, seen: list[list[float]] = seen) -> Tensor:
            seen.append(target.flatten().tolist())
            return prediction.mean()

        quiet(
            QKANLayer(1, 1, engine="torch"), (x, y), validation=0.3, loss=loss, optimizer="adam",
            steps=1, seed=3,
        )  # fmt: skip
        order = torch.randperm(10, generator=generator(3)).tolist()
        assert seen[1] == sorted(order[:3])
