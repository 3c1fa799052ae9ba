"""The line that says that kernels are being compiled: when it comes, and how it is silenced."""

from __future__ import annotations

import threading
import time

import pytest

from qkan._progress import Progress
from qkan.simulators.cpu import notice
from qkan.simulators.cpu.notice import Notice, hushed


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notice, "PATIENCE", 0.05)
    monkeypatch.delenv("QKAN_PROGRESS", raising=False)


def compile_for(seconds: float, told: Notice, kept: bool = True) -> None:
    with told.compiling("small.forward", kept=kept):
        time.sleep(seconds)


def test_one_line_whatever_the_number_of_threads(capsys: pytest.CaptureFixture[str]) -> None:
    told = Notice()
    threads = [threading.Thread(target=compile_for, args=(0.5, told)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    compile_for(0.3, told)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "small.forward" in err
    assert "once on this machine" in err


def test_short_compilations_add_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Notice()
    monkeypatch.setattr(notice, "PATIENCE", 30.0)
    compile_for(0.0, told)
    assert capsys.readouterr().err == ""
    told._spent = 30.0
    compile_for(0.3, told)
    assert "small.forward" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    compile_for(0.3, Notice(), kept=False)
    assert "NUMBA_CACHE_DIR" in capsys.readouterr().err


def test_it_can_be_silenced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Notice()
    with hushed():
        compile_for(0.3, told)
    with Progress(1, "fit", enabled=False):
        compile_for(0.3, told)
    with hushed(False):
        monkeypatch.setenv("QKAN_PROGRESS", "0")
        compile_for(0.3, told)
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("QKAN_PROGRESS")
    compile_for(0.3, told)
    assert capsys.readouterr().err != ""
