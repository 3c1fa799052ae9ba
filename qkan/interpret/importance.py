"""Scores of how much each edge and node matters on data, and a penalty for sparsity.

Letters: b samples, o outputs, i inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from qkan._axes import new_axes
from qkan._losses import Loss, make_loss
from qkan._options import check_choice
from qkan.circuits import require
from qkan.errors import QKANError
from qkan.nn.activation import DARUAN, base_values
from qkan.nn.layer import QKANLayer
from qkan.nn.network import QKAN
from qkan.nn.watch import evaluating, on_layer_input, reject_fast_weights, unwrapped

from .edges import check_finite, check_single, edge_outputs, layers_by_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCORES = ("attribution", "variance")
_EDGES_AT_ONCE = 1 << 22
"""The most outputs of edges that are held in memory at once."""
_SHOWN = 5
"""The number of edges that the representation of an `Importance` shows."""

Chain = list[tuple[str, QKANLayer]]
"""Layers with names, where the outputs of each are only the inputs of the next."""


@dataclass(frozen=True, eq=False, repr=False)
class Importance:
    """The scores of one layer.

    Attributes:
        edges: (o, i) scores of the edges, 0 on pruned ones.
        inputs: (i,) scores of the layer's inputs.
        mean: (o, i) mean outputs of the edges over the samples.
    """

    edges: Tensor
    inputs: Tensor
    mean: Tensor

    def __repr__(self) -> str:
        outs, ins = self.edges.shape
        best = self.edges.flatten().argsort(descending=True, stable=True)[:_SHOWN].tolist()
        rows = (divmod(number, ins) for number in best)
        named = ", ".join(f"{i} → {o}: {self.edges[o, i].item():.3g}" for o, i in rows)
        return f"Importance({ins} inputs, {outs} outputs; most important edges {named})"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the scores of all edges as a shaded matrix, outputs over inputs.

        Args:
            ax: The axes to draw on; those of a new figure when None.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed; the message says how to install it.
        """
        ticker = require("matplotlib.ticker", "plot")
        ax = new_axes() if ax is None else ax
        shades = ax.imshow(self.edges.detach().cpu().double().numpy(), cmap="cividis", vmin=0)
        ax.figure.colorbar(shades, ax=ax, label="importance")
        ax.set(xlabel="input", ylabel="output")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(ticker.MaxNLocator(integer=True))
        return ax


class Scores(dict[str, Importance]):
    """The importance scores of every layer of a model, by the layer's name."""

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {found!r}" for name, found in self.items()) or "no layer"

    def plot(self) -> Any:
        """Draw the scores of all edges, one matrix for each layer.

        Returns:
            A matplotlib `Figure`.

        Raises:
            ImportError: matplotlib is not installed; the message says how to install it.
        """
        figure = new_axes(len(self)).figure
        for ax, (name, found) in zip(figure.axes, self.items(), strict=True):
            found.plot(ax).set_title(name)
        return figure


def importance(model: nn.Module, x: Tensor, *, score: str = "attribution") -> Scores:
    """Return a score on data for every edge of every `QKANLayer` in a model.

    Let s be the standard deviation over samples, of an edge's output weight·φ + base_weight·base or
    of the node that sums these outputs:

    * "attribution": edge[o,i] = node[o]·s_edge[o,i] / s_node[o] and node[i] = Σ_o edge[o,i], from
      the outputs, whose nodes have the score 1, back to the inputs of the row of layers (KAN 2.0,
      arXiv 2408.10205). An edge that leads to no output has the score 0.
    * "variance": edge[o,i] = s_edge[o,i]² / Σ_i s_edge[o,i]², the share in its own node, and
      node[i] = max_o edge[o,i].

    A `DARUAN` gets a score for each group, as if each were an input of one output: the spread of
    amplitude·φ as a share of its sum with the spread of the base, or of their sum of squares for
    "variance". While the amplitudes are 0, before training, the scores are 0.

    Args:
        model: A `QKANLayer` or a `DARUAN`, or any module that contains them. Layers of a `QKAN` and
            neighbours in an `nn.Sequential` form rows; any other layer is a row of its own.
        x: The model's input, with at least two samples.
        score: "attribution" or "variance".

    Returns:
        The scores by layer name, a dict with a method `plot()`.

    Raises:
        QKANError: There is no such layer; the model or x contains NaN; there are fewer than two
            samples; the score is unknown.

    Example:
        >>> import torch
        >>> from qkan import QKAN, importance
        >>> found = importance(QKAN([2, 5, 1]), torch.rand(100, 2))
        >>> found["layers.0"].edges.shape, found["layers.0"].inputs.shape
        (torch.Size([5, 2]), torch.Size([2]))
    """
    check_choice("score", score, SCORES)
    model = unwrapped(model)
    check_single(model, "importance")
    reject_fast_weights(model, "importance")
    seen = layer_inputs(model, x)
    found: dict[str, Importance] = {}
    for chain in chains(model):
        node: Tensor | None = None
        for name, layer in reversed(chain):
            if name not in seen:
                continue
            mean, spread, total = _statistics(layer, seen[name])
            if score == "variance":
                edges = _share(spread.square(), spread.square().sum(-1, keepdim=True))
                inputs = edges.amax(0)
            else:
                node = torch.ones_like(total) if node is None else node
                edges = node[:, None] * _share(spread, total[:, None])
                inputs = node = edges.sum(0)
            found[name] = Importance(edges, inputs, mean)
    for name, part in model.named_modules():
        if isinstance(part, DARUAN) and name in seen:
            found[name] = _group_scores(part, seen[name], 2 if score == "variance" else 1)
    return Scores({name: found[name] for name in seen if name in found})


@torch.no_grad()
def _group_scores(activation: DARUAN, x: Tensor, power: int) -> Importance:
    """Scores of the circuits of an activation beside its base for inputs x (b, f), by group."""
    base = base_values(activation.base, x).double()
    added = activation(x).double() - base
    owner = torch.arange(x.shape[-1], device=x.device) * activation.group // x.shape[-1]
    columns = [(added[:, owner == g], base[:, owner == g]) for g in range(activation.group)]
    spreads = torch.stack([torch.stack([a.std(), b.std()]) for a, b in columns]) ** power
    scores = _share(spreads[:, 0], spreads.sum(-1))
    return Importance(scores[None], scores, torch.stack([a.mean() for a, _ in columns])[None])


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """The part divided by the whole, or 0 where the whole is 0."""
    return torch.where(whole > 0, part / whole.clamp_min(torch.finfo(whole.dtype).tiny), 0.0)


@torch.no_grad()
def _statistics(layer: QKANLayer, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and standard deviation of edges (o, i), and the latter of nodes (o,), in float64."""
    edges = layer.out_features * layer.in_features
    first = edge_outputs(layer, x[:1]).double()
    # the last column belongs to the node, which sums its edges
    sums, squares = first.new_zeros(2, layer.out_features, layer.in_features + 1)
    for rows in x.split(max(1, _EDGES_AT_ONCE // edges)):
        # differences from the first sample, so that a large mean costs a small spread no digits
        values = edge_outputs(layer, rows).double() - first
        values = torch.cat([values, values.sum(-1, keepdim=True)], -1)
        sums += values.sum(0)
        squares += values.square().sum(0)
    mean = sums / len(x)
    spread = (squares / len(x) - mean.square()).clamp_min(0).sqrt()
    return mean[:, :-1] + first[0], spread[:, :-1], spread[:, -1]


def chains(model: nn.Module) -> list[Chain]:
    """Return all layers of a model in rows; a layer that is used twice is a row of its own."""
    named = [(n, m) for n, m in model.named_modules(remove_duplicate=False)]
    uses = [id(m) for _, m in named if isinstance(m, QKANLayer)]
    found: list[Chain] = []
    for name, module in named:
        if not isinstance(module, QKAN | nn.Sequential):
            continue
        parts: Any = module.layers if isinstance(module, QKAN) else module
        prefix = ".".join(filter(None, (name, "layers" if isinstance(module, QKAN) else "")))
        found.append([])
        for key, part in parts.named_children():
            if isinstance(part, QKANLayer) and uses.count(id(part)) == 1:
                found[-1].append((f"{prefix}.{key}" if prefix else key, part))
            else:
                found.append([])
    found = [chain for chain in found if chain]
    inside = {id(layer) for chain in found for _, layer in chain}
    single = [(n, m) for n, m in model.named_modules() if isinstance(m, QKANLayer)]
    return found + [[(n, m)] for n, m in single if id(m) not in inside]


@torch.no_grad()
def layer_inputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Run the model once in evaluation mode, and return the input (b, i) of each of its layers.

    Raises:
        QKANError: No layer ran; x is not a tensor of at least two samples; a value is NaN.
    """
    if not isinstance(x, Tensor) or x.ndim == 0:
        raise QKANError(
            f"x is of type {type(x).__name__}; pass a torch tensor with one row for each sample."
        )
    if x.ndim < 2 or x[..., 0].numel() < 2:
        raise QKANError(
            f"x has shape {tuple(x.shape)}, but scores need a spread; pass at least two samples "
            "(b, i)."
        )
    if not x.isfinite().all():
        raise QKANError("x has values that are NaN or infinite; leave such samples out.")
    check_finite(model, "importance")
    seen: dict[str, list[Tensor]] = {}
    with evaluating(model), _collecting(model, seen, (QKANLayer, DARUAN)):
        model(x)
    if not seen:
        raise QKANError(
            f"The {type(model).__name__} ran no QKANLayer and no DARUAN, so there is nothing to "
            "score."
        )
    for name, inputs in seen.items():
        if not all(value.isfinite().all() for value in inputs):
            raise QKANError(
                f"The input of {name or type(model).__name__} contains NaN or infinity; check the "
                "model before it, and the data."
            )
    return {name: torch.cat(inputs) for name, inputs in seen.items()}


def _collecting(
    model: nn.Module,
    seen: dict[str, list[Tensor]],
    kinds: tuple[type[nn.Module], ...] = (QKANLayer,),
) -> AbstractContextManager[None]:
    """Collect the inputs of each layer as rows while this lasts."""
    return on_layer_input(model, lambda name, _, x: seen.setdefault(name, []).append(x), kinds)


def sparsity(magnitudes: Sequence[Tensor], *, l1: float = 1.0, entropy: float = 2.0) -> Tensor:
    """Return Σ_layers (l1·Σ m + entropy·S), where m ≥ 0 is the mean magnitude of an edge's output.

    S = -Σ p log p with p = m / Σ m. Large outputs cost, and so do many edges of similar size (arXiv
    2404.19756, section 2.5).
    """
    total = magnitudes[0].new_zeros(())
    for sizes in magnitudes:
        whole = sizes.sum()
        tiny = torch.finfo(sizes.dtype).tiny
        # an edge below tiny adds nothing and gets no gradient, since that of p log p is infinite at
        # 0
        p = (sizes / whole.clamp_min(tiny)).clamp_min(tiny)
        total = total + l1 * whole - entropy * (p * p.log()).sum()
    return total


@contextmanager
def sparse_loss(
    model: nn.Module,
    strength: float,
    *,
    loss: str | Loss | None = None,
    l1: float = 1.0,
    entropy: float = 2.0,
) -> Iterator[Loss]:
    """Yield a loss for `fit` with a penalty for many or large edges, in training mode only.

    It is loss + strength·Σ_layers (l1·Σ m + entropy·S), where m[o,i] is the mean of |output| of an
    edge over the batch and S = -Σ p log p, p = m / Σ m (arXiv 2404.19756, section 2.5). The
    gradient reaches all parameters, those of earlier layers through the inputs. Pruned edges cost
    nothing. The outputs of all edges, (b, o, i), are kept, so a batch of them must fit into memory.

    Args:
        model: A module with `QKANLayer`s in it, whose inputs are recorded in the `with` block.
        strength: The factor of the penalty; 1e-3 to 1e-2 is enough for pruning with targets of size
            1.
        loss: As in `fit`.
        l1: The factor of the magnitudes.
        entropy: The factor of their entropy.

    Raises:
        QKANError: A factor is negative or not finite; the model has no layers; the loss was called
            before the model.

    Example:
        >>> import torch
        >>> from qkan import QKAN, fit, sparse_loss
        >>> model, x = QKAN([2, 3, 1]), torch.rand(64, 2)
        >>> with sparse_loss(model, 1e-2) as loss:
        ...     history = fit(model, (x, x[:, :1]), loss=loss, steps=2, progress=False)
    """
    for name, value in (("strength", strength), ("l1", l1), ("entropy", entropy)):
        if not 0 <= value < float("inf"):
            raise QKANError(f"sparse_loss: {name}={value!r}; wanted a finite number, 0 or more.")
    layers = layers_by_name(model, "sparse_loss")
    check_single(model, "sparse_loss")
    plain = make_loss(loss)
    seen: dict[str, list[Tensor]] = {}

    def penalised(prediction: Tensor, target: Tensor) -> Tensor:
        value = plain(prediction, target)
        inputs = {name: torch.cat(rows) for name, rows in seen.items()}
        seen.clear()
        if not model.training:
            return value
        if not inputs:
            raise QKANError(
                "sparse_loss: the loss was called without a call of the model before; call first "
                "the model and then the loss, once in each step."
            )
        sizes = [edge_outputs(layers[name], x).abs().mean(0) for name, x in inputs.items()]
        kept = [size[layers[name].mask != 0] for name, size in zip(inputs, sizes, strict=True)]
        return value + strength * sparsity(kept, l1=l1, entropy=entropy)

    # a checkpoint of fit compares this name
    penalised.__qualname__ = f"sparse_loss({strength}, loss={loss}, l1={l1}, entropy={entropy})"
    with _collecting(model, seen):
        yield penalised
