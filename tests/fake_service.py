"""A service that speaks the runtime's interface, runs circuits, bills, and fails on request.

It executes what is submitted gate by gate on Bloch vectors, so that a wrong template, a wrong
binding or a wrong layout shows in the counts.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from qiskit.primitives.containers import BitArray
from qiskit_ibm_runtime.exceptions import (
    IBMInputValueError,
    IBMRuntimeError,
    RuntimeInvalidStateError,
    RuntimeJobNotFound,
)
from qiskit_ibm_runtime.fake_provider import FakeManilaV2
from requests.exceptions import JSONDecodeError

from qkan.backends import QiskitBackend
from qkan.backends.options import make_options
from qkan.backends.qiskit.runtime import RuntimeProvider

SUBMISSIONS = (
    "ok", "timeout", "timeout accepted", "timeout accepted twice", "refused", "no json accepted",
    "no id accepted", "text accepted",
)  # fmt: skip
OUTCOMES = (
    "done", "failed", "too long", "our mistake", "cancelled", "wrong shape", "few shots",
    "no register", "one pub", "lost",
)  # fmt: skip


def readings(circuit: Any, parameters: np.ndarray, readout: dict[int, tuple[float, float]]) -> Any:
    """P(1) of each row and classical bit, (r, w), from a transpiled circuit, gate by gate."""
    columns = {parameter: k for k, parameter in enumerate(circuit.parameters)}
    vectors: dict[int, list[Any]] = {}
    probability: dict[int, Any] = {}
    for step in circuit.data:
        qubit = circuit.find_bit(step.qubits[0]).index
        x, y, z = vectors.setdefault(qubit, [0.0, 0.0, 1.0])
        name = step.operation.name
        if name == "measure":
            p, q = readout.get(qubit, (0.0, 0.0))
            read = (1 - p - q) * z + (q - p) + np.zeros(len(parameters))
            probability[circuit.find_bit(step.clbits[0]).index] = (1 - read) / 2
        elif name in ("rx", "rz"):
            angle = step.operation.params[0]
            value = parameters[:, columns[angle]] if angle in columns else float(angle)
            c, s = np.cos(value), np.sin(value)
            turned = {
                "rz": [c * x - s * y, s * x + c * y, z],
                "rx": [x, c * y - s * z, s * y + c * z],
            }
            vectors[qubit] = turned[name]
        else:
            vectors[qubit] = {"sx": [x, -z, y], "x": [x, -y, -z]}[name]
    return np.stack([probability[k] for k in range(len(probability))], -1).clip(0, 1)


@dataclass(eq=False)
class FakeJob:
    """One accepted job."""

    service: FakeService
    identity: str
    pubs: list[Any]
    shots: int
    tags: list[str]
    limit: int
    outcome: str
    looks: int = 0
    searches: int = 0
    state: str = "QUEUED"
    seconds: float = 0.0
    reports: int = 0
    _reason_code: int | None = None

    def job_id(self) -> str:
        return self.identity

    @property
    def executions(self) -> int:
        return self.shots * sum(len(array) for _, array in self.pubs)

    def status(self) -> str:
        self.service.answer("status")
        self.service.tick()
        return self.state

    def run(self) -> None:
        """Take the device's time, and end as was foreseen."""
        if self.outcome == "cancelled":
            self.state = "CANCELLED"
            return
        wanted = 2.0 + 0.00035 * self.executions
        self.seconds = float(self.limit) if self.outcome == "too long" else min(wanted, self.limit)
        codes = {"failed": 9999, "too long": 1305, "our mistake": 6050}
        self._reason_code = codes.get(self.outcome)
        self.state = "ERROR" if self.outcome in codes else "DONE"

    def error_message(self) -> str:
        return f"Error code {self._reason_code}; it ended with {self.service.token}."

    def metrics(self) -> dict[str, Any]:
        self.service.answer("metrics")
        self.reports += 1
        if self.state == "QUEUED" or self.reports <= self.service.slow_usage:
            so_far = self.seconds / 2 if self.service.partial_usage else 0
            return {"usage": {"status": "pending", "qpu_charge_time_seconds": so_far}}
        return {"usage": {"status": "complete", "qpu_charge_time_seconds": self.seconds}}

    def cancel(self) -> None:
        self.service.answer("cancel")
        if self.service.finishes_in_cancel and self.state == "QUEUED":
            self.run()
            return
        if self.state != "QUEUED":
            raise RuntimeInvalidStateError("It has finished.")
        self.state = "CANCELLED"

    def result(self) -> Any:
        self.service.answer("result")
        results = [self.bits(*pub) for pub in self.pubs]
        if self.outcome == "no register":
            return [SimpleNamespace(data=SimpleNamespace(meas=bits)) for bits in results]
        if self.outcome == "one pub":
            results = results[:-1]
        return [SimpleNamespace(data=SimpleNamespace(c=bits)) for bits in results]

    def bits(self, circuit: Any, array: np.ndarray) -> BitArray:
        probability = readings(circuit, array, self.service.readout)
        shots = self.shots - 1 if self.outcome == "few shots" else self.shots
        if self.outcome == "wrong shape":
            probability = probability[:-1]
        draws = self.service.rng.random((len(probability), shots, probability.shape[1]))
        return BitArray.from_bool_array(draws < probability[:, None], order="little")


@dataclass(eq=False)
class FakeService:
    """The jobs of one account; `submissions` and `outcomes` are used up in order, then all is well.

    Attributes:
        submissions: Of `SUBMISSIONS`.
        outcomes: Of `OUTCOMES`.
        silences: How often the next answers to "status", "jobs", … fail to come.
        silence: What is raised then, from a text.
        lag: Times that the jobs with a tag are asked for before a job is among them.
        finishes_in_cancel: Whether a job that is cancelled finishes on the way.
        partial_usage: Whether usage that is not final says something.
        delay: Looks that a job stays in the queue for.
        slow_usage: Looks before a job's usage is final.
        seconds_left: On the account's instance; None where it has no limit.
    """

    submissions: list[str] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    silences: dict[str, int] = field(default_factory=dict)
    silence: Any = IBMRuntimeError
    lag: int = 0
    finishes_in_cancel: bool = False
    partial_usage: bool = False
    delay: int = 1
    slow_usage: int = 0
    readout: dict[int, tuple[float, float]] = field(default_factory=dict)
    seed: int = 0
    token: str = "t0psecret"
    jobs_by_id: dict[str, FakeJob] = field(default_factory=dict)
    device: Any = None
    asked: int = 0
    seconds_left: float | None = None
    modes: list[Any] = field(default_factory=list)
    dry_runs: list[Any] = field(default_factory=list)
    least_busy_asked: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.device = self.device or FakeManilaV2()
        self._numbers = itertools.count()

    def active_account(self) -> dict[str, str]:
        return {"channel": "ibm_quantum_platform", "token": self.token}

    def backend(self, name: str, instance: Any = None, use_fractional_gates: Any = False) -> Any:
        self.answer("backend")
        return self.device

    def least_busy(self, operational: bool, simulator: bool, **options: Any) -> Any:
        assert operational and not simulator
        self.least_busy_asked = options
        return self.device

    def usage(self) -> dict[str, Any]:
        self.answer("usage")
        return {} if self.seconds_left is None else {"usage_remaining_seconds": self.seconds_left}

    def job(self, identity: str) -> FakeJob:
        job = self.jobs_by_id.get(identity)
        if job is None or job.outcome == "lost":
            raise RuntimeJobNotFound(f"No job {identity}.")
        return job

    def jobs(
        self, job_tags: list[str], limit: Any, backend_name: str, descending: bool
    ) -> list[FakeJob]:
        self.answer("jobs")
        assert limit is None and not descending and backend_name == self.device.name
        found = [job for job in self.jobs_by_id.values() if set(job_tags) <= set(job.tags)]
        for job in found:
            job.searches += 1
        return [job for job in found if job.searches > self.lag]

    def answer(self, what: str) -> None:
        """Stay silent as often as was asked for."""
        self.asked += 1
        if self.silences.get(what, 0) > 0:
            self.silences[what] -= 1
            raise self.silence(f"Bad gateway for {self.token}.")

    def tick(self) -> None:
        """Let time pass for all jobs, whoever looks at whichever."""
        for job in self.jobs_by_id.values():
            job.looks += 1
            if job.state == "QUEUED" and job.looks > self.delay * len(self.jobs_by_id):
                job.run()

    def accept(self, pubs: list[Any], shots: int, tags: list[str], limit: int) -> FakeJob:
        outcome = self.outcomes.pop(0) if self.outcomes else "done"
        identity = f"job-{next(self._numbers)}"
        job = FakeJob(self, identity, pubs, shots, tags, limit, outcome)
        self.jobs_by_id[identity] = job
        return job

    def sampler(self, mode: Any) -> FakeSampler:
        self.modes.append(mode)
        return FakeSampler(self)

    @property
    def billed(self) -> float:
        """All that the service charges for."""
        return sum(job.seconds for job in self.jobs_by_id.values())

    @property
    def results(self) -> list[FakeJob]:
        """The jobs that ran to their end and can be read."""
        return [job for job in self.jobs_by_id.values() if job.state == "DONE"]


class FakeSampler:
    """What `Sampler(mode=…)` is to a caller."""

    def __init__(self, service: FakeService) -> None:
        self._service = service
        self.options = SimpleNamespace(
            environment=SimpleNamespace(job_tags=[]), max_execution_time=None
        )

    def run(self, pubs: list[Any], *, shots: int, dry_run: bool = False) -> Any:
        limit = self.options.max_execution_time
        assert isinstance(limit, int) and limit >= 1 and math.isfinite(limit)
        service = self._service
        if dry_run:
            executions = shots * sum(len(array) for _, array in pubs)
            service.dry_runs.append(list(self.options.environment.job_tags))
            return SimpleNamespace(result=lambda: None, usage=lambda: 3.0 + 0.0004 * executions)
        how = service.submissions.pop(0) if service.submissions else "ok"
        tags = list(self.options.environment.job_tags)
        if how == "refused":
            raise IBMInputValueError(f"Not valid for {service.token}.")
        if how == "timeout":
            raise TimeoutError("Read timed out.")
        job = service.accept(pubs, shots, tags, limit)
        if how == "timeout accepted twice":
            service.accept(pubs, shots, tags, limit)
        if how == "no json accepted":
            # what requests makes of a gateway's error page: a ValueError and an OSError at once
            raise JSONDecodeError(f"Expecting value, token {service.token}", "<html>", 0)
        if how == "no id accepted":
            return json.loads("null")["id"]  # as the runtime reads an answer
        if how == "text accepted":
            raise ValueError(f"Invalid isoformat string for {service.token}.")
        if how != "ok":
            raise ConnectionError(f"Reset by peer, token {service.token}.")
        return job


def service_backend(service: FakeService, **options: Any) -> QiskitBackend:
    """A backend of a real device's kind on a fake service."""
    options = {
        "budget_seconds": 1000.0,
        "poll_seconds": 0.0,
        "search_seconds": 0.0,
        "shots": 64,
        "max_error": 0.5,
        **options,
    }
    provider = RuntimeProvider(
        service, service.backend("fake_manila"), make_options(options), service.sampler
    )
    return QiskitBackend(provider.name, provider=provider, **options)
