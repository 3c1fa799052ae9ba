"""`QKANConv2d`: a convolution whose kernel is a layer of single-qubit circuits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from qkan._options import check_choice, check_layer_options, check_size
from qkan.errors import QKANError

from .layer import LayerOptions, QKANLayer, reject_unknown

Pair = tuple[int, int]
"""One number along the height and one along the width."""

PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate",
                 "circular": "circular"}  # fmt: skip
"""Padding modes by name, each with its name in `torch.nn.functional.pad`."""


class QKANConv2d(nn.Module):
    """A two-dimensional convolution with a learnable activation on every tap of the kernel.

    A `QKANLayer` slides over the image: out[n,o,y,x] = Σ_i weight[o,i]·φ_oi(patch_i) + Σ_i
    base_weight[o,i]·base(patch_i) + bias[o], where patch holds the in_channels·kh·kw inputs under
    the kernel at (y, x), channel by channel and each channel row by row. Padded values are inputs
    like others, and φ(0) need not be 0.

    `group` divides the patch: group=in_channels gives each channel one activation, and "inputs"
    gives one to each tap of each channel. The groups of `torch.nn.Conv2d`, which divide the
    channels, have no counterpart.

    Args:
        in_channels: Number of channels of the input.
        out_channels: Number of channels of the output.
        kernel_size: One number or (height, width).
        stride: One number or (height, width).
        padding: Padding at both ends of each side, one number or (height, width); or "same" or
            "valid".
        dilation: Distance between the taps of the kernel, one number or (height, width).
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        **options: Options of every `QKANLayer`, by name.

    Attributes:
        layer: The `QKANLayer`, in_channels·kh·kw → out_channels.

    Shapes:
        x (n, in_channels, h, w), or without n → (n, out_channels, h', w'), as
        `torch.nn.Conv2d` of the same sizes.

    Raises:
        QKANError: A size or an option is wrong, or the input does not fit.

    Example:
        >>> import torch
        >>> from qkan import QKANConv2d
        >>> conv = QKANConv2d(3, 8, 3, stride=2, padding=1, group="inputs")
        >>> conv(torch.randn(5, 3, 28, 28)).shape
        torch.Size([5, 8, 14, 14])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
        *,
        padding_mode: str = "zeros",
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        reject_unknown(options, QKANConv2d)
        check_layer_options("QKANConv2d", options)
        self.in_channels = check_size("in_channels", in_channels)
        self.out_channels = check_size("out_channels", out_channels)
        self.kernel_size = _pair("kernel_size", kernel_size)
        self.stride, self.dilation = _pair("stride", stride), _pair("dilation", dilation)
        self.padding = padding if isinstance(padding, str) else _pair("padding", padding, least=0)
        check_choice("padding_mode", padding_mode, PADDING_MODES)
        self.padding_mode = padding_mode
        self._pads = self._padded()
        taps = self.in_channels * self.kernel_size[0] * self.kernel_size[1]
        self.layer = QKANLayer(taps, self.out_channels, **options)

    def _padded(self) -> tuple[int, int, int, int]:
        """Return the padding at left, right, top and bottom."""
        if not isinstance(self.padding, str):
            h, w = self.padding
            return w, w, h, h
        check_choice("padding", self.padding, ("same", "valid"), "Or a number, or a pair.")
        if self.padding == "valid":
            return 0, 0, 0, 0
        if self.stride != (1, 1):
            raise QKANError(f"padding='same' needs stride=1, but stride={self.stride}.")
        h, w = (
            dilation * (size - 1)
            for dilation, size in zip(self.dilation, self.kernel_size, strict=True)
        )
        return w // 2, w - w // 2, h // 2, h - h // 2

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new values, as `QKANLayer.reset_parameters` describes."""
        self.layer.reset_parameters(generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) → (n, out_channels, h', w'), or both without n."""
        if not isinstance(x, Tensor) or x.ndim not in (3, 4) or x.shape[-3] != self.in_channels:
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise QKANError(
                f"The input is {found}; pass (n, {self.in_channels}, h, w), or without n."
            )
        padded = F.pad(x if x.ndim == 4 else x[None], self._pads, PADDING_MODES[self.padding_mode])
        sides = zip(padded.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
        h, w = ((side - d * (k - 1) - 1) // s + 1 for side, k, s, d in sides)
        if h < 1 or w < 1:
            raise QKANError(
                f"The padded input has sides {tuple(padded.shape[2:])}, less than the kernel's "
                f"{self.kernel_size} at dilation {self.dilation}."
            )
        patches = F.unfold(padded, self.kernel_size, dilation=self.dilation, stride=self.stride)
        out: Tensor = self.layer(patches.transpose(1, 2)).transpose(1, 2).unflatten(2, (h, w))
        return out if x.ndim == 4 else out[0]

    def config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build this module again, as JSON values."""
        pairs = {name: [*getattr(self, name)] for name in ("kernel_size", "stride", "dilation")}
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "padding": self.padding if isinstance(self.padding, str) else [*self.padding],
            "padding_mode": self.padding_mode,
            **pairs,
            "layer": self.layer.config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], **factory: Any) -> QKANConv2d:
        """Build the module that `config` described; `factory` is device and dtype."""
        sizes = {name: value for name, value in config.items() if name != "layer"}
        conv = cls(**sizes, device="meta")
        conv.layer = QKANLayer.from_config(config["layer"], **factory)
        return conv

    def extra_repr(self) -> str:
        """The sizes, and the options that differ from the default."""
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        plain = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "padding_mode": "zeros"}
        for name, default in plain.items():
            value = getattr(self, name)
            parts += [f"{name}={value!r}"] if value != default else []
        return ", ".join(parts)


def _pair(name: str, value: int | Pair, least: int = 1) -> Pair:
    numbers = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(numbers) != 2:
        raise QKANError(f"{name}={value!r}; wanted a number, or a pair (height, width).")
    height, width = (
        check_size(name, n, "Or a pair (height, width).", least=least) for n in numbers
    )
    return height, width
