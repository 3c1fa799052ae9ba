"""Who takes part: each candidate is a worker, an environment and its options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """One way to compute a case's layer.

    Attributes:
        name: In the JSON and on the command line.
        worker: The module in workers/ that builds it.
        environment: "" for this checkout's own, else a name in `peers.PEERS`.
        options: What the worker is told beside the case.
        same_function: Whether it computes the case's layer, so that it must pass the gate.
        batch_limit: Samples it gets when it is too slow for all; times are then scaled up by
            batch / batch_limit and say so.
        note: What a reader of the figures must know.
    """

    name: str
    worker: str
    environment: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    same_function: bool = True
    batch_limit: int | None = None
    note: str = ""


def _ours(engine: str) -> Candidate:
    return Candidate(engine, "ours", options={"engine": engine})


def _peer(name: str, solver: str, opt_einsum: bool = True, environment: str = "qkan") -> Candidate:
    return Candidate(name, "qkan_peer", environment, {"solver": solver, "opt_einsum": opt_einsum})


def _inkan(mode: str) -> Candidate:
    return Candidate(
        f"inkan {mode}",
        "inkan_layer",
        "inkan",
        {"grid": 5, "mode": mode},
        same_function=False,
        note=f"splines as one product, {mode} basis, grid 5, degree 3: not the same function",
    )


_ALL = (
    *map(_ours, ("auto", "fourier", "numba", "chebyshev", "torch", "reference", "cupy")),
    _peer("qkan exact", "exact"),
    _peer("qkan cutn", "cutn"),
    _peer("qkan cutn (no opt_einsum)", "cutn", opt_einsum=False),
    _peer("qkan flash (GPU)", "flash", environment="qkan-gpu"),
    _peer("qkan exact (GPU)", "exact", environment="qkan-gpu"),
    Candidate(
        "nn.Linear", "linear", same_function=False, note="torch.nn.Linear: not the same function"
    ),
    Candidate(
        "pykan", "spline_kan", "pykan", {"grid": 5, "degree": 3}, same_function=False,
        note="a spline KAN of the same shape, grid 5, degree 3: not the same function",
    ),
    _inkan("dense"),
    _inkan("local"),
    Candidate(
        "pennylane default", "pennylane_circuits", "pennylane",
        {"device": "default.qubit", "diff": "backprop"},
        note="default.qubit, every edge and sample broadcast in one call, backprop",
    ),
    Candidate(
        "pennylane lightning", "pennylane_circuits", "pennylane",
        {"device": "lightning.qubit", "diff": "adjoint"}, batch_limit=8,
        note="lightning.qubit, broadcast, adjoint",
    ),
    Candidate(
        "qiskit estimator", "qiskit_circuits", "qiskit", batch_limit=2,
        note="EstimatorQNN in a TorchConnector, statevector estimator, parameter shift",
    ),
)  # fmt: skip

CANDIDATES: dict[str, Candidate] = {candidate.name: candidate for candidate in _ALL}
TRUTH = Candidate("truth", "ours", options={"engine": "torch", "dtype": "float64", "chunk": 64})
"""The engine that the suite proves against statevectors, in float64, in small chunks."""
