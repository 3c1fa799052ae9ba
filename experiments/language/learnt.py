"""The activations that `activations.py` compares: known ones, DARUANs and classical learnt ones.

Every block is Linear → activation → Linear with a hidden layer of four times the width, or SwiGLU
with as many parameters. A learnt activation takes the place of a GELU in a model that is built
already, so that all of one seed begin with the same weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor, nn
from torch.nn import functional as F

from language.char_gpt import CharGPT, Size
from qkan import DARUAN, param_groups, replace_activation
from qkan.nn.hqkan import START_SIZE

HIDDEN = 512
GATED = 341
"""Hidden nodes of SwiGLU, whose three maps have as many parameters as two with 512 nodes."""
GROUPS = 8
FASTER = 10.0
"""The rate of angles and of the controls' parameters over that of the weights."""


@dataclass(frozen=True)
class Row:
    """One activation of the study.

    Attributes:
        kind: "known", "daruan" or "control".
        options: Of the activation.
        faster: The rate of its own parameters over that of the weights.
        main: Whether it is one of the main rows; the others are ablations with fewer seeds.
    """

    kind: str
    options: dict[str, Any]
    faster: float = FASTER
    main: bool = True


def rows() -> dict[str, Row]:
    """All activations by the name that tables give them."""
    found = {name: Row("known", {"name": name}) for name in ("GELU", "SiLU", "ReLU²", "SwiGLU")}
    for reps in (3, 1):
        for encoding in ("trainable", "linear"):
            for group in (GROUPS, 1, HIDDEN):
                for faster in (FASTER, 1.0):
                    main = encoding == "trainable" and group == GROUPS and faster == FASTER
                    options = {"reps": reps, "encoding": encoding, "group": group}
                    scales = "trained" if encoding == "trainable" else "fixed"
                    times = "1 repetition" if reps == 1 else f"{reps} repetitions"
                    name = f"GELU + DARUAN, {times}, {scales} scales, {_many(group)}"
                    found[name + _rate(faster)] = Row("daruan", options, faster, main)
    for name in CONTROLS:
        found[name] = Row("control", {"name": name, "group": GROUPS})
    sine = "GELU + a·sin(wx + b)"
    for group, faster in ((1, FASTER), (HIDDEN, FASTER), (GROUPS, 1.0)):
        row = Row("control", {"name": sine, "group": group}, faster, main=False)
        found[f"{sine}, {_many(group)}{_rate(faster)}"] = row
    return found


def _many(group: int) -> str:
    return "1 group" if group == 1 else f"{group} groups"


def _rate(faster: float) -> str:
    return "" if faster == FASTER else f", rate × {faster:g}"


def build(row: Row, size: Size, seed: int) -> CharGPT:
    """A character GPT with that activation; the seed rules every start."""
    torch.manual_seed(seed)
    name = row.options.get("name", "GELU") if row.kind == "known" else "GELU"
    model = CharGPT(_SwiGLU if name == "SwiGLU" else functools.partial(_mlp, name), size)
    if row.kind == "daruan":
        replace_activation(model, lambda n, base: DARUAN(n, base=base, **row.options))
    elif row.kind == "control":
        make, group = CONTROLS[row.options["name"]], row.options["group"]
        replace_activation(model, lambda n, base: make(n or HIDDEN, group))
    return model


def groups(model: nn.Module, row: Row, rate: float, decay: float) -> list[dict[str, Any]]:
    """Parameter groups in which every learnt activation has the same rate and no decay."""
    kinds = (DARUAN, *CONTROLS.values())
    own = [p for m in model.modules() if isinstance(m, kinds) for p in m.parameters()]
    ids = {id(parameter) for parameter in own}
    found = [
        {**group, "params": [p for p in group["params"] if id(p) not in ids]}
        for group in param_groups(model, rate, decay)
    ]
    learnt = {"params": own, "lr": row.faster * rate, "weight_decay": 0.0}
    return [group for group in (*found, learnt) if group["params"]]


def _begun(linear: nn.Linear, size: float = 1.0) -> nn.Linear:
    """A linear map whose outputs have that root mean square for inputs of variance 1."""
    nn.init.normal_(linear.weight, std=size / math.sqrt(linear.in_features))
    nn.init.zeros_(linear.bias)
    return linear


class _ReLU2(nn.Module):
    """ReLU squared."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


KNOWN: dict[str, type[nn.Module]] = {"GELU": nn.GELU, "SiLU": nn.SiLU, "ReLU²": _ReLU2}


def _mlp(name: str, width: int) -> nn.Module:
    up, down = nn.Linear(width, HIDDEN), nn.Linear(HIDDEN, width)
    return nn.Sequential(_begun(up), KNOWN[name](), _begun(down, START_SIZE))


class _SwiGLU(nn.Module):
    """down(silu(gate(x))·up(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.up = (_begun(nn.Linear(width, GATED)) for _ in range(2))
        self.down = _begun(nn.Linear(GATED, width), START_SIZE)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return out


class _Grouped(nn.Module):
    """An activation with parameters (g, …), those of feature i in row ⌊i·g/features⌋."""

    def __init__(self, features: int, group: int) -> None:
        super().__init__()
        self.register_buffer("row", torch.arange(features) * group // features, persistent=False)

    def of_feature(self, values: Tensor) -> Tensor:
        """(g, …) → (features, …)."""
        return values[self.row]


class Sine(_Grouped):
    """GELU(x) + a·sin(wx + b), which begins as GELU: a = 0, w = 1, b of random phase."""

    def __init__(self, features: int, group: int) -> None:
        super().__init__(features, group)
        self.amplitude = nn.Parameter(torch.zeros(group))
        self.frequency = nn.Parameter(torch.ones(group))
        self.phase = nn.Parameter(torch.empty(group).uniform_(-math.pi, math.pi))

    def forward(self, x: Tensor) -> Tensor:
        a, w, b = map(self.of_feature, (self.amplitude, self.frequency, self.phase))
        return F.gelu(x) + a * torch.sin(w * x + b)


class Fourier(_Grouped):
    """GELU(x) + Σ_k c_k cos(kx) + s_k sin(kx) for k = 1, 2, 3, which begins as GELU."""

    degree = 3

    def __init__(self, features: int, group: int) -> None:
        super().__init__(features, group)
        self.cosine = nn.Parameter(torch.zeros(group, self.degree))
        self.sine = nn.Parameter(torch.zeros(group, self.degree))

    def forward(self, x: Tensor) -> Tensor:
        c, s = self.of_feature(self.cosine), self.of_feature(self.sine)
        out = F.gelu(x)
        for k in range(self.degree):
            out = out + c[:, k] * torch.cos((k + 1) * x) + s[:, k] * torch.sin((k + 1) * x)
        return out


class PReLU(_Grouped):
    """max(x, 0) + a·min(x, 0), with a = 0.25 at the start."""

    def __init__(self, features: int, group: int) -> None:
        super().__init__(features, group)
        self.slope = nn.Parameter(torch.full((group,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) - self.of_feature(self.slope) * F.relu(-x)


class Rational(_Grouped):
    """P(x)/(1 + |Q(x)|) of degrees 5 and 4 as in KAT (arXiv 2409.10594), fitted to GELU first."""

    def __init__(self, features: int, group: int) -> None:
        super().__init__(features, group)
        start = torch.tensor(gelu_coefficients(), dtype=torch.float32)
        self.above = nn.Parameter(start[:6].repeat(group, 1))
        self.below = nn.Parameter(start[6:].repeat(group, 1))

    def forward(self, x: Tensor) -> Tensor:
        above, below = self.of_feature(self.above), self.of_feature(self.below)
        top, bottom = above[:, 5], below[:, 3]
        for k in range(4, -1, -1):
            top = top * x + above[:, k]
        for k in range(2, -1, -1):
            bottom = bottom * x + below[:, k]
        return top / (1 + (bottom * x).abs())


@functools.cache
def gelu_coefficients() -> tuple[float, ...]:
    """Six coefficients of P and four of Q with which `Rational` comes close to GELU on [-4, 4]."""
    x = np.linspace(-4, 4, 401)
    wanted = F.gelu(torch.from_numpy(x)).numpy()

    def misfit(values: np.ndarray) -> np.ndarray:
        above = np.polynomial.polynomial.polyval(x, values[:6])
        below = np.polynomial.polynomial.polyval(x, [0.0, *values[6:]])
        found: np.ndarray = above / (1 + np.abs(below)) - wanted
        return found

    start = np.array([0.0, 0.5, 0.4, 0.1, 0.01, 0.0, 0.0, 0.1, 0.0, 0.01])
    return tuple(least_squares(misfit, start).x.tolist())


CONTROLS: dict[str, Callable[[int, int], nn.Module]] = {
    "GELU + a·sin(wx + b)": Sine,
    "GELU + Fourier series of degree 3": Fourier,
    "PReLU": PReLU,
    "rational": Rational,
}
"""The classical learnt activations."""
