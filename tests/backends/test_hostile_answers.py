"""Answers of a service that are wrong without being an error, and whoever looks or cancels."""

from __future__ import annotations

import dataclasses
import itertools
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_service import FakeService, service_backend
from hostile import JOBS, TASK, require_paid_once

from qkan.backends import BackendError, PendingError, Status

# ---- what a service says by mistake


@pytest.mark.parametrize("seconds", [None, "12", float("inf"), np.float32(1)])
def test_seconds_and_reasons_that_make_no_sense_are_borne(seconds: Any, tmp_path: Path) -> None:
    service = FakeService(delay=2)
    backend = service_backend(service, **JOBS)
    ask, wrong = backend.provider.status, [Status("failed", ValueError("?"), [1], seconds)]  # type: ignore[arg-type]
    backend.provider.status = lambda job: (  # type: ignore
        wrong.pop() if wrong else dataclasses.replace(ask(job), seconds=seconds)
    )
    backend.provider.usage = lambda job: np.float32(2)  # type: ignore
    with backend.open(tmp_path) as run:
        (found,) = run.measure([TASK])
    assert np.isfinite(found.z).all() and run.seconds == run.committed_seconds == 10.0


def test_an_id_that_another_job_has_is_no_answer(tmp_path: Path) -> None:
    """A proxy that answers again what it answered before."""
    service = FakeService(delay=3)
    backend = service_backend(service, **JOBS)
    submit, given = backend.provider.submit, list[str]()
    backend.provider.submit = lambda job: given.append(submit(job)) or given[0]  # type: ignore
    with backend.open(tmp_path) as run:
        (found,) = run.measure([TASK])
    require_paid_once(service, found, run)


@pytest.mark.parametrize("answer", [[(None, None)], [("", None)], {}, ""])
def test_a_list_of_jobs_that_makes_no_sense_is_not_an_empty_one(
    answer: Any, tmp_path: Path
) -> None:
    service = FakeService(delay=1000)
    backend = service_backend(service, wait=False, retries=0)
    with backend.open(tmp_path / "run") as run:
        run.copy(tmp_path / "older")
        with pytest.raises(PendingError):
            run.measure([TASK])
    backend.provider.find = lambda tag: [(i, [tag]) for i, _ in answer] if answer else answer  # type: ignore
    with (
        backend.open(tmp_path / "older") as run,
        pytest.raises(BackendError, match="does not say which"),
    ):
        run.measure([TASK])
    assert len(service.jobs_by_id) == 1


def test_a_job_that_is_lost_now_and_then_is_not_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, looks, hours = FakeService(delay=9), itertools.count(1), itertools.count()
    backend = service_backend(service, search_seconds=60.0)
    ask = backend.provider.status
    backend.provider.status = lambda job: ask(job) if next(looks) % 4 else Status("lost")  # type: ignore
    monkeypatch.setattr("qkan.backends.queue.time.time", lambda: 3600.0 * next(hours))
    with backend.open(tmp_path) as run:
        (found,) = run.measure([TASK])
    require_paid_once(service, found, run, jobs=1)


# ---- cancelling, closing and looking


@pytest.mark.parametrize("how", ["accepted twice", "older copy", "full disk"])
def test_all_jobs_of_a_run_are_cancelled(how: str, tmp_path: Path) -> None:
    submissions = ["timeout accepted twice"] if how == "accepted twice" else []
    service = FakeService(delay=1000, submissions=submissions)
    backend = service_backend(service, wait=False, search_seconds=60.0, max_pending=9, **JOBS)
    service.silences = {"jobs": how == "accepted twice"}
    with backend.open(tmp_path / "run") as run:
        run.copy(tmp_path / "older copy")
        with pytest.raises(PendingError):
            run.measure([TASK])
    if how == "full disk":
        with closing(sqlite3.connect(tmp_path / "run" / "run.sqlite")) as connection:
            connection.execute(
                "CREATE TRIGGER full BEFORE INSERT ON record BEGIN "
                "SELECT RAISE(ABORT, 'database or disk is full'); END"
            )
    with backend.watch(tmp_path / ("older copy" if how == "older copy" else "run")) as run:
        assert sorted(run.cancel()) == sorted(service.jobs_by_id)
    assert {job.state for job in service.jobs_by_id.values()} == {"CANCELLED"}


def test_a_batch_that_does_not_close_costs_no_result(tmp_path: Path) -> None:
    service = FakeService()
    backend = service_backend(service, execution="batch")

    def close() -> None:
        raise ConnectionError("reset")

    backend.provider._opened = lambda kind: SimpleNamespace(close=close)  # type: ignore
    run = backend.open(tmp_path)
    with run:
        assert np.isfinite(run.measure([TASK])[0].z).all()
    backend.open(tmp_path).close()  # its lock is free


def test_threads_look_at_one_run_while_it_waits(tmp_path: Path) -> None:
    service = FakeService(delay=200)
    with (
        service_backend(service, max_pending=9, **JOBS).open(tmp_path) as run,
        ThreadPoolExecutor(5) as pool,
    ):
        found = pool.submit(run.measure, [TASK])
        while not found.done():
            for look in [pool.submit(run.status) for _ in range(4)]:
                look.result()
    require_paid_once(service, found.result()[0], run)
