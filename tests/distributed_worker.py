"""What torchrun starts in two processes for test_distributed.py; each writes what it found."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Shard
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from qkan import HQKAN, QKANAttention, QKANConv2d, QKANError, QKANLayer, fit

STEPS = 3


def make(dropout: float = 0.0) -> nn.Sequential:
    block = HQKAN(8, latent=4, depth=2, gate=True, dropout=dropout, dtype=torch.float64)
    ends = (nn.Linear(5, 8), nn.Linear(8, 1))
    return nn.Sequential(ends[0].double(), block, ends[1].double())


def samples(count: int = 48, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 5, generator=generator, dtype=torch.float64)
    return x, x[:, :1].sin() + x[:, 1:2]


def share() -> tuple[Tensor, Tensor]:
    """This process's half of the batch."""
    x, y = samples()
    rank, count = dist.get_rank(), dist.get_world_size()
    return x[rank::count], y[rank::count]


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-2)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]
) -> list[float]:
    """The losses of a few steps, each the mean over all processes."""
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = (model(batch[0]) - batch[1]).square().mean()
        loss.backward()
        optimizer.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        losses.append(total.item() / dist.get_world_size())
    return losses


def single() -> dict[str, Any]:
    torch.manual_seed(0)
    model = make()
    optimizer = adam(model)
    return {"losses": train(model, optimizer, samples()) + train(model, optimizer, samples())}


def data_parallel() -> dict[str, Any]:
    torch.manual_seed(0)
    model = DistributedDataParallel(make())
    optimizer = adam(model)
    return {"losses": train(model, optimizer, share()) + train(model, optimizer, share())}


def sharded() -> nn.Module:
    """A model that is built on "meta", sharded, and started where its shards are."""
    with torch.device("meta"):
        model = make()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for part in (*model[1].qkan.layers, *model, model):
        fully_shard(part, mesh=mesh)
    model.to_empty(device="cpu")
    for part in model:
        part.reset_parameters()
    return model


def fully_sharded() -> dict[str, Any]:
    """As one process; then a checkpoint of shards, from which a fresh model goes on."""
    model = sharded()
    layer = model[1].qkan.layers[0]
    started = layer.theta.full_tensor().detach()
    torch.manual_seed(0)
    whole = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, make().state_dict(), options=whole)
    optimizer = adam(model)
    losses = train(model, optimizer, share())
    names, states = get_state_dict(model, optimizer)
    path = str(Path(sys.argv[1]) / "shards")
    dcp.save({"model": names, "optimizer": states}, checkpoint_id=path)
    end = train(model, optimizer, share())

    again = sharded()
    optimizer = adam(again)
    names, states = get_state_dict(again, optimizer)
    kept = {"model": names, "optimizer": states}
    dcp.load(kept, checkpoint_id=path)
    set_state_dict(
        again, optimizer, model_state_dict=kept["model"], optim_state_dict=kept["optimizer"]
    )
    resumed = train(again, optimizer, share())
    first, second = (get_model_state_dict(m, options=whole) for m in (model, again))
    return {
        "losses": losses + end,
        "resumed": losses + resumed,
        "bit-equal": all(torch.equal(first[name], second[name]) for name in first),
        "rows": layer.theta.to_local().shape[0],
        "start": [float(started.min()), float(started.max()), float(layer.mask.min())],
    }


STARTS: dict[str, Callable[[], nn.Module]] = {
    "trained scales": lambda: QKANLayer(6, 4),
    "gelu": lambda: QKANLayer(6, 4, start="gelu"),
    "gelu in groups": lambda: QKANLayer(6, 4, group=2, start="gelu", encoding="linear"),
    "block": lambda: HQKAN(8, latent=4, depth=2, gate=True, encoding="trainable"),
    "attention": lambda: QKANAttention(8, 2, 5, rank=4),
    "convolution": lambda: QKANConv2d(3, 4, 3),
}


def by_columns(value: Tensor) -> Shard | None:
    """Where FSDP can cut the second axis it does so; None stands for the first one."""
    return Shard(1) if value.ndim > 1 and value.shape[1] % dist.get_world_size() == 0 else None


def starts() -> dict[str, Any]:
    """The angles, scales and masks of layers that start in their shards, rows or columns."""
    found = {}
    for name, build in STARTS.items():
        for way, place in (("rows", None), ("columns", by_columns)):
            with torch.device("meta"):
                model = build()
            mesh = init_device_mesh("cpu", (dist.get_world_size(),))
            fully_shard(model, mesh=mesh, shard_placement_fn=place)
            model.to_empty(device="cpu")
            for value in (*model.parameters(), *model.buffers()):
                nn.init.constant_(value, torch.nan)
            model.reset_parameters()
            state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
            found[f"{name}, {way}"] = {key: value.tolist() for key, value in state.items()}
    return found


POLICY = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
MIXED: dict[str, dict[str, Any]] = {
    "fixed scales": {"encoding": "linear"},
    "trained scales": {"encoding": "trainable"},
    "groups, no base": {"encoding": "linear", "group": 2, "base": None},
}
"""Layers whose parameters are bfloat16 while they compute, and whose buffers may be."""


def mixed() -> dict[str, Any]:
    """Losses under FSDP2's mixed precision, and in one process with parameters that are rounded."""
    found = {}
    for name, options in MIXED.items():
        for buffers in (torch.float32, torch.bfloat16):
            torch.manual_seed(0)
            alone, x = nn.Sequential(nn.Linear(5, 8), HQKAN(8, latent=4, **options)), samples()
            for buffer in alone.buffers():
                buffer.data = buffer.to(buffers)
            model = copy.deepcopy(alone)
            mesh = init_device_mesh("cpu", (dist.get_world_size(),))
            for part in (*model, model):
                fully_shard(part, mesh=mesh, mp_policy=POLICY)
            whole, own = (tuple(t.float() for t in batch) for batch in (x, share()))
            found[f"{name}, {buffers}"] = [
                train(model, adam(model), own), train(Rounded(alone), adam(alone), whole)
            ]  # fmt: skip
    return found


class Rounded(nn.Module):
    """A model that computes with its parameters and inputs in bfloat16, as the policy says."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        low = {name: value.bfloat16() for name, value in self.model.named_parameters()}
        out: Tensor = functional_call(self.model, low, (x.bfloat16(),))
        return out


def fit_once(steps: int, checkpoint: Path | None = None) -> tuple[nn.Module, Any]:
    """Dropout differs from process to process, and so do the samples."""
    torch.manual_seed(0)
    model = DistributedDataParallel(make(dropout=0.2))
    torch.manual_seed(10 + dist.get_rank())
    data = TensorDataset(*samples())
    loader = DataLoader(data, batch_size=6, sampler=DistributedSampler(data, seed=3))
    held = samples(8 + 5 * dist.get_rank(), seed=2)
    history = fit(
        model, loader, validation=held, optimizer="adam", steps=steps, checkpoint=checkpoint
    )
    return model.module, history


def fitted() -> dict[str, Any]:
    """A run in one go, and the same with a stop: equal in both processes."""
    folder = Path(sys.argv[1])
    model, history = fit_once(10)
    fit_once(6, folder / "fit.pt")
    again, resumed = fit_once(10, folder / "fit.pt")
    pairs = zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    return {
        "losses": history.train_loss,
        "validation": history.validation_loss,
        "resumed": resumed.train_loss == history.train_loss,
        "bit-equal": all(torch.equal(a, b) for a, b in pairs),
        "best": history.best_step,
        "sum": float(sum(value.sum() for value in model.state_dict().values())),
    }


def other_group() -> nn.Module:
    """The model of `fit_once` in a group of this process alone."""
    alone = [dist.new_group([rank]) for rank in range(dist.get_world_size())]
    return DistributedDataParallel(make(dropout=0.2), process_group=alone[dist.get_rank()])


def refusals() -> dict[str, Any]:
    x, y = share()
    uneven = slice(0, 4 + dist.get_rank())
    wrapped, lonely = DistributedDataParallel(make()), other_group()
    loader = DataLoader(TensorDataset(*samples()), batch_size=12)
    again = {"validation": samples(8, seed=2), "checkpoint": Path(sys.argv[1]) / "fit.pt"}
    return {
        "count": refusal(lambda: fit(lonely, loader, optimizer="adam", steps=10, **again)),
        "lbfgs": refusal(lambda: fit(wrapped, (x, y), steps=1)),
        "uneven": refusal(
            lambda: fit(wrapped, (x[uneven], y[uneven]), optimizer="adam", steps=1)
        ),
        "sharded": refusal(lambda: fit(sharded(), (x, y), optimizer="adam", steps=1)),
    }  # fmt: skip


def refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except QKANError as error:
        return str(error)
    return ""


def main() -> None:
    # two processes on two cores
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(minutes=4))
    parts = (single, data_parallel, fully_sharded, starts, mixed, fitted, refusals)
    found = {part.__name__: part() for part in parts}
    (Path(sys.argv[1]) / f"rank{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
