"""`fisher_information` and `redundancy`: how many parameters change the function at all."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from qkan._options import check_size
from qkan._text import shortened
from qkan.circuits import Circuit
from qkan.errors import QKANError
from qkan.nn.layer import QKANLayer
from qkan.nn.watch import unwrapped

_TOLERANCE = 1e-12
"""Singular values and norms of columns up to this share of the largest one count as 0."""
_POINTS = 257
"""The number of inputs of a circuit if none are given."""
_SPREAD = 0.3
"""The standard deviation of the numbers that a draw adds to the parameters."""


@dataclass(frozen=True, repr=False)
class Redundancy:
    """How many parameters a function has, how many of them it needs, and which depend on others.

    Attributes:
        parameters: The number of trainable parameters p.
        rank: The rank of the Fisher information: the number of directions in which the function can
            change.
        names: (p,) names of the parameters, such as "theta[3]", in the order of the matrix.
        eigenvalues: (p,) eigenvalues of the Fisher information, descending, at the draw with the
            highest rank.
        groups: For each group of parameters that depend on each other, how many of them are enough;
            0 for a parameter without effect. Independent parameters are in no group.
    """

    parameters: int
    rank: int
    names: tuple[str, ...]
    eigenvalues: Tensor
    groups: dict[tuple[str, ...], int]

    @property
    def redundant(self) -> int:
        """The number of parameters that could be removed without loss for the function."""
        return self.parameters - self.rank

    def __repr__(self) -> str:
        return shortened(str(self), "print it for all")

    def __str__(self) -> str:
        text = f"{self.parameters} parameters, rank {self.rank}: {self.redundant} redundant"
        return "\n".join([text, *(_sentence(*group) for group in self.groups.items())])


def fisher_information(
    model: nn.Module | Circuit,
    x: Tensor | None = None,
    *,
    encoding: str | Sequence[float] = "trainable",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the Fisher information of a regression with Gaussian noise of variance 1.

    F = E_x Σ_o J_o J_oᵀ with J_o = ∂f_o(x)/∂(parameters), the mean over the given inputs: the
    matrix behind the effective dimension of arXiv 2011.00027 and the redundancies of arXiv
    2103.15191. It is computed in float64 without dropout; the model itself is not changed.

    Args:
        model: A module with its current parameters; or a circuit, whose parameters theta, scale and
            shift begin as in a `QKANLayer`.
        x: The inputs, (n, …) as the model takes them, or (n,) for a circuit. For a circuit, None
            takes 257 points spread over [-2π, 2π], or over [-1, 1] with an arccos encoding.
        encoding: The encoding of a circuit, as in `QKANLayer`; not for a module.
        generator: Draws the parameters of a circuit.

    Returns:
        (p, p) in float64, symmetric, for the trainable parameters in the order of
        `named_parameters()`, each flattened. Computing it takes memory for p·n·o numbers.

    Raises:
        QKANError: A module is passed without x, the inputs do not fit, there is no trainable
            parameter, or a derivative is not finite.

    Example:
        >>> import torch
        >>> from qkan import fisher_information
        >>> linear = torch.nn.Linear(1, 1)
        >>> fisher_information(linear, torch.tensor([[-2.0], [0.0], [0.0], [2.0]]))
        tensor([[2., 0.],
                [0., 1.]], dtype=torch.float64)
    """
    model, x = _problem(model, x, encoding, generator)
    jacobian = _jacobian(model, x)
    return jacobian.T @ jacobian


def redundancy(
    model: nn.Module | Circuit,
    x: Tensor | None = None,
    *,
    encoding: str | Sequence[float] = "trainable",
    draws: int = 3,
    generator: torch.Generator | None = None,
) -> Redundancy:
    """Count the directions in which a model's function can change, and name redundant parameters.

    Their number is the rank of `fisher_information` at random parameters. The rank is the same
    almost everywhere and higher nowhere, so the highest of a few draws counts. A draw adds normal
    numbers of standard deviation 0.3 to the parameters. Singular values of J below 1e-12 of the
    largest count as 0. For a module the rank cannot exceed (inputs n) · (outputs o).

    `effective_parameters` is quick and leaves out only the shifts that duplicate a theta. The rank
    is never above it, and is below it if some angles of a circuit only act together.

    Args:
        model: As in `fisher_information`.
        x: As in `fisher_information`.
        encoding: The encoding of a circuit, as in `QKANLayer`; not for a module.
        draws: The number of draws.
        generator: The generator for the draws; None takes one with the seed 0.

    Raises:
        QKANError: As in `fisher_information`.

    Example:
        >>> from qkan import redundancy
        >>> from qkan.circuits import ansatz
        >>> print(redundancy(ansatz("real", reps=1)))
        3 parameters, rank 2: 1 redundant
          theta[0], shift[0]: 1 of 2 is enough
    """
    check_size("draws", draws)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    circuit = isinstance(model, Circuit)
    model, x = _problem(model, x, encoding, generator)
    names = tuple(_names(model, strip=circuit))
    found = [_ranked(_jacobian(_moved(model, generator), x)) for _ in range(draws)]
    rank, values, jacobian = max(found, key=lambda draw: draw[0])
    padded = torch.zeros(len(names), dtype=torch.float64)
    padded[: len(values)] = values.square()
    return Redundancy(len(names), rank, names, padded, _groups(jacobian, rank, names))


def _problem(
    model: nn.Module | Circuit,
    x: Tensor | None,
    encoding: str | Sequence[float],
    generator: torch.Generator | None,
) -> tuple[nn.Module, Tensor]:
    """Return a copy of the model in float64, and its inputs."""
    if isinstance(model, Circuit):
        return _edge(model, encoding, generator), _inputs(model, x)
    if x is None:
        raise QKANError("A module needs its inputs: pass x, such as a few rows of the data.")
    if encoding != "trainable":
        raise QKANError("encoding= is for a circuit; a module has its own.")
    # tokens as inputs stay whole numbers
    inputs = x.double() if x.is_floating_point() else x
    return copy.deepcopy(unwrapped(model)).double().eval(), inputs


def _edge(
    circuit: Circuit, encoding: str | Sequence[float], generator: torch.Generator | None
) -> QKANLayer:
    """A layer of one edge whose output is the activation itself."""
    edge = QKANLayer(
        1, 1, ansatz=circuit, encoding=encoding, base=None, bias=False, generator=generator,
        dtype=torch.float64,
    )  # fmt: skip
    nn.init.ones_(edge.weight.requires_grad_(False))
    return edge


def _inputs(circuit: Circuit, x: Tensor | None) -> Tensor:
    """The inputs (n, 1) of a circuit."""
    if x is None:
        reach = 1.0 if circuit.uses_arccos else 2 * math.pi
        x = torch.linspace(-reach, reach, _POINTS, dtype=torch.float64)
    if x.ndim == 0 or not 0 < x.numel() == len(x):
        raise QKANError(f"x has shape {tuple(x.shape)}, but a circuit has one input; pass (n,).")
    return x.double().reshape(-1, 1)


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    """Return the trainable parameters by name; raise `QKANError` if there are none."""
    found = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    if not sum(p.numel() for p in found.values()):
        raise QKANError("The model has no trainable parameter, so there is nothing to count.")
    return found


def _jacobian(model: nn.Module, x: Tensor) -> Tensor:
    """∂f/∂(parameters) / √n, shape (n·o, p)."""
    parts = jacrev(lambda p: functional_call(model, p, (x,)).flatten())(_trainable(model))
    jacobian = torch.cat([part.flatten(1) for part in parts.values()], 1) / math.sqrt(len(x))
    if not jacobian.isfinite().all():
        raise QKANError("A derivative is not finite: the model has NaN or infinite parameters.")
    return jacobian


def _moved(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """Return a copy with random numbers added to the parameters."""
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in moved.parameters():
            if parameter.requires_grad:
                step = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(_SPREAD * step.to(parameter.device))
    return moved


def _ranked(jacobian: Tensor) -> tuple[int, Tensor, Tensor]:
    """The rank of a Jacobian, its singular values, and the Jacobian."""
    values = torch.linalg.svdvals(jacobian)
    return int((values > _TOLERANCE * values.max()).sum()), values, jacobian


def _groups(jacobian: Tensor, rank: int, names: tuple[str, ...]) -> dict[tuple[str, ...], int]:
    """Return the smallest sets of columns that depend on no column outside their set."""
    from scipy.cluster.hierarchy import DisjointSet
    from scipy.linalg import qr, solve_triangular

    size = jacobian.norm(dim=0)
    idle = size <= _TOLERANCE * size.max()
    columns = jacobian / size.where(~idle, math.inf)
    triangle, order = qr(columns.cpu().numpy(), mode="r", pivoting=True)
    independent, dependent = order[:rank].tolist(), order[rank:].tolist()
    # each dependent column is a sum of independent ones; columns that share one belong together
    needs = abs(solve_triangular(triangle[:rank, :rank], triangle[:rank, rank:])) > 1e-6
    sets = DisjointSet(range(len(names)))
    for i, d in zip(*needs.nonzero(), strict=True):
        sets.merge(independent[i], dependent[d])
    found: dict[tuple[str, ...], int] = {(names[k],): 0 for k in idle.nonzero().flatten().tolist()}
    for members in sets.subsets():
        if len(members) > 1:
            enough = len(members & {*independent})
            found[tuple(names[k] for k in sorted(members))] = enough
    return found


def _names(model: nn.Module, strip: bool) -> list[str]:
    """Return a name for each number, such as "layers.0.theta[1,0,3]", for a circuit "theta[3]"."""
    names = []
    for name, value in _trainable(model).items():
        for index in itertools.product(*map(range, value.shape[2:] if strip else value.shape)):
            names.append(f"{name}[{','.join(map(str, index))}]" if index else name)
    return names


def _sentence(names: tuple[str, ...], enough: int) -> str:
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    if not enough:
        return f"  {shown}: no effect"
    return f"  {shown}: {enough} of {len(names)} {'is' if enough == 1 else 'are'} enough"
