"""What is measured: layers as data, and the numbers that go into them.

Letters: b samples, o outputs, i inputs, k theta slots, u encodings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

Arrays = dict[str, np.ndarray]
Kind = Literal["time", "growth", "memory"]

GATE_EDGES = 1 << 22
"""Edge evaluations that the float64 truth of a case may cost: all rows of 1024 × 64 → 64."""


@dataclass(frozen=True)
class Case:
    """One layer at one batch.

    Attributes:
        id: Its name on the command line and in the JSON.
        batch: Samples b.
        in_features: Inputs i.
        out_features: Outputs o.
        candidates: Names from `candidates.CANDIDATES`, in the order in which they take turns.
        reps: Repetitions u.
        encoding: "trainable" or "linear".
        ansatz: The circuit.
        dtype: Of everything that a candidate computes.
        measures: Of "forward" (no gradient, theta touched between calls), "still" (the same, theta
            left alone: an engine that keeps coefficients may use them) and "step".
        kind: "time", "growth" (a point of the plot) or "memory" (peak of a train step).
        sweep: Of a growth point: what grows.
        quick: Whether the quick run has it.
        slow: Candidates that the quick run leaves out: seconds a call, and never the fastest.
        inputs: "normal" for N(0, 1), "uniform" for U(-1, 1), or "outlier" for N(0, 1) with one
            entry of 1000.
        reach: What the inputs are multiplied by.
        own: Whether each sample has theta, scale and shift of its own, as fast weights have.
    """

    id: str
    batch: int
    in_features: int
    out_features: int
    candidates: tuple[str, ...]
    reps: int = 3
    encoding: str = "trainable"
    ansatz: str = "pz"
    dtype: str = "float32"
    measures: tuple[str, ...] = ("forward", "step")
    kind: Kind = "time"
    sweep: str = ""
    quick: bool = True
    slow: tuple[str, ...] = ()
    inputs: str = "normal"
    reach: float = 1.0
    own: bool = False

    @property
    def edges(self) -> int:
        """Number of (output, input) edges."""
        return self.in_features * self.out_features

    @property
    def title(self) -> str:
        """The layer in words."""
        own = ", parameters of each sample's own" if self.own else ""
        inputs = {"normal": "", "uniform": ", x in [-1, 1]", "outlier": ", one x = 1000"}
        shape = f"{self.batch} × {self.in_features} → {self.out_features}"
        return f"{shape}, {self.encoding}{inputs[self.inputs]}{own}"

    def describe(self) -> dict[str, Any]:
        """All fields and the title, as JSON values."""
        return {**asdict(self), "title": self.title}


PEER = ("qkan exact", "qkan cutn", "qkan cutn (no opt_einsum)")
WIDE = ("torch", "qkan exact", "qkan cutn (no opt_einsum)")
SINGLES = ("pennylane default", "pennylane lightning", "qiskit estimator")
PRODUCT = ("auto", "fourier", "torch")
KERNEL = ("auto", "numba", "chebyshev", "torch")
SPLINES = ("inkan dense", "inkan local")


def _cases() -> Iterator[Case]:
    wide = ("forward", "still", "step")
    yield Case(
        "64-trainable", 1024, 64, 64, (*KERNEL, *PEER, "pykan", *SPLINES, "nn.Linear"),
        measures=wide, slow=WIDE,
    )  # fmt: skip
    yield Case(
        "64-linear", 1024, 64, 64, (*PRODUCT, *PEER, *SPLINES, "nn.Linear"), encoding="linear",
        measures=wide, slow=WIDE,
    )  # fmt: skip
    yield Case("1-trainable", 1000, 1, 1, (*KERNEL, *PEER))
    yield Case("4-trainable", 8, 4, 4, (*KERNEL, *PEER))
    yield Case("8-own", 32, 8, 8, ("auto", "numba", "torch"), own=True)
    yield Case(
        "256-linear", 1024, 256, 256, ("auto", "fourier", *SPLINES, "nn.Linear"),
        encoding="linear", measures=wide,
    )  # fmt: skip
    beside = ("auto", "inkan dense", "nn.Linear")
    yield Case("64-uniform", 1024, 64, 64, beside, inputs="uniform")
    for inputs in ("normal", "uniform", "outlier"):
        yield Case(f"256-{inputs}", 1024, 256, 256, beside, inputs=inputs)
    yield Case("4-singles", 64, 4, 3, ("auto", "torch", *PEER, *SINGLES), dtype="float64")
    yield Case(
        "128-memory", 4096, 128, 128, (*KERNEL, *PEER), reps=6, kind="memory", measures=("memory",),
        quick=False,
    )  # fmt: skip
    yield from _growth()


def _growth() -> Iterator[Case]:
    """Points through 1024 × 64 → 64, r = 3, along batch, edges (squares) and repetitions."""
    base = Case(
        "", 1024, 64, 64, ("auto", "numba", "chebyshev", "torch", "qkan cutn"),
        measures=("step",), kind="growth", quick=False,
    )  # fmt: skip
    points: list[tuple[str, int, dict[str, Any]]] = [
        *(("batch", n, {"batch": n}) for n in (16, 64, 256, 1024, 4096)),
        *(("edges", n * n, {"in_features": n, "out_features": n}) for n in (8, 16, 32, 64, 128)),
        *(("reps", n, {"reps": n}) for n in (1, 2, 4, 8, 16)),
        *(("reach", n, {"reach": n, "inputs": "uniform"}) for n in (1, 2, 4, 8, 16)),
    ]
    for sweep, value, change in points:
        for encoding in ("trainable", "linear"):
            names = base.candidates if encoding == "trainable" else ("auto", "torch", "qkan cutn")
            found = replace(base, **change, encoding=encoding, sweep=sweep, candidates=names)
            if found.batch * found.edges * found.reps > SLOW_WORK:
                found = replace(found, candidates=tuple(n for n in names if n not in SLOW))
            yield replace(found, id=f"growth-{sweep}-{value}-{encoding}")


SLOW = ("torch", "qkan cutn")
SLOW_WORK = 8 * 1024 * 64 * 64
"""Rotations above which a growth point leaves out what would take tens of seconds a step."""

CASES: dict[str, Case] = {case.id: case for case in _cases()}


def arrays(case: Case, seed: int = 0) -> Arrays:
    """The inputs and parameters of a case, the same for every candidate.

    Returns:
        x (b, i) as `inputs` and `reach` say; theta (o, i, k) ~ U(-π, π); scale (o, i, u) =
        1 + 0.2·N(0, 1) and shift 0.1·N(0, 1), or 1 and 0 in a fixed encoding; weight (o, i) away
        from 0, by which a peer's bias is divided; base_weight (o, i); bias (o,). With parameters
        of each sample's own
        theta, scale and shift have an axis b before.
    """
    if case.ansatz != "pz":
        raise ValueError(f"{case.id}: arrays knows the sizes of pz only, not {case.ansatz!r}.")
    g = np.random.default_rng(seed)
    shape, u = (case.out_features, case.in_features), case.reps
    edges = (case.batch, *shape) if case.own else shape
    scale, shift = np.ones((*edges, u)), np.zeros((*edges, u))
    if case.encoding == "trainable":
        scale += 0.2 * g.standard_normal(scale.shape)
        shift += 0.1 * g.standard_normal(shift.shape)
    found = {
        "x": _inputs(case, g),
        "theta": g.uniform(-math.pi, math.pi, (*edges, 2 * (u + 1))),
        "scale": scale,
        "shift": shift,
        "weight": g.choice([-1.0, 1.0], shape) * g.uniform(0.5, 1.5, shape),
        "base_weight": g.standard_normal(shape),
        "bias": g.standard_normal(shape[0]),
    }
    for name in ("weight", "base_weight"):
        found[name] /= math.sqrt(case.in_features)
    return {name: value.astype(case.dtype) for name, value in found.items()}


def _inputs(case: Case, generator: np.random.Generator) -> np.ndarray:
    shape = (case.batch, case.in_features)
    uniform = case.inputs == "uniform"
    x = generator.uniform(-1, 1, shape) if uniform else generator.standard_normal(shape)
    if case.inputs == "outlier":
        x[case.batch // 2, case.in_features // 2] = 1000
    return case.reach * x


def gate_rows(case: Case, batch: int | None = None) -> np.ndarray:
    """The samples on which outputs and gradients are compared: all, or evenly spaced ones.

    The gate's loss is the mean square over these rows alone, so a candidate runs its whole batch
    and the truth need not.
    """
    batch = batch or case.batch
    count = min(batch, max(1, GATE_EDGES // case.edges))
    return np.linspace(0, batch - 1, count).round().astype(np.int64)
