"""Models in DistributedDataParallel, DataParallel or `torch.compile`: what is inside counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from fitting import quiet
from torch import Tensor, nn

import qkan
from qkan import QKAN


def network() -> QKAN:
    generator = torch.Generator().manual_seed(0)
    return QKAN([2, 3, 1], encoding="linear", engine="torch", generator=generator)


X = torch.rand(20, 2, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    file = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


WRAPS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "ddp": nn.parallel.DistributedDataParallel,
    "parallel": nn.DataParallel,
    "compiled": lambda model: torch.compile(model, backend="eager"),  # type: ignore[return-value]
    "both": lambda model: torch.compile(  # type: ignore[return-value]
        nn.parallel.DistributedDataParallel(model), backend="eager"
    ),
}


def saved(model: nn.Module, folder: Path) -> Tensor:
    qkan.save(model, folder / "model")
    return qkan.load(folder / "model")(X)


CALLS: dict[str, Callable[[nn.Module, Path], object]] = {
    "save": saved,
    "plot": lambda model, _: len(qkan.plot(model, X).axes),
    "spectrum": lambda model, _: len(qkan.plot_spectrum(model).axes),
    "bloch": lambda model, _: len(qkan.plot_bloch(model, X).axes),
    "symbolic": lambda model, _: str(qkan.symbolic(model, X, digits=3)),
    "without x": lambda model, _: str(qkan.symbolic(model, digits=3)),
    "importance": lambda model, _: [*qkan.importance(model, X)],
    "prune": lambda model, _: qkan.prune(model, X, edge_threshold=0.3)(X),
    "compact": lambda model, _: qkan.compact(model)(X),
    "extend": lambda model, _: qkan.extend(model, 4)(X),
    "fold": lambda model, _: qkan.fold(model)(X),
    "explain": lambda model, _: [*qkan.explain(model, X)],
    "to_kan": lambda model, _: qkan.to_kan(model, X)(X),
    "fisher": lambda model, _: qkan.fisher_information(model, X),
}


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("call", CALLS)
def test_a_wrapper_makes_no_difference(call: str, wrap: str, tmp_path: Path) -> None:
    wanted = CALLS[call](network(), tmp_path)
    found = CALLS[call](WRAPS[wrap](network()), tmp_path)
    if isinstance(wanted, Tensor):
        assert torch.equal(found, wanted)  # type: ignore[arg-type]
    else:
        assert found == wanted


def test_a_compiled_model_is_fitted_and_warned_as_itself() -> None:
    made = torch.compile(network(), backend="eager")
    with pytest.warns(qkan.AliasingWarning):
        history = quiet(made, (9 * X, 1e3 * X[:, :1]), optimizer="adam", steps=1)
    assert history.target_scale is not None
