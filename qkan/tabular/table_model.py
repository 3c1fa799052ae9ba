"""`TableModel`: a network with the names and units of a table, which predicts its rows."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from qkan._data_units import DataUnits
from qkan.errors import QKANError
from qkan.interpret.formula import Formula
from qkan.interpret.symbolic import symbolic
from qkan.nn.functional import check_features
from qkan.nn.network import QKAN
from qkan.nn.watch import evaluating

from .columns import Array, Column

Class = str | int | float | bool

_SCALES = ("mean", "scale", "target_mean", "target_scale")


class TableModel(nn.Module):
    """A trained network with the names, units and classes of its table.

    out = target_mean + target_scale·network((x - mean)/scale), so every function that takes a
    module can use the data in their own units: `qkan.run` returns a device's values and standard
    errors in the target's units, and `to_onnx` writes the scaling, too. A classifier's outputs are
    logits. The four scales stay in float64 whatever the network's dtype is, since float32 cannot
    represent a time stamp of 1.7e12; x is in float64, too, or in the network's dtype, and out has
    the dtype of x.

    `inputs` makes x from a table with categories, dates and gaps. `QKANRegressor.to_module`,
    `QKANClassifier.to_module` and `qkan fit` make a `TableModel`; `save` writes it.

    Args:
        network: The network, which takes standardised inputs; it is not copied.
        columns: The names of the inputs, in order. An input "… missing" is 1 where the other one is
            missing.
        targets: The name of each output; for a classifier, the name of the predicted column.
        classes: The classes of a classifier, in the order of its logits; two classes have one
            logit, that of the second. None for a regressor.
        unused: Columns of the table that were left out; a later table may have them, too.
        table: The columns of a table that are not all numbers; their features are the first of
            `columns`, in order.
        ranges: The lowest and the highest value of each input in training, if known.

    Attributes:
        network: The `QKAN`.
        mean: (i,) the means that are subtracted from the inputs, 0 until set; this and the next
            three are buffers.
        scale: (i,) the scales by which the inputs are divided, 1 until set.
        target_mean: (o,) the means that are added to the outputs, 0 until set.
        target_scale: (o,) the scales by which the outputs are multiplied, 1 until set; for a
            classifier all are the factor that calibrates its probabilities.

    Shapes:
        x (…, i) → (…, o).

    Raises:
        QKANError: The names or classes do not fit the network.

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
        table: Sequence[Column] = (),
        ranges: Sequence[Sequence[float]] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.columns, self.targets, self.unused = tuple(columns), tuple(targets), tuple(unused)
        self.classes = None if classes is None else tuple(classes)
        self.ranges = tuple((float(low), float(high)) for low, high in ranges)
        self._check()
        self.table = tuple(table) or self._plain_table()
        self._check_table()
        like = next(network.parameters()).detach().double()
        inputs, outputs = network.widths[0], network.widths[-1]
        self.register_buffer("mean", like.new_zeros(inputs))
        self.register_buffer("scale", like.new_ones(inputs))
        self.register_buffer("target_mean", like.new_zeros(outputs))
        self.register_buffer("target_scale", like.new_ones(outputs))

    def _check(self) -> None:
        inputs, outputs = self.network.widths[0], self.network.widths[-1]
        names = [*self.columns, *self.targets, *self.unused]
        if not all(isinstance(name, str) and name for name in names):
            raise QKANError(f"The columns of a table have names; found {names}.")
        repeated = sorted(name for name, count in Counter(names).items() if count > 1)
        if repeated:
            raise QKANError(
                f"The names {repeated} occur twice; every column needs a name of its own."
            )
        named = 1 if self.classes is not None else outputs
        if len(self.columns) != inputs or len(self.targets) != named:
            raise QKANError(
                f"columns={[*self.columns]}, targets={[*self.targets]}; wanted the names of "
                f"{inputs} inputs and {named} targets for this network."
            )
        if self.classes is None:
            return
        count = len(self.classes)
        if not all(isinstance(label, Class) for label in self.classes):
            raise QKANError(f"classes={[*self.classes]}; wanted texts or numbers.")
        if outputs != (1 if count == 2 else count) or count < 2 or len({*self.classes}) < count:
            raise QKANError(
                f"classes={[*self.classes]} do not fit {outputs} logits; two classes have one "
                "logit, and more classes have one each."
            )

    def _plain_table(self) -> tuple[Column, ...]:
        """The columns of a table of numbers: the inputs without those that mark missing values."""
        marks = {f"{name} missing" for name in self.columns}
        return tuple(Column(name) for name in self.columns if name not in marks)

    def _check_table(self) -> None:
        features = [name for column in self.table for name in column.features]
        marks = [*self.columns[len(features) :]]
        fits = [*self.columns[: len(features)]] == features
        if not fits or not {*marks} <= {f"{name} missing" for name in features}:
            raise QKANError(
                f"table: its columns become the numbers {features}, but the inputs are "
                f"{[*self.columns]}; these begin with them, and others mark which are missing."
            )
        if len(self.ranges) not in (0, len(self.columns)):
            raise QKANError(
                f"ranges: wanted one for each of the {len(self.columns)} inputs, or none."
            )

    def set_scales(self, **scales: Array) -> None:
        """Set some of `mean`, `scale`, `target_mean` and `target_scale`."""
        for name, values in scales.items():
            getattr(self, name).copy_(torch.from_numpy(values))

    def renamed(self, **names: Any) -> TableModel:
        """Return a model with the same network, scales and ranges, but with other names.

        Args:
            **names: `columns`, `targets`, `classes`, `unused` and `table`.

        Raises:
            QKANError: The names or classes do not fit the network.
        """
        model = TableModel(self.network, ranges=self.ranges, **names)
        for name in _SCALES:
            getattr(model, name).copy_(getattr(self, name))
        return model

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        scales = {name: getattr(self, name) for name in _SCALES}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in scales.items():
            # move to the new device, but not to a dtype in which a time stamp has no seconds
            moved = getattr(self, name)
            if moved.dtype != torch.float64:
                setattr(self, name, value.to(moved.device, torch.float64))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, i) → (…, o)."""
        out: Tensor = self.target_mean + self.target_scale * self.network(self.standardised(x))
        return out.to(x.dtype)

    def standardised(self, x: Tensor) -> Tensor:
        """Map (…, i) in the data's units → (…, i) as the network's input."""
        # a folded network has buffers only
        held = itertools.chain(self.network.parameters(), self.network.buffers())
        dtype = next(held).dtype
        double = isinstance(x, Tensor) and x.dtype == torch.float64
        check_features(x, len(self.columns), torch.float64 if double else dtype)
        return ((x - self.mean) / self.scale).to(dtype)

    def data_units(self) -> DataUnits:
        """Return the network with the units and names of its inputs and outputs, for figures."""
        outputs = self.targets
        if self.classes is not None:
            # with two classes, the logit is that of the second
            logits = self.classes if len(self.classes) > 2 else self.classes[1:]
            outputs = tuple(f"{self.targets[0]}={label}" for label in logits)
        mean, scale, size = (s.cpu() for s in (self.mean, self.scale, self.target_scale))
        return DataUnits(self.network, mean, scale, size, self.columns, outputs)

    def inputs(self, data: Mapping[str, Sequence[Any]], *, decimal: str = ".") -> Tensor:
        """Return the inputs (n, i), in float64, of the rows of a table.

        Categories, dates and booleans become the same numbers as in training, and a missing number
        becomes the mean. A `UserWarning` names values of a kind that training never had.

        Args:
            data: A data frame, or another mapping from names to columns; it may have more columns.
            decimal: The decimal mark of numbers that are texts.

        Raises:
            QKANError: A column is missing, or has a cell of another kind than in training; the
                message has the row, counted from 0.
        """
        lacking = [column.name for column in self.table if column.name not in data]
        if lacking:
            raise QKANError(f"The table lacks the columns {lacking}, which the model needs.")
        features = np.hstack(
            [self._encoded(column, data[column.name], decimal) for column in self.table]
        )
        marks = self.columns[features.shape[1] :]
        gaps = [self.columns.index(name.removesuffix(" missing")) for name in marks]
        filled = with_marks(features, gaps, self.mean.cpu().numpy())
        return torch.from_numpy(filled).to(self.mean.device)

    def _encoded(self, column: Column, data: Sequence[Any], decimal: str) -> Array:
        """The numbers of a column, NaN for missing cells; it warns of new categories and gaps."""
        cells = [*map(_text, data)]
        encoded = column.encode(cells, decimal)
        if encoded.bad:
            row = encoded.bad[0]
            raise QKANError(
                f"Column {column.name!r}, row {row}: found {cells[row]!r}, but in training it was "
                f"a {column.kind}. There are such cells in {len(encoded.bad)} of {len(cells)} "
                "rows; correct them."
            )
        if encoded.unseen:
            _warn(column.tell_unseen(encoded))
        if encoded.missing and f"{column.features[0]} missing" not in self.columns:
            _warn(
                f"Column {column.name!r} lacks {encoded.missing} values, but lacked none in "
                "training; the mean replaces them."
            )
        return encoded.values

    def outside(self, x: Tensor) -> dict[str, dict[str, Any]]:
        """Find inputs (n, i) that are outside the range of training by more than a tenth of it.

        Returns:
            For each such input by name, the number of "rows", the "farthest" value, and "training",
            the lowest and the highest value in training.
        """
        found: dict[str, dict[str, Any]] = {}
        inputs = x.T.cpu().double()
        # a model from an older file has no ranges
        for name, values, (low, high) in zip(self.columns, inputs, self.ranges, strict=False):
            beyond = torch.maximum(low - values, values - high)
            rows = int((beyond > 0.1 * (high - low)).sum())
            if rows:
                farthest = float(values[beyond.argmax()])
                found[name] = {"rows": rows, "farthest": farthest, "training": [low, high]}
        return found

    def predict(self, x: Tensor) -> Array:
        """Return predictions in the target's units, or classes: (n,), or (n, o) for several
        targets.

        Args:
            x: (n, i) in the data's units.
        """
        out = row_outputs(self, x)
        if self.classes is None:
            return (out if out.shape[1] > 1 else out[:, 0]).numpy()
        found: Array = np.array(self.classes)[class_logits(out).argmax(1).numpy()]
        return found

    def predict_proba(self, x: Tensor) -> Array:
        """Return probabilities (n, classes).

        Args:
            x: (n, i) in the data's units.

        Raises:
            QKANError: The model is a regressor.
        """
        if self.classes is None:
            raise QKANError(
                f"The model predicts the number {', '.join(self.targets)} and has no classes; use "
                "predict."
            )
        return class_logits(row_outputs(self, x)).softmax(1).numpy()

    def symbolic(self, x: Tensor, **options: Any) -> Formula:
        """Return the model as a formula by `qkan.symbolic`, in the table's units.

        Args:
            x: (n, i) in the data's units, which give the range over which the formula is measured.
            **options: Options of `qkan.symbolic`. `names` are the columns unless given.

        Returns:
            The formula of the outputs, which are logits for a classifier. Its edges
            (`Formula.edges`) are in standardised units.
        """
        found = symbolic(self.network, self.standardised(x), **{"names": self.columns, **options})
        formula = self._in_units(found)
        formula.measure(x.cpu().numpy(), row_outputs(self, x).numpy())
        return formula

    def _in_units(self, found: Formula) -> Formula:
        """A formula of standardised numbers, converted to the units of the table."""
        mean, scale, target_mean, target_scale = (getattr(self, n).tolist() for n in _SCALES)
        inputs = zip(found.inputs, mean, scale, strict=True)
        known = {symbol: (symbol - m) / s for symbol, m, s in inputs}
        layers = [list(nodes) for nodes in found.layers]
        layers[0] = [(symbol, expr.xreplace(known)) for symbol, expr in layers[0]]
        layers[-1] = [
            (symbol, m + s * expr)
            for (symbol, expr), m, s in zip(layers[-1], target_mean, target_scale, strict=True)
        ]
        fitted = tuple(
            m + s * expr.xreplace(known)
            for expr, m, s in zip(found.fitted, target_mean, target_scale, strict=False)
        )
        bound = None if found.bound is None else found.bound * max(target_scale)
        return dataclasses.replace(found, layers=layers, fitted=fitted, bound=bound)

    def config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build this model again, as JSON values."""
        return {
            "network": self.network.config(),
            "columns": [*self.columns],
            "targets": [*self.targets],
            "classes": None if self.classes is None else [*self.classes],
            "unused": [*self.unused],
            "table": [column.config() for column in self.table],
            "ranges": [[*pair] for pair in self.ranges],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], **factory: Any) -> TableModel:
        """Build the model that `config` described; `factory` is device and dtype."""
        options = {name: value for name, value in config.items() if name != "network"}
        options["table"] = [
            Column(**{**column, "values": tuple(column.get("values", ()))})
            for column in options.get("table", ())
        ]
        return cls(QKAN.from_config(config["network"], **factory), **options)

    def extra_repr(self) -> str:
        """Return the names and the classes."""
        classes = "" if self.classes is None else f", classes={[*self.classes]}"
        return f"{', '.join(self.columns)} → {', '.join(self.targets)}{classes}"


def row_outputs(model: nn.Module, x: Tensor) -> Tensor:
    """Return a model's outputs (n, o) for rows x (n, i), in evaluation mode, as float64 on the CPU.

    Raises:
        QKANError: The inputs are not rows.
    """
    with evaluating(model), torch.no_grad():
        out: Tensor = model(x)
    if out.ndim != 2:
        raise QKANError(f"The inputs have the shape {tuple(x.shape)}; wanted rows, (n, in).")
    return out.double().cpu()


def with_marks(features: Array, gaps: Array | Sequence[int], mean: Array) -> Array:
    """Fill the gaps of features (n, f), and add a column of marks for each feature with gaps.

    Args:
        features: Numbers, with NaN for missing ones.
        gaps: The features that had gaps in training, in order.
        mean: (≥ f,) the numbers that replace missing ones.
    """
    missing = np.isnan(features)
    filled = np.where(missing, mean[: features.shape[1]], features)
    return np.hstack([filled, missing[:, gaps]])


def class_logits(logits: Tensor) -> Tensor:
    """Give each class a logit; for two classes map (n, 1) → (n, 2), where the first logit is 0."""
    if logits.shape[1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], 1)


def _text(cell: Any) -> str:
    """The cell as a CSV file would have it, or "" for a missing one."""
    if isinstance(cell, str):
        return cell.strip()
    return "" if cell is None or cell != cell else str(cell)


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=4)
