"""A service that answers late, wrongly or not at all, and a person who interferes: who pays?"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_models import inputs, network, run
from fake_service import FakeService, service_backend
from file_provider import FileProvider
from hostile import JOBS, TASK, require_paid_once
from qiskit_ibm_runtime.exceptions import IBMRuntimeError
from requests.exceptions import JSONDecodeError, ReadTimeout

from qkan import QKANError, estimate
from qkan.backends import BackendError, QiskitBackend, Status
from qkan.backends.qiskit import runtime
from qkan.backends.qiskit.runtime import is_refusal

# a job of three rows of three


def measure(service: FakeService, folder: Path, **options: Any) -> tuple[Any, Any]:
    with service_backend(service, **{**JOBS, **options}).open(folder) as run:
        (found,) = run.measure([TASK])
    return found, run


def no_json(text: str) -> Exception:
    return JSONDecodeError(text, "<html>502 Bad Gateway</html>", 0)


GARBLED: dict[str, Callable[[str], Exception]] = {
    "no json": no_json, "a key": KeyError, "a type": TypeError, "a value": ValueError,
    "an attribute": AttributeError, "a time-out": ReadTimeout, "the runtime": IBMRuntimeError,
    "a coding": lambda text: UnicodeDecodeError("utf-8", b"\xff", 0, 1, text),
    "unheard of": lambda text: RuntimeError(text),
}  # fmt: skip


@pytest.mark.parametrize("how", ["no json accepted", "no id accepted", "text accepted"])
def test_an_answer_that_makes_no_sense_is_no_refusal(how: str, tmp_path: Path) -> None:
    service = FakeService(submissions=["ok", how, how])
    require_paid_once(service, *measure(service, tmp_path))


@pytest.mark.parametrize("kind", GARBLED)
def test_no_call_takes_an_error_for_a_no_or_says_the_token(kind: str, tmp_path: Path) -> None:
    service = FakeService(
        submissions=["timeout accepted"], silence=GARBLED[kind],
        silences={"status": 3, "jobs": 1, "metrics": 2, "result": 2, "usage": 2},
    )  # fmt: skip
    require_paid_once(service, *measure(service, tmp_path))


@pytest.mark.parametrize("kind", GARBLED)
@pytest.mark.parametrize("call", ["status", "jobs", "metrics", "result", "usage", "cancel"])
def test_every_error_of_the_provider_is_scrubbed(call: str, kind: str) -> None:
    service = FakeService(silence=GARBLED[kind])
    provider = service_backend(service).provider
    service.accept([], 1, ["tag"], 1)
    service.silences = {call: 9}
    ask: dict[str, Callable[[], object]] = {
        "status": lambda: provider.status("job-0"),
        "jobs": lambda: provider.find("tag"),
        "metrics": lambda: provider.usage("job-0"),
        "result": lambda: provider.counts("job-0", None),  # type: ignore[arg-type]
        "usage": provider.seconds_left,
        "cancel": lambda: provider.cancel("job-0"),
    }
    with pytest.raises(BackendError, match=r"\*\*\*") as refusal:
        ask[call]()
    error = refusal.value
    assert service.token not in str(error) and error.__cause__ is None
    assert error.__suppress_context__


def test_only_the_services_own_no_is_a_refusal() -> None:
    def wrapped(code: int) -> Exception:
        text = f"Failed to run program: '{code} Client Error: Bad Request for url: https://x/jobs'"
        return IBMRuntimeError(text)

    assert is_refusal(wrapped(400)) and is_refusal(wrapped(403))
    for error in (wrapped(408), wrapped(429), IBMRuntimeError("502 Server Error: Bad Gateway"),
                  ValueError("400"), IBMRuntimeError("Job 400 was lost"), no_json("")):  # fmt: skip
        assert not is_refusal(error), error


def test_what_finishes_while_its_cancellation_travels_is_kept(tmp_path: Path) -> None:
    service = FakeService(delay=10**6, finishes_in_cancel=True)
    with service_backend(service, wait=False, **JOBS).open(tmp_path) as run:
        with pytest.raises(BackendError, match="in the queue"):
            run.measure([TASK])
    with service_backend(service, **JOBS).watch(tmp_path) as seen:
        assert seen.cancel() == ()
        assert set(seen.status().values()) == {"done"}
    assert service.billed > 0 and len(service.jobs_by_id) == 3
    service.delay = 1
    require_paid_once(service, *measure(service, tmp_path))


def test_what_cannot_be_cancelled_is_named(tmp_path: Path) -> None:
    service = FakeService(delay=10**6)
    with service_backend(service, wait=False, **JOBS).open(tmp_path) as run:
        with pytest.raises(BackendError, match="in the queue"):
            run.measure([TASK])
        service.silences = {"cancel": 1}
        with pytest.raises(BackendError, match=r"job-1, job-2.*No answer for job-0"):
            run.cancel()
        assert run.cancel() == ("job-0",)


def test_an_older_copy_of_the_store_buys_nothing_again(tmp_path: Path) -> None:
    service = FakeService()
    with service_backend(service, **JOBS).open(tmp_path / "run") as run:
        run.copy(tmp_path / "empty")
    service.delay = 10**6
    with service_backend(service, wait=False, **JOBS).open(tmp_path / "run") as run:
        with pytest.raises(BackendError, match="in the queue"):
            run.measure([TASK])
        run.copy(tmp_path / "begun")
    service.delay = 1
    measure(service, tmp_path / "run")
    for copy in ("empty", "begun"):
        require_paid_once(service, *measure(service, tmp_path / copy))


def test_jobs_that_were_planned_otherwise_are_cancelled_and_counted(tmp_path: Path) -> None:
    """The copy knows nothing of them, and the qubits are ranked otherwise by now."""
    service = FakeService()
    with service_backend(service, **JOBS).open(tmp_path / "run") as run:
        run.copy(tmp_path / "copy")
    measure(service, tmp_path / "run")
    found, run = measure(service, tmp_path / "copy", layout=[2, 1, 0])
    require_paid_once(service, found, run, jobs=8)


def test_a_lagging_index_is_waited_for(tmp_path: Path) -> None:
    service = FakeService(submissions=["timeout accepted"] * 2, lag=6)
    require_paid_once(service, *measure(service, tmp_path, search_seconds=60.0))


def test_a_clock_that_is_off_makes_no_search_endless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = FakeService(submissions=["timeout"])
    monkeypatch.setattr("time.monotonic", iter(range(0, 10**6, 20)).__next__)
    for seconds in (-4e9, 4e9):
        monkeypatch.setattr("time.time", lambda now=seconds: now)
        found, run = measure(service, tmp_path, search_seconds=100.0, max_age_hours=1e9)
        assert np.isnan(found.z).sum() == 9 and any("resubmit" in note for note in run.notes)


def test_usage_that_comes_in_parts_is_counted_while_it_comes(tmp_path: Path) -> None:
    service = FakeService(slow_usage=10**6, partial_usage=True)
    found, run = measure(service, tmp_path)
    assert np.isfinite(found.z).all() and run.committed_seconds == 16
    service.slow_usage = 0
    require_paid_once(service, *measure(service, tmp_path))


def test_seconds_of_a_job_that_runs_are_counted(tmp_path: Path) -> None:
    class Running(FileProvider):
        def status(self, identity: str) -> Status:
            found = super().status(identity)
            return Status("queued", seconds=1.5) if found.state == "queued" else found

    backend = QiskitBackend(
        "file", provider=Running(tmp_path / "service"), shots=60, budget_seconds=9.0, wait=False
    )
    with backend.open(tmp_path / "run") as run, pytest.raises(BackendError, match="queue"):
        run.measure([TASK])
    assert run.seconds == 1.5 and run.committed_seconds == 4
    with backend.open(tmp_path / "run") as run:
        run.measure([TASK])
    assert run.seconds == run.committed_seconds == pytest.approx(2 + 0.00035 * 30 * 18, abs=0.1)


# ---- the account's own time


def test_a_run_that_the_account_has_no_time_for_is_refused(tmp_path: Path) -> None:
    service = FakeService(seconds_left=7.0)
    with pytest.raises(BackendError, match=r"about 8 s, but 7 s are left on the account"):
        measure(service, tmp_path)
    assert not service.jobs_by_id
    assert service_backend(service).cost(1).account_seconds_left == 7.0
    service.seconds_left = None
    require_paid_once(service, *measure(service, tmp_path))


def test_an_account_that_is_used_up_on_the_way_ends_the_run(tmp_path: Path) -> None:
    class Shrinking(FakeService):
        def accept(self, *arguments: Any) -> Any:
            self.seconds_left = (self.seconds_left or 0.0) - 3
            return super().accept(*arguments)

    service = Shrinking(seconds_left=10.0)
    found, run = measure(service, tmp_path)
    assert len(service.jobs_by_id) == 3 and np.isnan(found.z).sum() == 4
    assert any("left on the account" in note for note in run.notes)


# ---- a second process beside one that waits


class Waiting(FileProvider):
    """Jobs that stay in the queue until they are cancelled."""

    def status(self, identity: str) -> Status:
        cancelled = self.jobs()[identity]["state"] == "cancelled"
        return Status("cancelled" if cancelled else "queued")


def waiting_backend(folder: Path) -> QiskitBackend:
    return QiskitBackend(
        "file", provider=Waiting(folder / "service"), budget_seconds=100.0, poll_seconds=0.02,
        max_pending=2, shots=64, layout=[0, 1, 2], job_seconds=JOBS["job_seconds"],
    )  # fmt: skip


def test_looking_and_cancelling_work_beside_a_process_that_waits(in_memory: Path) -> None:
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        with waiting_backend(in_memory).open(in_memory / "run") as run:
            os.write(send, b"open\n")
            (found,) = run.measure([TASK])
        os.write(send, f"{int(np.isnan(found.z).sum())} {run.notes}".encode())
        os._exit(0)
    os.close(send)
    with os.fdopen(receive) as answer:
        assert answer.readline() == "open\n"
        with waiting_backend(in_memory).watch(in_memory / "run") as seen:
            while len(seen.status()) < 2:
                pass
            assert set(seen.status().values()) == {"queued"}
            assert len(seen.cancel()) == 2 and seen.committed_seconds == 0
        said = answer.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert said.startswith("31 ") and "cancelled while it waited" in said
    assert len(Waiting(in_memory / "service").jobs()) == 2, "nothing was submitted after it"


def test_only_one_process_works_and_there_must_be_a_run_to_look_at(tmp_path: Path) -> None:
    backend = waiting_backend(tmp_path)
    with backend.open(tmp_path / "run"):
        with pytest.raises(BackendError, match=r"Another process.*cancel its jobs"):
            backend.open(tmp_path / "run")
        backend.watch(tmp_path / "run").close()
    with pytest.raises(BackendError, match="has no run"):
        backend.watch(tmp_path / "elsewhere")


# ---- what is known before anything is paid


def test_the_service_estimates_without_running(tmp_path: Path) -> None:
    model, x = network([2, 2, 1]), inputs(5, 2)
    service = FakeService(seconds_left=500.0)
    plan = estimate(model, x, service_backend(service), dry_run=True)
    assert plan.dry_seconds == pytest.approx(2 * 3 + 0.0004 * plan.executions)
    assert service.dry_runs == [["qkan-dry-run"]] * 2 and not service.jobs_by_id
    text = str(plan)
    assert "5 qubits at once, 1e+03 s of budget left, 500 s left on the account's instance" in text
    assert "the service's dry run: 6.2" in text
    assert estimate(model, x, service_backend(service)).dry_seconds is None
    emulator = QiskitBackend("fake_manila", emulator="closed_form", max_error=0.5)
    assert estimate(model, x, emulator, dry_run=True).dry_seconds is None
    with pytest.raises(QKANError, match="dry_run=True only works for a run"):
        estimate(model, x, emulator, dry_run=True, mode="tabulate")


def test_an_emulators_plan_shows_the_whole_chip() -> None:
    model, x = network([3, 2]), inputs(50, 3)
    some, all_ = (QiskitBackend("fake_torino", emulator=kind) for kind in ("aer", "closed_form"))
    (stage,), (whole,) = estimate(model, x, some).stages, estimate(model, x, all_).stages
    assert stage.cost.width == 8 and whole.cost.width > 80 and whole.cost.chip is None
    chip = stage.cost.chip
    assert chip is not None and (chip.width, chip.rows, chip.seconds) == (
        whole.cost.width, whole.cost.rows, whole.cost.seconds,
    )  # fmt: skip
    line = str(estimate(model, x, some)).splitlines()[-1]
    assert f"on all {chip.width} usable qubits of the chip: {chip.rows} rows" in line


def test_a_plan_that_does_not_fit_says_so_and_is_not_begun(tmp_path: Path) -> None:
    """The first layer alone would fit, and be paid for in vain."""
    model, x = network([2, 2, 1]), inputs(5, 2)
    service = FakeService(seconds_left=3.0)
    backend = service_backend(service, budget_seconds=4.0)
    assert "does not fit: 3 s are left on the account's instance" in str(
        estimate(model, x, backend)
    )
    with pytest.raises(BackendError, match=r"would take about 4.* s on fake_manila, but 3 s"):
        run(model, x, backend, store=tmp_path)
    assert not service.jobs_by_id


def test_the_least_busy_device_has_the_gates_that_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = FakeService()
    monkeypatch.setattr(runtime, "account", lambda instance, channel: service)
    for wanted in (True, False):
        QiskitBackend("least_busy", budget_seconds=1, use_fractional_gates=wanted, max_error=0.5)
        assert service.least_busy_asked == ({"use_fractional_gates": True} if wanted else {})
