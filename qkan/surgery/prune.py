"""`prune` removes edges and nodes that do not matter; `compact` makes the result smaller."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from qkan._habits import guided
from qkan._options import as_number
from qkan.errors import QKANError
from qkan.interpret.edges import bias_of, check_single, edge_outputs, layers_by_name
from qkan.interpret.importance import Chain, chains, importance
from qkan.io import hugging_face
from qkan.nn.layer import QKANLayer
from qkan.nn.watch import unwrapped

from .tensors import ANGLES, check_unparametrized

Model = TypeVar("Model", bound=nn.Module)

_HABITS = dict.fromkeys(
    ("threshold", "edge_th", "node_th"),
    "pass edge_threshold=… for edges, node_threshold=… for hidden nodes, each a score from 0 to 1",
)


@guided(_HABITS, positional=2, instead="prune(model, x, edge_threshold=0.03)")
@torch.no_grad()
def prune(
    model: Model,
    x: Tensor,
    *,
    edge_threshold: float = 0.03,
    node_threshold: float = 0.01,
    score: str = "attribution",
    keep_mean: bool = False,
    remove_nodes: bool = True,
) -> Model:
    """Return a copy of the model without the edges and hidden nodes that have low scores on data.

    Edges are masked, and hidden nodes without an edge to or from them are removed, so that layers
    become narrower (`compact`). The numbers of inputs and outputs do not change: the pruned model
    takes the same x, and ignores an input whose edges are all masked. Removing nodes does not
    change the function of the masked model. Edges that were masked before stay masked.

    A masked edge adds nothing to its output, not even its mean, although only its spread over the
    samples determines its score. `keep_mean=True` adds the mean to the bias; a few steps of
    training have a similar effect.

    Args:
        model: A `QKANLayer`, or any module that contains such layers. Hidden nodes are those
            between the layers of a `QKAN` or neighbours in an `nn.Sequential`; elsewhere only edges
            are pruned. A `DARUAN` is not changed, since it has no edges.
        x: The model's input, at least two samples, for the scores.
        edge_threshold: Edges with a lower score are masked; 0 keeps all.
        node_threshold: Hidden nodes with a lower score are removed with all their edges.
        score: "attribution" or "variance"; see `importance`.
        keep_mean: Whether to add each removed edge's mean over x to the bias of its output.
        remove_nodes: Whether to make layers narrower; otherwise only masks change.

    Returns:
        The new model, of the same class and with the same options, modes, frozen parameters and
        hooks, but without gradients.

    Raises:
        QKANError: The thresholds leave no path through a row of layers; the model or x contains
            NaN; there are fewer than two samples; a threshold or the score is wrong; `keep_mean`
            without a bias.

    Example:
        >>> import torch
        >>> from qkan import QKAN, prune
        >>> model = QKAN([3, 5, 1], generator=torch.Generator().manual_seed(0))
        >>> with torch.no_grad():
        ...     model.layers[1].weight[:, 2:] = model.layers[1].base_weight[:, 2:] = 0
        >>> prune(model, torch.randn(100, 3, generator=torch.Generator().manual_seed(0))).widths
        [3, 2, 1]
    """
    for name, value in (("edge_threshold", edge_threshold), ("node_threshold", node_threshold)):
        if not 0 <= as_number(value) < math.inf:
            raise QKANError(f"prune: {name}={value!r}; wanted a finite number, 0 or more.")
    layers_by_name(unwrapped(model), "prune")
    check_single(model, "prune")
    pruned: Model = copy.deepcopy(unwrapped(model))
    found = importance(pruned, x, score=score)
    for chain in chains(pruned):
        keep = {name: found[name].edges >= edge_threshold for name, _ in chain if name in found}
        for (name, _), (after, _) in itertools.pairwise(chain):
            if not keep.keys() >= {name, after}:
                continue
            hidden = found[after].inputs >= node_threshold
            keep[name] &= hidden[:, None]
            keep[after] &= hidden
        for name, layer in chain:
            if name in keep:
                _mask(name, layer, keep[name], found[name].mean if keep_mean else None)
        _check_path(chain, f"edge_threshold={edge_threshold}, node_threshold={node_threshold}")
    pruned.zero_grad()
    return compact(pruned) if remove_nodes else pruned


def _mask(name: str, layer: QKANLayer, keep: Tensor, mean: Tensor | None) -> None:
    """Mask edges that are not kept, and add their means (o, i), if given, to the bias."""
    if mean is not None:
        if layer.bias is None:
            raise QKANError(
                f"prune: keep_mean=True needs a bias, but {name or 'the layer'} has none; leave "
                "keep_mean out."
            )
        layer.bias.add_((mean * ~keep).sum(-1))
    layer.mask *= keep


def _check_path(chain: Chain, cause: str) -> None:
    """Raise unless at least one output of the row of layers depends on an input."""
    reached = torch.ones_like(chain[0][1].mask[0], dtype=torch.bool)
    for name, layer in chain:
        reached = ((layer.mask != 0) & reached).any(-1)
        if not reached.any():
            raise QKANError(
                f"prune: with {cause} no path is left through {name or type(layer).__name__}: its "
                "outputs would be constant. Lower the thresholds, or train with sparse_loss first."
            )


@torch.no_grad()
def compact(model: Model) -> Model:
    """Return a copy of the model without the hidden nodes that its masks make useless.

    A hidden node is useless if no edge leads from it. If no edge leads to it, it is a constant: its
    contribution is added to the biases of the next layer, or the node stays if that layer has none.
    Use this function after masking edges by hand, `layer.mask[o, i] = 0`; the outputs do not
    change. With groups, the remaining inputs keep their activations: in fewer groups if these still
    divide the inputs evenly, otherwise in one group for each input.

    Args:
        model: As in `prune`.

    Raises:
        QKANError: No path is left through a row of layers; parameters are computed by
            `torch.nn.utils.parametrize`.

    Example:
        >>> import torch
        >>> from qkan import QKAN, compact
        >>> model, x = QKAN([2, 5, 1]), torch.rand(7, 2)
        >>> model.layers[1].mask[0, 3] = 0
        >>> small = compact(model)
        >>> small.widths, torch.allclose(small(x), model(x), atol=1e-6)
        ([2, 4, 1], True)
    """
    check_single(model, "compact")
    small: Model = copy.deepcopy(unwrapped(model))
    for chain in chains(small):
        if len(chain) < 2:
            continue
        _check_path(chain, "these masks")
        for name, layer in chain:
            check_unparametrized(layer, f"compact: {name}: ")
        pairs = [*itertools.pairwise(layer for _, layer in chain)]
        for before, after in reversed(pairs):
            _keep_nodes(before, after, (after.mask != 0).any(0))
        for before, after in pairs:
            _keep_nodes(before, after, _absorb_constants(before, after))
    small.zero_grad()
    hugging_face.update(small)
    return small


def _absorb_constants(before: QKANLayer, after: QKANLayer) -> Tensor:
    """Add the outputs of edges from constant nodes to the bias; return which nodes (o,) stay."""
    fed = (before.mask != 0).any(-1)
    if after.bias is None or fed.all():
        return torch.ones_like(fed)
    added = edge_outputs(after, bias_of(before).unsqueeze(0))[0]
    after.bias.add_((added * ~fed).sum(-1))
    return fed


def _keep_nodes(before: QKANLayer, after: QKANLayer, keep: Tensor) -> None:
    """Remove nodes between two layers from both of them, in place."""
    if keep.all():
        return
    index = keep.nonzero().flatten()
    _select(before, ("weight", "base_weight", "bias", "mask"), index, 0)
    if before.group is None:
        _select(before, ANGLES, index, 0)
    _select(after, ("weight", "base_weight", "mask"), index, 1)
    rows, dim, after.group = _rows_of_angles(after, index)
    _select(after, ANGLES, rows, dim)
    before.out_features = after.in_features = len(index)


def _rows_of_angles(layer: QKANLayer, index: Tensor) -> tuple[Tensor, int, int | None]:
    """The rows of theta, scale and shift for the kept inputs, their dimension, and the groups."""
    if layer.group is None:
        return index, 1, None
    used = index * layer.group // layer.in_features
    rows, position = used.unique(return_inverse=True)
    even = torch.arange(len(index), device=index.device) * len(rows) // len(index)
    if torch.equal(even, position):
        return rows, 0, len(rows)
    return used, 0, len(index)


def _select(layer: QKANLayer, names: Sequence[str], index: Tensor, dim: int) -> None:
    """Keep some rows of the tensors with these names, in place."""
    for name in names:
        value: Any = getattr(layer, name)
        if value is None:
            continue
        taken = value.detach().index_select(dim, index)
        if isinstance(value, nn.Parameter):
            taken = nn.Parameter(taken, requires_grad=value.requires_grad)
        setattr(layer, name, taken)
