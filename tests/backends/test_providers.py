"""The contract of providers, over two services that share nothing, under every fault."""

from __future__ import annotations

import functools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_service import FakeService
from file_provider import FileProvider

from qkan.backends import BackendError, Counts, Job, Provider, QiskitBackend, Task
from qkan.backends.options import make_options
from qkan.backends.qiskit.runtime import RuntimeProvider
from qkan.backends.testing import FAULTS, Fault, check_provider
from qkan.circuits import RX, Circuit, Encoding

TURN = Circuit([RX(Encoding(0))])


def runtime(folder: Path) -> Callable[[], Provider]:
    service = FakeService()
    return lambda: RuntimeProvider(service, service.device, make_options({}), service.sampler)


def files(folder: Path) -> Callable[[], Provider]:
    return lambda: FileProvider(folder / "service")


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("service", [runtime, files])
def test_a_provider_keeps_the_contract(
    service: Callable[[Path], Callable[[], Provider]], name: str, in_memory: Path
) -> None:
    check_provider(service(in_memory), in_memory, FAULTS[name])


class Forgets(FileProvider):
    """Accepts each job twice, as a service without idempotence does when a proxy repeats."""

    def submit(self, job: Job) -> str:
        super().submit(job)
        return super().submit(job)


class Deaf(FileProvider):
    """Never finds a job by its tag."""

    def find(self, tag: str) -> Any:
        return []


class Careless(FileProvider):
    """Counts the zeros instead of the ones, but for the calibration."""

    def counts(self, identity: str, job: Job) -> list[Counts]:
        first, *others = super().counts(identity, job)
        return [job.shots - first, *others]


@pytest.mark.parametrize(
    ("kind", "fault", "found"),
    [
        (Forgets, Fault(unanswered=1), "costs|jobs"),
        (Deaf, Fault(unanswered=1), "values lack"),
        (Careless, Fault(), "wrong"),
    ],
)
def test_the_contract_finds_what_is_broken(
    kind: type[FileProvider], fault: Fault, found: str, in_memory: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("time.monotonic", iter(range(0, 10**7, 30)).__next__)
    with pytest.raises(AssertionError, match=found):
        check_provider(lambda: kind(in_memory / "service"), in_memory, fault)


# ---- a process that is killed at any call of the service


def backend_of(folder: Path, kill_at: int | None = None) -> QiskitBackend:
    provider = FileProvider(folder / "service", kill_at)
    return QiskitBackend(
        "file", provider=provider, shots=60, width=2, budget_seconds=40.0, poll_seconds=0.0,
        search_seconds=0.0, job_seconds=2.0 + 0.00035 * 8 * 30 + 1e-9,
    )  # fmt: skip


def in_child(folder: Path, kill_at: int | None, resubmit: bool = False) -> tuple[int, Any]:
    """Measure in a process of its own; how it ended, and what it said."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            backend = backend_of(folder, kill_at)
            with backend.open(folder / "run") as run:
                if resubmit:
                    run.resubmit()
                (found,) = run.measure([Task(TURN, np.linspace(0.2, 2.9, 12)[:, None])])
                said = [found.z.tolist(), run.seconds, run.committed_seconds]
            os.write(send, json.dumps([*said, backend.provider.steps]).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(send)
    with os.fdopen(receive) as answer:
        said = answer.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, json.loads(said) if said else None


def test_a_process_killed_at_any_call_of_the_service_pays_nothing_twice(in_memory: Path) -> None:
    code, (_, seconds, _, steps) = in_child(in_memory / "whole", None)
    accepted = len(FileProvider(in_memory / "whole" / "service").jobs())
    assert code == 0 and accepted == 2
    hit = 0
    for kill_at in range(1, steps + 1):
        folder = in_memory / str(kill_at)
        code, _ = in_child(folder, kill_at)
        assert code == -signal.SIGKILL
        hit += 1
        code, said = in_child(folder, None)
        if np.isnan(np.array(said[0], float)).any():
            # killed before the service had accepted the job, which nobody but a person can know
            assert len(FileProvider(folder / "service").jobs()) < accepted, kill_at
            code, said = in_child(folder, None, resubmit=True)
            assert said[2] > said[1]
        else:
            assert said[1] == said[2] == seconds
        jobs = FileProvider(folder / "service").jobs()
        assert code == 0 and len(jobs) == accepted, kill_at
        assert np.isfinite(said[0]).all() and said[1] == seconds, kill_at
    assert hit == steps >= 15


def test_what_the_budget_holds_over_is_reserved_once(in_memory: Path) -> None:
    """Threads and processes of one store folder, with room for two of eight jobs."""
    from concurrent.futures import ThreadPoolExecutor

    store = in_memory / "runs"
    tasks = [Task(TURN, np.full((4, 1), 0.1 * k)) for k in range(4)]

    def measure(backend: QiskitBackend, task: Task) -> bool:
        try:
            return bool(np.isfinite(backend.measure(task.circuit, task.angles)[0]).all())
        except BackendError as error:
            assert "budget are left" in str(error)
            return False

    def backend(budget: float) -> QiskitBackend:
        return QiskitBackend(
            "file", provider=FileProvider(in_memory / "service"), shots=60, width=2,
            budget_seconds=budget, poll_seconds=0.0, store=store,
        )  # fmt: skip

    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            with ThreadPoolExecutor(4) as pool:
                done = list(pool.map(functools.partial(measure, backend(9.0)), tasks))
            os._exit(sum(done))
        children.append(child)
    done = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    billed = sum(job["seconds"] for job in FileProvider(in_memory / "service").jobs().values())
    # each job reserves 4 s, is billed about 2.1 s, and then leaves room for others
    assert 2 <= sum(done) <= 4 and billed <= 9.0, (done, billed)
    left = backend(9.0).seconds_left
    assert left is not None and left == pytest.approx(9.0 - billed)
    assert backend(60.0).seconds_left == pytest.approx(60.0 - billed)
