"""`QKAN`: a sequence of layers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from qkan._habits import LAYER, guided, tensor_of
from qkan._options import check_layer_options, check_range
from qkan.errors import QKANError, ScaleWarning, warn

from .layer import LayerOptions, QKANLayer, reject_unknown

Layer = TypeVar("Layer", bound=nn.Module)


class LayerRow(nn.Module, Generic[Layer]):
    """A sequence of layers after a map of the input range; the base of `QKAN`, `KAN`, `SplineKAN`.

    Args:
        layers: Layers, each of which takes the outputs of the one before.
        input_range: (low, high) that is mapped to [-π/2, π/2], or None.

    Attributes:
        layers: The layers, of the class's `layer_type`.
        input_range: As given.
    """

    layer_type: ClassVar[type[Any]]
    input_range: tuple[float, float] | None = None

    def __init__(
        self, layers: Sequence[Layer], input_range: tuple[float, float] | None = None
    ) -> None:
        super().__init__()
        if input_range is not None:
            self.input_range = check_range("input_range", input_range)
        self.layers = nn.ModuleList(layers)

    @property
    def rows(self) -> list[Layer]:
        """The layers of `layer_type`, without modules that a user has put between them."""
        return [layer for layer in self.layers if isinstance(layer, self.layer_type)]

    @property
    def widths(self) -> list[int]:
        """The sizes of input, hidden layers and output."""
        rows: list[Any] = self.rows
        return [rows[0].in_features, *(layer.out_features for layer in rows)]

    @property
    def output_layer(self) -> nn.Module:
        """The layer that computes the outputs."""
        return self.layers[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, widths[0]) → (…, widths[-1])."""
        if not isinstance(x, Tensor):
            raise QKANError(
                f"The input is of type {type(x).__name__}; pass a torch tensor, "
                f"{tensor_of('x', x, 'torch.float32')}."
            )
        if self.input_range is not None:
            _warn_outside(x, self.input_range, type(self).__name__)
        x = self.map_input(x)
        for layer in self.layers:
            x = layer(x)
        return x

    def map_input(self, x: Tensor) -> Tensor:
        """Return the input of the first layer: x with `input_range` mapped to [-π/2, π/2]."""
        if self.input_range is None:
            return x
        low, high = self.input_range
        return (x - (low + high) / 2) * (math.pi / (high - low))

    def config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build this network again, as JSON values."""
        rows: list[Any] = self.rows
        layers = [layer.config() for layer in rows]
        return {"input_range": self.input_range and [*self.input_range], "layers": layers}

    @classmethod
    def from_config(cls, config: dict[str, Any], **factory: Any) -> Self:
        """Build the network that `config` described; `factory` is device and dtype."""
        layers = [cls.layer_type.from_config(layer, **factory) for layer in config["layers"]]
        low_high = config["input_range"]
        return cls.from_layers(layers, input_range=low_high and (low_high[0], low_high[1]))

    @classmethod
    def from_layers(
        cls, layers: Sequence[Layer], *, input_range: tuple[float, float] | None = None
    ) -> Self:
        """Build a network of existing layers, each of which takes the outputs of the one before.

        Raises:
            QKANError: There is no layer, or the sizes of two neighbours do not match.
        """
        check_sizes(layers)
        for layer in layers:
            if isinstance(layer, QKANLayer):
                check_layer_options(cls.__name__, {"ansatz": layer.circuit})
        model = cls.__new__(cls)
        LayerRow.__init__(model, layers, input_range)
        return model

    def extra_repr(self) -> str:
        """Return the widths, and the input range if there is one."""
        ranged = f", input_range={self.input_range}" if self.input_range is not None else ""
        return f"{self.widths}{ranged}"


def check_sizes(layers: Sequence[Any]) -> None:
    """Raise `QKANError` unless each layer has the outputs of the one before as its inputs."""
    sizes = [(layer.in_features, layer.out_features) for layer in layers]
    if not sizes or any(a[1] != b[0] for a, b in itertools.pairwise(sizes)):
        raise QKANError(
            f"Layers of the sizes {sizes} do not match: pass at least one layer, and each with as "
            "many inputs as the one before has outputs."
        )


def layer_sizes(widths: Sequence[int]) -> list[tuple[int, int]]:
    """Return the inputs and outputs of each layer of a network of these widths."""
    if not isinstance(widths, Iterable) or len(widths) < 2:
        found = [*widths] if isinstance(widths, Iterable) else widths
        raise QKANError(
            f"widths={found}: a network needs at least an input and an output size, "
            "such as [2, 5, 1]."
        )
    return [*itertools.pairwise(widths)]


class QKAN(LayerRow[QKANLayer]):
    """A Kolmogorov-Arnold network whose activations are single-qubit circuits.

    Args:
        widths: The sizes of input, hidden layers and output, such as [2, 5, 1].
        input_range: (low, high) of the data; inputs are then mapped linearly to [-π/2, π/2], half a
            period of a fixed encoding, so that no function is forced to be periodic. With None they
            are used unchanged.
        **options: The options of every `QKANLayer`, by name.

    Attributes:
        layers: The `QKANLayer`s.

    Shapes:
        x (…, widths[0]) → (…, widths[-1]).

    Raises:
        QKANError: There are fewer than two widths, the input range is empty, or an option is wrong.

    Example:
        >>> import torch
        >>> from qkan import QKAN
        >>> model = QKAN([2, 5, 1], reps=3)
        >>> model(torch.rand(100, 2)).shape
        torch.Size([100, 1])
    """

    layer_type = QKANLayer

    @guided(LAYER, positional=2, instead="QKAN([2, 5, 1], reps=3), with all sizes in one list")
    def __init__(
        self,
        widths: Sequence[int],
        *,
        input_range: tuple[float, float] | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        reject_unknown(options, QKAN)
        check_layer_options("QKAN", options)
        super().__init__([QKANLayer(i, o, **options) for i, o in layer_sizes(widths)], input_range)


_range_warnings: ContextVar[bool] = ContextVar("_range_warnings", default=True)
_OUTSIDE = 0.01
"""No warning is given up to this share of the inputs, or this share of the range beyond it."""


@contextmanager
def no_range_warnings() -> Iterator[None]:
    """Suppress warnings of inputs outside `input_range` while this lasts, as in training."""
    token = _range_warnings.set(False)
    try:
        yield
    finally:
        _range_warnings.reset(token)


def _warn_outside(x: Tensor, input_range: tuple[float, float], name: str) -> None:
    """Warn of inputs far outside `input_range`."""
    # on other devices and under a compiler the values are not available
    if (
        torch.compiler.is_compiling()
        or type(x) is not Tensor
        or x.device.type != "cpu"
        or not _range_warnings.get()
        or torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
        or not x.numel()
    ):
        return
    low, high = input_range
    room = _OUTSIDE * (high - low)
    lowest, highest = (end.item() for end in x.detach().aminmax())
    if low - room <= lowest and highest <= high + room:
        return
    share = ((x.detach() < low - room) | (x.detach() > high + room)).double().mean().item()
    if share > _OUTSIDE:
        warn(
            f"{name}: {100 * share:.0f} % of the inputs lie outside input_range=({low:g}, "
            f"{high:g}); they reach from {lowest:.3g} to {highest:.3g}. The model learnt nothing "
            "there: check the units of x, or train with an input_range that covers them.",
            ScaleWarning,
        )
