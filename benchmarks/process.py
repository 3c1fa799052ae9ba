"""A worker process as the driver sees it: commands out, answers in, one at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import peers
from candidates import Candidate
from cases import Case

HERE = Path(__file__).resolve().parent
THREADS = 2
SILENT = ("PYTHONPATH", "PYTHONHOME", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables that would change another environment or how thread pools wait."""


class Refused(Exception):
    """A candidate cannot take part; the message says why."""


class Worker:
    """One candidate on one case, in a process of its own.

    Attributes:
        script: What the process runs, a file beside this one.

    Args:
        candidate: Who.
        case: What.
        arrays: The .npz with the case's numbers.
        scratch: A folder for logs.
    """

    script = "worker.py"

    def __init__(self, candidate: Candidate, case: Case, arrays: Path, scratch: Path) -> None:
        self.candidate, self.case = candidate, case
        self.batch = min(case.batch, candidate.batch_limit or case.batch)
        self.log = scratch / f"{candidate.name.replace(' ', '-')}.log"
        self.hello: dict[str, Any] = {}
        self.process = subprocess.Popen(
            [str(_interpreter(candidate)), str(HERE / self.script)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=_environment(self.log, candidate.environment), cwd=scratch,
        )  # fmt: skip
        described = {**case.describe(), "batch": self.batch}
        self.send("build", case=described, arrays=str(arrays), options=candidate.options,
                  worker=candidate.worker, threads=THREADS)  # fmt: skip

    def send(self, command: str, **details: Any) -> None:
        """Give a command; the worker starts on it at once."""
        assert self.process.stdin is not None
        try:
            print(json.dumps({"do": command, **details}), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise Refused(self._gone()) from None

    def receive(self) -> dict[str, Any]:
        """Wait for the answer to the last command.

        Raises:
            Refused: It cannot run the case, it failed, or the process is gone.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Refused(self._gone())
        answer: dict[str, Any] = json.loads(line)
        if "unavailable" in answer:
            raise Refused(f"not available: {answer['unavailable']}")
        if "error" in answer:
            raise Refused(f"failed: {answer['error']}")
        return answer

    def ask(self, command: str, **details: Any) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        self.send(command, **details)
        return self.receive()

    def cpu(self) -> float:
        """CPU seconds of the process so far, from the outside: it may be asleep."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process and wait for it."""
        self.process.kill()
        self.process.communicate()

    def _gone(self) -> str:
        time.sleep(0.1)
        code = self.process.poll()
        why = "killed, probably for memory" if code == -9 else f"exit status {code}"
        return f"failed: its process is gone ({why})"


def _interpreter(candidate: Candidate) -> Path:
    if not candidate.environment:
        return Path(sys.executable)
    reason = peers.missing(candidate.environment)
    if reason is not None:
        raise Refused(reason)
    return peers.python(candidate.environment)


def _environment(log: Path, other: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in SILENT}
    if not other and "PYTHONPATH" in os.environ:
        # where this checkout is not installed, that is where it is found
        kept["PYTHONPATH"] = os.environ["PYTHONPATH"]
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    threads = dict.fromkeys(names, str(THREADS))
    return {**kept, **threads, "PYTHONNOUSERSITE": "1", "BENCHMARK_LOG": str(log)}
