"""A compiler around transforms of `torch.func` on a layer: as without the compiler."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from compare import assert_close
from torch import Tensor
from torch.func import functional_call, grad, jacrev, jvp, vmap

from qkan import QKANLayer


def loss(layer: QKANLayer, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    out: Tensor = functional_call(layer, parameters, (x,))
    return out.square().sum()


def gradients_of_samples(layer: QKANLayer, x: Tensor) -> Tensor:
    parameters = dict(layer.named_parameters())
    one = grad(lambda p, x: loss(layer, p, x))
    found: Tensor = vmap(one, in_dims=(None, 0))(parameters, x)["theta"]
    return found


TRANSFORMS: dict[str, Callable[[QKANLayer, Tensor], Tensor]] = {
    "vmap of grad": gradients_of_samples,
    "grad of vmap": lambda layer, x: grad(lambda x: vmap(layer)(x).square().sum())(x),
    "vmap": lambda layer, x: vmap(layer)(x),
    "jacrev": lambda layer, x: jacrev(layer)(x),
    "jvp": lambda layer, x: jvp(layer, (x,), (x,))[1],
}


@pytest.mark.parametrize("encoding", ["trainable", "linear"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_compiled_is_as_eager(name: str, encoding: str) -> None:
    torch._dynamo.reset()
    transform, layer = TRANSFORMS[name], QKANLayer(3, 2, encoding=encoding, dtype=torch.float64)
    x = torch.randn(5, 3, dtype=torch.float64)
    compiled = torch.compile(lambda x: transform(layer, x), backend="aot_eager", fullgraph=True)
    assert_close(compiled(x), transform(layer, x), name)


def test_vmap_over_samples_alone_stays_one_operator() -> None:
    """Gradients need plain operators, but samples that only join the batch do not."""
    targets: list[str] = []

    def note(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        targets.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    layer = QKANLayer(3, 2)
    torch._dynamo.reset()
    torch.compile(lambda x: vmap(layer)(x), backend=note, fullgraph=True)(torch.randn(5, 3))
    assert any("qkan.layer" in target for target in targets)
