"""The results of a device for a model of a table, with the table's names and classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from qkan.tabular.table_model import TableModel, class_logits

from .inputs import plain

if TYPE_CHECKING:
    from torch import Tensor, nn

    from qkan.devices.result import DeviceResult


def columns_of(
    result: DeviceResult, model: nn.Module | None, x: Tensor
) -> dict[str, list[Any]] | None:
    """Return predictions by name, each with its standard error and the simulator's value.

    For a classifier these are the predicted class and the probability of each class. The error of a
    probability is propagated from the errors of the logits to first order, as if these were
    independent.

    Returns:
        Columns of equal length, with None for missing values; None for a model without a table.
    """
    if not isinstance(model, TableModel) or result.values.ndim != 2:
        return None
    values, errors = result.values.double().cpu(), result.stderr.double().cpu()
    with torch.no_grad():
        simulated = model(x.to(model.mean.device)).double().cpu()
    names, columns = [*model.targets], dict[str, list[Any]]()
    if model.classes is not None:
        values, errors = _probabilities(values, errors)
        simulated, _ = _probabilities(simulated, torch.zeros_like(simulated))
        missing = values.isnan().any(1).tolist()
        best = zip(values.argmax(1).tolist(), missing, strict=True)
        likeliest = simulated.argmax(1).tolist()
        columns[names[0]] = [None if lost else model.classes[at] for at, lost in best]
        columns[f"{names[0]}_simulated"] = [model.classes[at] for at in likeliest]
        names = [f"p({label})" for label in model.classes]
    for n, name in enumerate(names):
        for end, part in (("", values), ("_stderr", errors), ("_simulated", simulated)):
            columns[name + end] = plain(part[:, n].tolist())
    return columns


def _probabilities(logits: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities (n, classes) from logits, and their errors."""
    chances = class_logits(logits).softmax(1)
    # dp_c / dl_k = p_c·(δ_ck - p_k), for the logits of the network
    count = logits.shape[1]
    slopes = torch.diag_embed(chances) - chances[:, :, None] * chances[:, None, :]
    carried = slopes[:, :, -count:] * errors[:, None, :]
    return chances, carried.square().sum(2).sqrt()
