"""Two processes under torchrun train as one does: DDP, FSDP2, sharded checkpoints, and `fit`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_worker import MIXED, STARTS

pytestmark = pytest.mark.source_only

WORKER = Path(__file__).with_name("distributed_worker.py")
ROUNDING = 1e-12
"""Of losses in float64: gradients are summed in another order."""

BFLOAT = 2e-4
"""Of losses where bfloat16 rounds the gradients of half a batch, and of a whole one."""

Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each of two processes found; one launch for all tests."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(WORKER), str(folder)], env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("way", ["data_parallel", "fully_sharded"])
def test_two_processes_have_the_losses_of_one(found: Found, way: str) -> None:
    for rank in found:
        assert rank[way]["losses"] == pytest.approx(rank["single"]["losses"], rel=ROUNDING)
        assert rank[way]["losses"][-1] < rank[way]["losses"][0]


def test_a_sharded_checkpoint_goes_on_bit_for_bit(found: Found) -> None:
    for rank in found:
        assert rank["fully_sharded"]["resumed"] == rank["fully_sharded"]["losses"]
        assert rank["fully_sharded"]["bit-equal"]


def test_a_model_built_on_meta_starts_in_its_shards(found: Found) -> None:
    assert sum(rank["fully_sharded"]["rows"] for rank in found) == 4
    for rank in found:
        low, high, mask = rank["fully_sharded"]["start"]
        assert -torch.pi / 2 <= low < -1 and 1 < high <= torch.pi / 2 and mask == 1
    assert found[0]["fully_sharded"]["start"] == found[1]["fully_sharded"]["start"]


def test_every_start_is_made_in_shards(found: Found) -> None:
    assert found[0]["starts"] == found[1]["starts"]
    assert len(found[0]["starts"]) == 2 * len(STARTS)
    for name, state in found[0]["starts"].items():
        wanted = STARTS[name.rpartition(", ")[0]]().state_dict()
        drawn = "gelu" not in name
        for key, value in wanted.items():
            mine = torch.tensor(state[key])
            assert mine.shape == value.shape and mine.isfinite().all(), (name, key)
            kind = key.rpartition(".")[2]
            # what is the same in every start
            if kind in ("scale", "mask", "base_weight") or (kind == "theta" and not drawn):
                assert torch.equal(mine, value), (name, key)


def test_mixed_precision_has_the_losses_of_one_process_that_rounds(found: Found) -> None:
    assert len(found[0]["mixed"]) == 2 * len(MIXED)
    for name, (shards, alone) in found[0]["mixed"].items():
        assert shards == pytest.approx(alone, rel=BFLOAT), name
        assert shards[-1] < shards[0], name


def test_fit_agrees_on_losses_and_parameters(found: Found) -> None:
    one, other = (rank["fitted"] for rank in found)
    assert one == other
    assert len(one["losses"]) == 10 and one["validation"][-1] is not None
    assert one["best"] == min(
        (value, step + 1) for step, value in enumerate(one["validation"]) if value is not None
    )[1]  # fmt: skip


def test_fit_goes_on_from_its_checkpoint_in_every_process(found: Found) -> None:
    for rank in found:
        assert rank["fitted"]["resumed"] and rank["fitted"]["bit-equal"]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("lbfgs", "LBFGS in 2 processes"),
        ("uneven", "have [4, 5] samples to train on"),
        ("sharded", "the parameters are sharded"),
        ("count", "written by 2 processes and is read by 1"),
    ],
)
def test_fit_refuses_what_processes_cannot_do_together(
    found: Found, case: str, message: str
) -> None:
    for rank in found:
        assert message in rank["refusals"][case]
