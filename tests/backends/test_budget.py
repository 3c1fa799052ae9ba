"""Under any order of faults every execution is paid once, and never more than the budget."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from fake_service import OUTCOMES, SUBMISSIONS, FakeJob, FakeService, service_backend
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from stores import blobs

from qkan.backends import BackendError, Measurement, QiskitBackend, Task
from qkan.circuits import ansatz

CIRCUIT = ansatz("rpz", 1)
ROWS = 3
EXACT = -np.cos(np.linspace(0.1, 3.0, 31))


def some_task() -> Task:
    """Values of the known expectation EXACT: H, RY(a) has ⟨Z⟩ = -sin a."""
    angles = np.zeros((31, 3))
    angles[:, 0] = np.arcsin(-EXACT)
    return Task(CIRCUIT, angles)


def backend_of(service: FakeService, **options: object) -> QiskitBackend:
    # a job of three rows: 2 s and 8 rows of 32 shots
    seconds = 2.0 + 0.00035 * (2 * ROWS + 2) * 32 + 1e-9
    return service_backend(service, **{"job_seconds": seconds, "layout": [0, 1, 2], **options})


def measured(
    service: FakeService, folder: Path, resubmit: bool = False, **options: object
) -> tuple[Measurement, object]:
    with backend_of(service, **options).open(folder) as run:
        if resubmit:
            run.resubmit()
        (found,) = run.measure([some_task()])
    return found, run


def require_right(found: Measurement) -> None:
    here = np.isfinite(found.z)
    assert (np.abs(found.z - EXACT)[here] < 6 * found.stderr[here]).all()
    assert ((found.qubit >= 0) == here).all()


def test_a_quiet_day(tmp_path: Path) -> None:
    service = FakeService()
    found, run = measured(service, tmp_path)
    require_right(found)
    assert np.isfinite(found.z).all()
    assert len(run.jobs) == len(service.jobs_by_id) == 4
    assert run.seconds == run.committed_seconds == pytest.approx(service.billed)
    cost = backend_of(service).cost(31)
    assert (cost.jobs, cost.rows) == (4, 2 * 11 + 2 * 4)
    assert cost.executions == sum(job.executions for job in service.results)
    assert cost.seconds == pytest.approx(service.billed)
    assert all(job.limit >= job.seconds for job in service.results)


@pytest.mark.parametrize("submission", ["timeout accepted", "timeout accepted twice"])
def test_a_submission_without_an_answer(tmp_path: Path, submission: str) -> None:
    service = FakeService(submissions=[submission])
    found, run = measured(service, tmp_path)
    assert np.isfinite(found.z).all()
    require_right(found)
    assert len(service.results) == 4
    assert run.seconds == run.committed_seconds == pytest.approx(service.billed)


def test_what_nobody_answered_and_nobody_finds_is_submitted_again_only_on_request(
    tmp_path: Path,
) -> None:
    service = FakeService(submissions=["timeout"])
    for _ in range(2):
        found, run = measured(service, tmp_path)
        assert np.isnan(found.z).sum() == 9 and len(service.jobs_by_id) == 3
        assert run.committed_seconds == pytest.approx(service.billed + 4)
        assert any("resubmit=True" in note for note in run.notes)
    found, run = measured(service, tmp_path, resubmit=True)
    assert np.isfinite(found.z).all() and len(service.jobs_by_id) == 4
    require_right(found)
    # the first submission may still have been accepted
    assert run.committed_seconds == pytest.approx(service.billed + 4)


def test_a_refusal_is_not_repeated(tmp_path: Path) -> None:
    service = FakeService(submissions=["ok", "refused"])
    with pytest.raises(BackendError, match="Not valid"):
        measured(service, tmp_path)
    assert len(service.jobs_by_id) == 1
    # opened again, perhaps with another account, it is a new question
    found, _ = measured(service, tmp_path)
    assert np.isfinite(found.z).all()
    assert len(service.jobs_by_id) == 4


@pytest.mark.parametrize("outcome", ["failed", "wrong shape", "few shots", "no register",
                                     "one pub", "lost"])  # fmt: skip
def test_a_failure_of_the_system_is_tried_again(tmp_path: Path, outcome: str) -> None:
    service = FakeService(outcomes=["done", outcome])
    found, _ = measured(service, tmp_path)
    assert np.isfinite(found.z).all()
    require_right(found)
    assert len(service.jobs_by_id) == 5
    kept = [text for name, text in blobs(tmp_path).items() if name.startswith("quarantine-")]
    assert bool(kept) == (outcome in ("wrong shape", "few shots", "no register", "one pub"))
    assert all(b"BitArray" in text for text in kept)


def test_what_fails_for_good_leaves_the_rest(tmp_path: Path) -> None:
    service = FakeService(outcomes=["done", "failed", "done", "done", "failed", "failed"])
    found, run = measured(service, tmp_path)
    assert np.isnan(found.z).sum() == 9
    require_right(found)
    assert any("failed permanently" in note for note in run.notes)
    found, run = measured(service, tmp_path)
    assert np.isfinite(found.z).all()
    assert len(service.jobs_by_id) == 7


def test_our_mistake_is_never_retried(tmp_path: Path) -> None:
    service = FakeService(outcomes=["our mistake"])
    for _ in range(2):
        found, _ = measured(service, tmp_path)
        assert np.isnan(found.z).sum() == 9
        assert len(service.jobs_by_id) == 4


def test_a_job_that_ran_too_long_is_halved(tmp_path: Path) -> None:
    service = FakeService(outcomes=["too long"])
    found, run = measured(service, tmp_path)
    assert np.isfinite(found.z).all()
    rows = [len(job.pubs[0][1]) for job in service.jobs_by_id.values()]
    assert sorted(rows) == [2, 4, 4, 6, 6, 6]
    assert run.seconds == pytest.approx(service.billed)


def test_a_cancelled_job_waits_for_the_next_time(tmp_path: Path) -> None:
    service = FakeService(outcomes=["cancelled"])
    found, _ = measured(service, tmp_path)
    assert np.isnan(found.z).sum() == 9
    found, _ = measured(service, tmp_path)
    assert np.isfinite(found.z).all()


def test_silence_while_waiting_is_borne(tmp_path: Path) -> None:
    service = FakeService(silences={"status": 7, "metrics": 2, "result": 1})
    found, run = measured(service, tmp_path)
    assert np.isfinite(found.z).all()
    assert run.seconds == run.committed_seconds == pytest.approx(service.billed)


def test_a_service_that_is_gone_keeps_the_jobs(tmp_path: Path) -> None:
    service = FakeService(silences={"status": 10**6})
    with pytest.raises(BackendError, match="No answer after"):
        measured(service, tmp_path)
    service.silences.clear()
    found, _ = measured(service, tmp_path)
    assert np.isfinite(found.z).all()
    assert len(service.jobs_by_id) == 4


def test_the_budget_ends_a_run_between_jobs(tmp_path: Path) -> None:
    service = FakeService()
    found, run = measured(service, tmp_path, budget_seconds=9.0)
    assert len(service.jobs_by_id) == 3
    assert np.isnan(found.z).sum() == 4
    assert any("of the budget" in note for note in run.notes)
    found, _ = measured(service, tmp_path, budget_seconds=100.0)
    assert np.isfinite(found.z).all()
    assert len(service.jobs_by_id) == 4


def test_a_budget_for_not_even_one_job(tmp_path: Path) -> None:
    service = FakeService()
    with pytest.raises(BackendError, match="Raise budget_seconds"):
        measured(service, tmp_path, budget_seconds=3.0)
    assert not service.jobs_by_id


def test_a_reservation_is_held_until_the_usage_is_final(tmp_path: Path) -> None:
    service = FakeService(slow_usage=10**6)
    _, run = measured(service, tmp_path, budget_seconds=9.0)
    # each of two jobs reserves 4 s of 9 for good
    assert len(service.jobs_by_id) == 2
    assert run.seconds == 0 and run.committed_seconds == 8
    service.slow_usage = 0
    _, run = measured(service, tmp_path, budget_seconds=9.0)
    assert run.seconds == pytest.approx(service.billed)


def test_the_budget_is_one_for_all_runs(tmp_path: Path) -> None:
    service = FakeService()
    backend = backend_of(service, budget_seconds=12.0)
    with backend.open(tmp_path / "a") as run:
        run.measure([some_task()])
    assert backend.cost(1).seconds_left == backend.seconds_left == pytest.approx(
        12 - service.billed
    )  # fmt: skip
    with backend.open(tmp_path / "b") as other, pytest.raises(BackendError, match="budget"):
        other.measure([some_task()])
    with backend.open(tmp_path / "a") as run:
        run.measure([some_task()])
    assert backend.seconds_left == pytest.approx(12 - service.billed)


def test_a_real_device_needs_a_budget() -> None:
    with pytest.raises(BackendError, match="budget_seconds=60"):
        service_backend(FakeService(), budget_seconds=None)


def test_cancelling(tmp_path: Path) -> None:
    class Interrupted(FakeService):
        def answer(self, what: str) -> None:
            if what == "status" and not self.silences:
                raise KeyboardInterrupt
            super().answer(what)

    service = Interrupted()
    with backend_of(service).open(tmp_path) as run:
        with pytest.raises(KeyboardInterrupt, match=r"job-0.*qkan\.resume.*qkan\.cancel"):
            run.measure([some_task()])
        service.silences["status"] = 0
        assert run.cancel() == run.jobs == ("job-0", "job-1", "job-2")
        assert run.cancel() == ()
    assert [job.state for job in service.jobs_by_id.values()] == ["CANCELLED"] * 3
    assert service.billed == 0


def test_the_token_never_appears(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = FakeService(
        submissions=["timeout accepted", "ok", "ok", "refused"],
        outcomes=["failed", "no register"],
        silences={"status": 2},
    )
    monkeypatch.setenv("QISKIT_IBM_TOKEN", "envsecret")
    service.outcomes += ["our mistake"]
    backend = backend_of(service)
    with caplog.at_level("DEBUG"), backend.open(tmp_path) as run:
        with pytest.raises(BackendError) as refusal:
            run.measure([some_task()])
    texts = [caplog.text, str(refusal.value), repr(refusal.value.__cause__), repr(backend),
             repr(run), str(run.notes)]  # fmt: skip
    texts += [file.read_bytes().decode(errors="replace") for file in tmp_path.iterdir()]
    assert not any(service.token in text or "envsecret" in text for text in texts)
    assert refusal.value.__suppress_context__
    assert any("***" in text for text in texts)


def of_strays(service: FakeService) -> float:
    """Seconds billed for copies that the service made of a job by itself."""
    first: dict[str, FakeJob] = {}
    for job in service.jobs_by_id.values():
        first.setdefault(job.tags[-1], job)
    return service.billed - sum(job.seconds for job in first.values())


faults = st.lists(st.sampled_from(SUBMISSIONS), max_size=6)
ends = st.lists(st.sampled_from(OUTCOMES), max_size=6)
silence = st.dictionaries(st.sampled_from(["status", "jobs", "metrics", "result", "cancel"]),
                          st.integers(1, 25), max_size=3)  # fmt: skip


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
)
@given(faults, ends, silence, st.integers(0, 3), st.integers(0, 2), st.floats(4, 40))
def test_any_order_of_faults(
    submissions: list[str],
    outcomes: list[str],
    silences: dict[str, int],
    delay: int,
    slow: int,
    budget: float,
) -> None:
    service = FakeService(
        submissions=submissions, outcomes=outcomes, silences=dict(silences), delay=delay,
        slow_usage=slow,
    )  # fmt: skip
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # hundreds of runs, each on a disk
    with tempfile.TemporaryDirectory(dir=memory) as name:
        for _ in range(6):
            try:
                found, run = measured(service, Path(name), budget_seconds=budget)
            except BackendError:
                continue
            finally:
                assert service.billed - of_strays(service) <= budget
                # a second copy is cancelled before it runs, unless the service was silent
                assert silences or not of_strays(service)
            require_right(found)
            if np.isfinite(found.z).all() and run.seconds == run.committed_seconds:
                break
        service.submissions, service.outcomes = [], []
        service.silences.clear()
        service.slow_usage = 0
        # what was never answered nor found is submitted anew because a person says so
        found, run = measured(service, Path(name), budget_seconds=1000.0, resubmit=True)
        before = len(service.jobs_by_id)
        found, run = measured(service, Path(name), budget_seconds=1000.0)
        require_right(found)
        assert len(service.jobs_by_id) == before
        known = [job for job in service.jobs_by_id.values() if job.outcome != "lost"]
        assert run.seconds == pytest.approx(sum(job.seconds for job in known))
        assert set(run.jobs) == set(service.jobs_by_id)
        if not any(job.outcome == "our mistake" for job in known):
            assert np.isfinite(found.z).all()
        # every value was measured by one job that could be read, and only by one
        # unless the service made a copy and would not say so in time
        good = [job for job in service.results if job.outcome == "done"]
        assert silences or len({job.tags[-1] for job in good}) == len(good)
