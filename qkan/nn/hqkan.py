"""`HQKAN`: a QKAN in a small latent space, a drop-in replacement for a feed-forward block."""

from __future__ import annotations

import itertools
import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from qkan._options import check_layer_options, check_probability, check_size

from .layer import LayerOptions, QKANLayer, reject_unknown
from .network import QKAN

START_SIZE = 0.1
"""Root mean square of an `HQKAN`'s output at the start, for inputs of variance 1."""


class HQKAN(nn.Module):
    """Linear → QKAN → Linear, a drop-in replacement for a transformer's feed-forward block.

    out = dropout(up(qkan(down(x)))), where `qkan` has `depth` layers of `latent` nodes; with a
    gate, out = dropout(up(qkan(down(x)) · (1 + gate(x)))).

    At the start `down.weight` is normal with the standard deviation 1/(Ω·√in_features), where Ω = Σ
    |scale| is the highest frequency of an edge. For inputs of variance 1 the angle of the fastest
    harmonic then has variance 1, whatever the encoding and the repetitions; with latent nodes of
    variance 1, a circuit of many harmonics would look like noise. The nodes between several layers
    are as small. With `start="gelu"` or another activation they have variance 1, for which such
    layers are made, and also with `base="gelu", start="base"`: the block then begins exactly as a
    bottleneck MLP with that activation, and its circuits add nothing until they are trained. The
    output has a root mean square near 0.1, so that the block begins as a small change of a residual
    stream and every parameter has a gradient. The factor 1 + gate(x) begins at 1.

    The QKAN has latent² edges. For many latent nodes, share activations with `group=`, or leave
    `up` out: `torch.nn.Sequential(torch.nn.Linear(n, latent), QKANLayer(latent, n,
    group="inputs"))` is an MLP with learnt activations (`experiments/language/char_lm.py` measures
    it too).

    Args:
        in_features: Number of inputs.
        out_features: Number of outputs; as many as inputs when None.
        latent: Number of nodes of the QKAN; ⌈log2 in_features⌉ when None, but at least 1.
        depth: Number of layers of the QKAN.
        dropout: Probability that an output is zeroed while training.
        gate: Whether a linear function of the input multiplies the QKAN's outputs.
        **options: Options of every `QKANLayer`, by name. `encoding` is "linear" here unless given,
            since a model with a fixed encoding can be folded (`qkan.fold`);
            `experiments/language/char_lm.py` compares all encodings. `bias` applies to the linear
            maps too.

    Attributes:
        down: Linear, in_features → latent.
        gate: Linear, in_features → latent; or None.
        qkan: The `QKAN`, latent → latent.
        up: Linear, latent → out_features.
        dropout: The `torch.nn.Dropout` at the end.

    Shapes:
        x (…, in_features) → (…, out_features), any leading dimensions, empty ones too.

    Raises:
        QKANError: A size or an option is wrong.

    Example:
        >>> import torch
        >>> from qkan import HQKAN
        >>> block = HQKAN(768)
        >>> block.qkan.widths, block(torch.randn(2, 5, 768)).shape
        ([10, 10], torch.Size([2, 5, 768]))
    """

    gate: nn.Linear | None

    def __init__(
        self,
        in_features: int,
        out_features: int | None = None,
        *,
        latent: int | None = None,
        depth: int = 1,
        dropout: float = 0.0,
        gate: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        reject_unknown(options, HQKAN)
        check_layer_options("HQKAN", options)
        options.setdefault("encoding", "linear")
        check_size("in_features", in_features)
        out_features = in_features if out_features is None else out_features
        latent = max(1, math.ceil(math.log2(in_features))) if latent is None else latent
        widths = [check_size("latent", latent)] * (check_size("depth", depth) + 1)
        qkan = QKAN(widths, **options)
        linear = {name: options.get(name) for name in ("device", "dtype")}
        linear["bias"] = options.get("bias", True)
        self._assemble(in_features, out_features, qkan, dropout, gate, linear)
        self._begin(options.get("generator"))

    def _assemble(
        self,
        in_features: int,
        out_features: int,
        qkan: QKAN,
        dropout: float,
        gate: bool,
        linear: dict[str, Any],
    ) -> None:
        self.in_features = check_size("in_features", in_features)
        self.out_features = check_size("out_features", out_features)
        latent, last = qkan.widths[0], qkan.widths[-1]
        self.down = _linear(in_features, latent, linear)
        self.gate = _linear(in_features, last, linear) if gate else None
        self.qkan = qkan
        self.up = _linear(last, out_features, linear)
        self.dropout = nn.Dropout(check_probability(dropout))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new values, as the class describes."""
        for layer in self.qkan.layers:
            assert isinstance(layer, QKANLayer)
            layer.reset_parameters(generator)
        self._begin(generator)

    def _begin(self, generator: torch.Generator | None) -> None:
        """Draw the linear maps around a QKAN whose layers have just been drawn."""
        with torch.no_grad():
            layers = cast("list[QKANLayer]", [*self.qkan.layers])
            for before, after in itertools.pairwise(layers):
                for part in (before.weight, before.base_weight):
                    if part is not None:
                        part.div_(frequency(after))
            size = frequency(layers[0]) * math.sqrt(self.in_features)
            self.down.weight.normal_(std=1 / size, generator=generator)
            size = START_SIZE / math.sqrt(self.up.in_features)
            self.up.weight.normal_(std=size, generator=generator)
            if self.gate is not None:
                self.gate.weight.zero_()
            for linear in (self.down, self.gate, self.up):
                if linear is not None and linear.bias is not None:
                    linear.bias.zero_()

    @property
    def output_layer(self) -> nn.Module | None:
        """The layer that computes the outputs, or None if dropout follows it."""
        return self.up if self.dropout.p == 0 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in_features) → (…, out_features)."""
        hidden = self.qkan(self.down(x))
        if self.gate is not None:
            hidden = hidden * (1 + self.gate(x))
        out: Tensor = self.dropout(self.up(hidden))
        return out

    def config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build this block again, as JSON values."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "dropout": self.dropout.p,
            "gate": self.gate is not None,
            "bias": self.down.bias is not None,
            "qkan": self.qkan.config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], **factory: Any) -> HQKAN:
        """Build the block that `config` described; `factory` is device and dtype."""
        options = {name: value for name, value in config.items() if name not in ("qkan", "bias")}
        block = cls.__new__(cls)
        nn.Module.__init__(block)
        qkan = QKAN.from_config(config["qkan"], **factory)
        block._assemble(**options, qkan=qkan, linear={"bias": config["bias"], **factory})
        block._begin(None)
        return block

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.in_features}, {self.out_features}"


def _linear(in_features: int, out_features: int, options: dict[str, Any]) -> nn.Linear:
    """Make a linear map without torch's initial values, which are replaced anyway."""
    device = options.get("device")
    device = torch.get_default_device() if device is None else device
    made = nn.Linear(in_features, out_features, **{**options, "device": "meta"})
    # torch's skip_init swaps tensors, which FakeTensorMode does not allow
    for name, value in [*made.named_parameters()]:
        setattr(made, name, nn.Parameter(torch.empty_like(value, device=device)))
    return made


def frequency(layer: QKANLayer) -> float:
    """Return the highest frequency Σ |scale| of an edge at the start; 1 unless that is random."""
    if layer.start != "random":
        return 1.0
    scale = layer.fixed_scale or (1.0,) * layer.circuit.num_encodings
    return sum(map(abs, scale)) or 1.0
