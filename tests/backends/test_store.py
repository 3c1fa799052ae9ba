"""What is kept of a run, and that neither faults nor sudden ends cost or lose anything."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from fake_service import FakeService, service_backend
from paths import TESTS
from stores import change, records

from qkan.backends import BackendError, PendingError, QiskitBackend, Task
from qkan.backends.store import Store
from qkan.circuits import ansatz

CIRCUIT = ansatz("rpz", 1)


def some_task(values: int = 23, seed: int = 0) -> Task:
    rng = np.random.default_rng(seed)
    return Task(CIRCUIT, rng.uniform(-3, 3, (values, 3)))


def emulator(**options: object) -> QiskitBackend:
    return QiskitBackend(
        "aer", emulator="closed_form", **{"shots": 100, "seed": 3, "width": 4, **options}
    )


def test_a_run_is_read_back_and_not_run_again(tmp_path: Path) -> None:
    service = FakeService()
    with service_backend(service).open(tmp_path) as run:
        (first,) = run.measure([some_task()])
        (second,) = run.measure([some_task(5)])
    jobs, asked = len(service.jobs_by_id), service.asked
    with service_backend(service).open(tmp_path) as again:
        (same,) = again.measure([some_task()])
        (also,) = again.measure([some_task(5)])
        assert again.jobs == run.jobs
    assert len(service.jobs_by_id) == jobs
    assert service.asked == asked + 1  # service_backend's own look at the device
    for one, other in ((first, same), (second, also)):
        for name in ("z", "stderr", "shot_stderr", "qubit"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert one.calibration_error == other.calibration_error


def test_a_run_that_does_not_wait_goes_on_when_opened_again(tmp_path: Path) -> None:
    waiting, service = FakeService(), FakeService(delay=2)
    with service_backend(waiting, seed=1).open(tmp_path / "waiting") as run:
        (wanted,) = run.measure([some_task(40)])
    times = 0
    while True:
        with service_backend(service, seed=1, wait=False).open(tmp_path / "left") as run:
            try:
                (found,) = run.measure([some_task(40)])
                break
            except PendingError as pending:
                assert pending.jobs and set(pending.jobs) <= set(service.jobs_by_id)
                times += 1
    assert times > 0
    assert len(service.jobs_by_id) == len(waiting.jobs_by_id) and service.billed == waiting.billed
    np.testing.assert_array_equal(found.qubit, wanted.qubit)
    assert np.isfinite(found.z).all()


def test_an_emulator_without_a_store_keeps_nothing() -> None:
    with emulator().open() as run:
        (found,) = run.measure([some_task()])
    assert run.path is None
    assert np.isfinite(found.z).all()


def test_a_device_always_has_a_store(tmp_path: Path) -> None:
    backend = service_backend(FakeService(), store=tmp_path)
    z, _ = backend.measure(CIRCUIT, np.zeros((2, 3)))
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert (folder / "run.sqlite").exists() and np.isfinite(z).all()


def test_two_processes_do_not_share_a_store(tmp_path: Path) -> None:
    with emulator().open(tmp_path), pytest.raises(BackendError, match="Another process"):
        emulator().open(tmp_path)
    emulator().open(tmp_path).close()


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    with emulator().open(tmp_path, about={"model": "m", "layer": 2}) as run:
        run.measure([some_task()])
    return tmp_path


def reopen(path: Path, about: dict[str, object] | None = None, **options: object) -> np.ndarray:
    about = {"model": "m", "layer": 2} if about is None else about
    with emulator(**options).open(path, about) as run:
        (found,) = run.measure([some_task()])
        return found.z


def test_a_database_that_ends_early_or_was_overwritten_is_an_error(kept: Path) -> None:
    file = kept / "run.sqlite"
    content = file.read_bytes()
    for broken in (content[:-4096], content[:1000], b"x" * len(content),
                   content[:5000] + bytes(1000) + content[6000:]):  # fmt: skip
        file.write_bytes(broken)
        with pytest.raises(BackendError, match=r"Restore|Name another"):
            reopen(kept)
    file.write_bytes(content)
    reopen(kept)


def test_an_edited_record_is_an_error(kept: Path) -> None:
    count = len(records(kept))
    content = (kept / "run.sqlite").read_bytes()
    assert count >= 5
    for number in range(1, count + 1):
        change(kept, "UPDATE record SET content = replace(content, '0', '1') || ' ' "
               "WHERE number = ?", number)  # fmt: skip
        with pytest.raises(BackendError, match=f"Record {number} of"):
            reopen(kept)
        (kept / "run.sqlite").write_bytes(content)
    change(kept, "DELETE FROM record WHERE number = 3")
    with pytest.raises(BackendError, match="Record 3 of"):
        reopen(kept)


def test_an_edited_result_is_an_error(kept: Path) -> None:
    content = (kept / "run.sqlite").read_bytes()
    change(kept, "UPDATE blob SET content = substr(content, 1, 60) || x'00'")
    with pytest.raises(BackendError, match="was altered"):
        reopen(kept)
    (kept / "run.sqlite").write_bytes(content)
    change(kept, "DELETE FROM blob")
    with pytest.raises(BackendError, match="is missing"):
        reopen(kept)


@pytest.mark.parametrize("trace", ["run.json", "budget.sqlite"])
def test_a_lost_database_is_noticed(trace: str, kept: Path) -> None:
    (kept / trace).write_text("{}")
    for state in ("is empty", "is missing"):
        (kept / "run.sqlite").write_bytes(b"")
        if state == "is missing":
            (kept / "run.sqlite").unlink()
        with pytest.raises(BackendError, match=f"{state}.*Restore it from a copy"):
            reopen(kept)


def test_a_store_of_a_newer_version_is_refused(kept: Path) -> None:
    with closing(sqlite3.connect(kept / "run.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 3")
    with pytest.raises(BackendError, match=r"newer version of qkan \(format 3"):
        reopen(kept)


def test_a_copy_is_whole_and_goes_on(kept: Path, tmp_path: Path) -> None:
    wanted = reopen(kept)
    with emulator().open(kept, {"model": "m", "layer": 2}) as run:
        run.copy(tmp_path / "copy")
        with pytest.raises(BackendError, match="copy"):
            run.copy(tmp_path / "copy")
    np.testing.assert_array_equal(reopen(tmp_path / "copy"), wanted)


def test_another_run_is_an_error(kept: Path) -> None:
    with pytest.raises(BackendError, match="layer=2"):
        reopen(kept, {"model": "m", "layer": 3})
    with pytest.raises(BackendError, match="shots=100"):
        reopen(kept, shots=200)
    with emulator().open(kept, {"model": "m", "layer": 2}) as run:
        with pytest.raises(BackendError, match="other tasks"):
            run.measure([some_task(seed=1)])


def test_a_description_is_plain_values(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="plain JSON"):
        emulator().open(tmp_path, {"model": object()})
    emulator().open(tmp_path).close()


def test_a_stranger_in_the_folder_is_an_error(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.transaction() as step:
        store.append(step, {"kind": "diary"})
    store.close()
    with pytest.raises(BackendError, match="diary"):
        emulator().open(tmp_path)
    (tmp_path / "run.sqlite").unlink()
    with closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
        connection.execute("CREATE TABLE diary (day TEXT)")
    with pytest.raises(BackendError, match="not a store of qkan"):
        emulator().open(tmp_path)


WORKER = """
import json, os, signal, sqlite3, sys
from pathlib import Path
import numpy as np
from qkan.backends import QiskitBackend, Task, database, state, store
from qkan.circuits import ansatz

folder = Path(sys.argv[1])
watched = {module.__file__ for module in (store, state, database)}
rng = np.random.default_rng(0)
tasks = [Task(ansatz("rpz", 1), rng.uniform(-3, 3, (5, 3))) for _ in range(2)]
backend = QiskitBackend("aer", emulator="closed_form", shots=100, seed=3, width=2, job_seconds=2.12)
steps = []

def work(path):
    with backend.open(path) as run:
        return [run.measure([task])[0].z.tolist() for task in tasks]

def in_child(path, last):
    \"\"\"Work in a process of its own, killed at a line; what it says, and how it ended.\"\"\"
    receive, send = os.pipe()
    child = os.fork()
    if child:
        os.close(send)
        with os.fdopen(receive) as answer:
            said = answer.read()
        return said, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    def line(frame, event, argument):
        if event == "line":
            steps.append((frame.f_code.co_filename, frame.f_lineno))
            if len(steps) == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return line
    if last is not None:
        sys.settrace(lambda frame, *_: line if frame.f_code.co_filename in watched else None)
    found = work(path)
    sys.settrace(None)
    os.write(send, json.dumps([steps, found]).encode())
    os._exit(0)

said, code = in_child(folder / "whole", 0)
steps_of_all, wanted = json.loads(said)
first, final = {}, {}
for number, step in enumerate(map(tuple, steps_of_all), start=1):
    first.setdefault(step, number)
    final[step] = number
tried = [(first if k % 2 else final)[step] for k, step in enumerate(first)]
for last in tried:
    path = folder / str(last)
    _, code = in_child(path, last)
    assert code == -signal.SIGKILL, code
    said, code = in_child(path, None)
    assert code == 0, code
    assert json.loads(said)[1] == wanted, steps_of_all[last - 1]
kept = sqlite3.connect(folder / "whole" / "run.sqlite").execute("SELECT COUNT(*) FROM blob")
print(len(tried), kept.fetchone()[0])
"""


def test_a_process_killed_at_any_line_of_the_store_loses_nothing(in_memory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(in_memory)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines, jobs = map(int, done.stdout.split())
    assert lines > 50 and jobs >= 4


INTERRUPTED = """
import sys
from pathlib import Path
import numpy as np
from qkan.backends import QiskitBackend, Task, budget, database, state, store
from qkan.circuits import ansatz
sys.path.insert(0, sys.argv[2])
from file_provider import FileProvider

folder = Path(sys.argv[1])
watched = {module.__file__ for module in (store, state, budget, database)}
task = Task(ansatz("rpz", 1), np.random.default_rng(0).uniform(-3, 3, (5, 3)))

def opened(path):
    provider = FileProvider(path / "service")
    return QiskitBackend("file", provider=provider, shots=60, width=4, seed=3, poll_seconds=0.0,
                         search_seconds=0.0, budget_seconds=20.0).open(path / "run")

steps = []
def work(path, last):
    def line(frame, event, argument):
        if event == "line":
            steps.append((frame.f_code.co_filename, frame.f_lineno))
            if len(steps) == last:
                sys.settrace(None)
                raise KeyboardInterrupt
        return line if sys.gettrace() else None
    steps.clear()
    run = opened(path)
    sys.settrace(lambda frame, *_: line if frame.f_code.co_filename in watched else None)
    try:
        try:
            return run.measure([task])[0].z.tolist()
        finally:
            sys.settrace(None)
    except KeyboardInterrupt:
        # the same object goes on, as in a notebook; and then another process does
        run.status()
        return None
    finally:
        run.close()

wanted = work(folder / "whole", 0)
first = {}
for number, step in enumerate(steps, start=1):
    first.setdefault(step, number)
hit = 0
for last in first.values():
    path = folder / str(last)
    hit += work(path, last) is None
    with opened(path) as run:
        run.resubmit()
        found = run.measure([task])[0].z
        assert run.seconds <= run.committed_seconds
    (job,) = FileProvider(path / "service").jobs().values()
    # announced and then not submitted, it was submitted anew, under another name and seed
    assert found.tolist() == wanted or "-0.1-" in job["tags"][1] and np.isfinite(found).all(), last
print(hit, len(first))
"""


def test_ctrl_c_at_any_line_of_the_store_loses_nothing(in_memory: Path) -> None:
    tests = str(TESTS)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(in_memory), tests],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    hit, lines = map(int, done.stdout.split())
    assert hit == lines > 60
