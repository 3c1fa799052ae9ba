"""`TableModel`: a network with its table, which reads rows and answers in the table's own units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ._watch import evaluating
from .errors import QKANError
from .functional import check_features
from .network import QKAN

Class = str | int | float | bool


class TableModel(nn.Module):
    """A trained network with what it knows of its table: names, units and classes.

    out = target_mean + target_scale·network((x - mean)/scale): whatever takes a module takes the
    data as they are. `qkan.run` returns a device's values, and their standard errors, in the
    target's units; `to_onnx` writes the scaling too. A classifier's outputs are logits.

    `QKANRegressor.to_module`, `QKANClassifier.to_module` and `qkan fit` make one; `save` writes it.

    Args:
        network: Reads standardised inputs; it is kept, not copied.
        columns: Names of the inputs, in order.
        targets: Name of each output, or of what a classifier tells.
        classes: A classifier's classes, in the order of its logits; two have one logit, that of
            the second. None for a regressor.
        unused: Columns of the table that were left out, which a later table may have too.

    Attributes:
        network: The `QKAN`.
        mean: (i,) subtracted from the inputs; 0 until set. A buffer, as the next three.
        scale: (i,) what they are divided by; 1 until set.
        target_mean: (o,) added to the outputs.
        target_scale: (o,) what they are multiplied by.

    Shapes:
        x (…, i) → (…, o).

    Raises:
        QKANError: Names or classes that do not fit the network.

    Example:
        >>> import torch
        >>> from qkan import QKAN, TableModel
        >>> model = TableModel(QKAN([2, 1]), columns=["age", "dose"], targets=["effect"])
        >>> _ = model.mean.copy_(torch.tensor([50.0, 3.0]))
        >>> model.predict(torch.tensor([[47.0, 2.5], [61.0, 4.0]])).shape
        (2,)
    """

    mean: Tensor
    scale: Tensor
    target_mean: Tensor
    target_scale: Tensor

    def __init__(
        self,
        network: QKAN,
        *,
        columns: Sequence[str],
        targets: Sequence[str],
        classes: Sequence[Class] | None = None,
        unused: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.columns, self.targets, self.unused = tuple(columns), tuple(targets), tuple(unused)
        self.classes = None if classes is None else tuple(classes)
        self._check()
        like = next(network.parameters()).detach()
        inputs, outputs = network.widths[0], network.widths[-1]
        self.register_buffer("mean", like.new_zeros(inputs))
        self.register_buffer("scale", like.new_ones(inputs))
        self.register_buffer("target_mean", like.new_zeros(outputs))
        self.register_buffer("target_scale", like.new_ones(outputs))

    def _check(self) -> None:
        inputs, outputs = self.network.widths[0], self.network.widths[-1]
        names = [*self.columns, *self.targets, *self.unused]
        if not all(isinstance(name, str) and name for name in names):
            raise QKANError(f"A table's columns have names; found {names}.")
        repeated = sorted(name for name, count in Counter(names).items() if count > 1)
        if repeated:
            raise QKANError(f"Columns {repeated} are named twice; each has one part.")
        told = 1 if self.classes is not None else outputs
        if len(self.columns) != inputs or len(self.targets) != told:
            raise QKANError(
                f"columns={[*self.columns]}, targets={[*self.targets]}: this network wants "
                f"{inputs} inputs and {told} named targets."
            )
        if self.classes is None:
            return
        count = len(self.classes)
        if not all(isinstance(label, Class) for label in self.classes):
            raise QKANError(f"classes={[*self.classes]}: wanted texts or numbers.")
        if outputs != (1 if count == 2 else count) or count < 2 or len({*self.classes}) < count:
            raise QKANError(
                f"classes={[*self.classes]} do not fit {outputs} logits: two classes have one, "
                "more have one each."
            )

    def forward(self, x: Tensor) -> Tensor:
        """(…, i) → (…, o)."""
        out: Tensor = self.target_mean + self.target_scale * self.network(self.standardised(x))
        return out

    def standardised(self, x: Tensor) -> Tensor:
        """(…, i) in the data's units → (…, i) as the network reads it."""
        check_features(x, len(self.columns), self.mean.dtype)
        return (x - self.mean) / self.scale

    def predict(self, x: Tensor) -> np.ndarray:
        """Predictions in the target's units or classes: (n,), or (n, o) of several targets.

        Args:
            x: (n, i) in the data's units.
        """
        out = self._evaluated(x)
        if self.classes is None:
            return (out if out.shape[1] > 1 else out[:, 0]).numpy()
        found: np.ndarray = np.array(self.classes)[class_logits(out).argmax(1).numpy()]
        return found

    def predict_proba(self, x: Tensor) -> np.ndarray:
        """Probabilities (n, classes).

        Args:
            x: (n, i) in the data's units.

        Raises:
            QKANError: A regressor.
        """
        if self.classes is None:
            raise QKANError(
                f"{', '.join(self.targets)}: a model of numbers has no classes; use predict."
            )
        return class_logits(self._evaluated(x)).softmax(1).numpy()

    def _evaluated(self, x: Tensor) -> Tensor:
        with evaluating(self), torch.no_grad():
            out: Tensor = self(x)
        if out.ndim != 2:
            raise QKANError(f"The inputs are {tuple(x.shape)}; wanted rows, (n, in).")
        return out.double().cpu()

    def config(self) -> dict[str, Any]:
        """What `from_config` needs to build this model again, as JSON values."""
        return {
            "network": self.network.config(),
            "columns": [*self.columns],
            "targets": [*self.targets],
            "classes": None if self.classes is None else [*self.classes],
            "unused": [*self.unused],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], **factory: Any) -> TableModel:
        """Build the model that `config` described; `factory` is device and dtype."""
        options = {name: value for name, value in config.items() if name != "network"}
        return cls(QKAN.from_config(config["network"], **factory), **options)

    def extra_repr(self) -> str:
        """The names and the classes."""
        classes = "" if self.classes is None else f", classes={[*self.classes]}"
        return f"{', '.join(self.columns)} → {', '.join(self.targets)}{classes}"


def class_logits(logits: Tensor) -> Tensor:
    """One logit a class, (n, classes), of (n, 1) or (n, classes); of two the first one's is 0."""
    if logits.shape[1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], 1)
