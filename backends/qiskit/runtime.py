"""IBM's devices by qiskit-ibm-runtime, which alone handles the account and its token."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from qkan.backends.calibration import Calibration
from qkan.backends.errors import BackendError
from qkan.backends.options import Options
from qkan.backends.provider import (
    Counts,
    Job,
    MalformedError,
    Provider,
    RejectedError,
    Status,
    UnsureError,
)
from qkan.circuits import require

from .local import coupled, sampler_class
from .snapshot import snapshot
from .templates import Templates, counts_of

log = logging.getLogger(__name__)

RAN_TOO_LONG = 1305
RETRIABLE = {1000, 1004, 1006, 1008, 1010, 1011, 1202}
"""IBM's codes below 9000 that ask for another attempt; codes from 9000 on are internal errors."""

REFUSED = {400, 401, 402, 403, 404, 405, 410, 413, 415, 422}
"""HTTP codes by which a service refuses; with any other, it may have done what was asked."""

WAITING = {"INITIALIZING", "QUEUED", "RUNNING"}

AUTO_INSTANCE = (0, 48)
"""The first version of the runtime that accepts "auto" as an instance."""

TOKENS = ("QISKIT_IBM_TOKEN", "QISKIT_IBM_RUNTIME_API_TOKEN", "QISKIT_IBM_RUNTIME_CUSTOM_TOKEN")


class RuntimeProvider(Provider):
    """Jobs on a device of IBM's service, or of any service with its interface.

    Args:
        service: A `QiskitRuntimeService`.
        device: One of its backends.
        options: The options of the backend, of which those for the service are used.
        make_sampler: A function that returns a sampler for an execution mode (a backend, batch or
            session).
    """

    bills = True
    durable = True

    def __init__(
        self,
        service: Any,
        device: Any,
        options: Options,
        make_sampler: Callable[[Any], Any] | None = None,
    ) -> None:
        self._service, self._device, self._options = service, device, options
        self._make_sampler = make_sampler
        self._templates = Templates(device)
        self._snapshot: Calibration | None = None
        self._mode: Any = None
        self._token = ""
        self.name = str(device.name)
        self.native_rx = options.use_fractional_gates and "rx" in device.target.operation_names

    def calibration(self, refresh: bool = False) -> Calibration:
        """Return the device's calibration; `refresh` fetches it again."""
        with self._asking("the calibration"):
            if refresh:
                self._device = self._service.backend(
                    self.name,
                    instance=self._options.instance,
                    use_fractional_gates=self._options.use_fractional_gates,
                )
                self._templates = Templates(self._device)
                self._snapshot = None
            if self._snapshot is None:
                self._snapshot = snapshot(self._device)
        return self._snapshot

    def neighbours(self) -> Sequence[tuple[int, int]]:
        """Return the pairs of coupled qubits."""
        return coupled(self._device)

    def submit(self, job: Job) -> str:
        """Submit through the sampler primitive."""
        pubs = [self._templates.pub(pub, job.layout) for pub in job.pubs]
        with self._asking("to run a job"):
            sampler = self._sampler(self._execution_mode(), job, job.tags)
            return str(sampler.run(pubs, shots=job.shots).job_id())

    def dry_run(self, job: Job) -> float | None:
        """Let the service estimate a job on a mock of the device, and wait for its answer."""
        pubs = [self._templates.pub(pub, job.layout) for pub in job.pubs]
        with self._asking("for a dry run"):
            # it has its own tag, so that it is never mistaken for a job of a run
            sampler = self._sampler(self._device, job, ("qkan-dry-run",))
            if "dry_run" not in inspect.signature(sampler.run).parameters:
                raise BackendError("A dry run needs qiskit-ibm-runtime 0.51 or newer; update it.")
            mock = sampler.run(pubs, shots=job.shots, dry_run=True)
            mock.result()
            return float(mock.usage())

    def _sampler(self, mode: Any, job: Job, tags: Sequence[str]) -> Any:
        sampler = (self._make_sampler or sampler_class())(mode)
        sampler.options.environment.job_tags = list(tags)
        sampler.options.max_execution_time = job.seconds
        return sampler

    def find(self, tag: str) -> Sequence[tuple[str, Sequence[str]]]:
        """Ask for the jobs with a tag."""
        with self._asking(f"for jobs tagged {tag}"):
            jobs = self._service.jobs(
                job_tags=[tag], limit=None, backend_name=self.name, descending=False
            )
            return list({str(job.job_id()): tuple(job.tags or ()) for job in jobs}.items())

    def status(self, identity: str) -> Status:
        """Ask for the state of a job."""
        not_found = require("qiskit_ibm_runtime.exceptions", "qiskit").RuntimeJobNotFound
        with self._asking(f"for job {identity}"):
            try:
                job = self._service.job(identity)
            except not_found:
                return Status("lost", "The service does not know the job.")
            state = str(job.status()).rpartition(".")[2]
            if state == "DONE":
                return Status("done")
            if state == "CANCELLED":
                return Status("cancelled", "It was cancelled.")
            if state in WAITING:
                running = self._usage(job) if state == "RUNNING" else {}
                return Status("queued", seconds=running.get("qpu_charge_time_seconds") or 0.0)
            if state != "ERROR":
                raise UnsureError(
                    f"{self.name} says {state!r:.80} about job {identity}, which is not a state."
                )
            reason = self.scrub(str(job.error_message()))
            return Status("failed", reason, failure_cause(job, reason))

    def counts(self, identity: str, job: Job) -> list[Counts]:
        """Fetch the result of a finished job."""
        with self._asking(f"for the result of job {identity}"):
            result = self._service.job(identity).result()
        try:
            return counts_of(result, job)
        except MalformedError as error:
            raise MalformedError(self.scrub(str(error)), self.scrub(error.raw)) from None

    def usage(self, identity: str) -> float | None:
        """Ask for the seconds billed for a job."""
        with self._asking(f"for the usage of job {identity}"):
            usage = self._usage(self._service.job(identity))
            if usage.get("status", "pending") == "pending":
                return None
            seconds = usage.get("qpu_charge_time_seconds", usage.get("quantum_seconds"))
            return None if seconds is None else float(seconds)

    def seconds_left(self) -> float | None:
        """Ask for the seconds that the account's instance may still use."""
        ask = getattr(self._service, "usage", None)
        if ask is None:
            return None
        with self._asking("for the time that is left"):
            left = ask().get("usage_remaining_seconds")
            return None if left is None else float(left)

    def cancel(self, identity: str) -> None:
        """Cancel a job; if it has finished already, nothing happens."""
        finished = require("qiskit_ibm_runtime.exceptions", "qiskit").RuntimeInvalidStateError
        with self._asking(f"to cancel job {identity}"):
            try:
                self._service.job(identity).cancel()
            except finished:
                log.info("Job %s had finished already", identity)

    def close(self) -> None:
        """Close a batch or session to further jobs; those in it still run."""
        if self._mode is not None and self._mode is not self._device:
            with self._asking("to close the batch or session"):
                self._mode.close()
        self._mode = None

    def scrub(self, text: str) -> str:
        """Return a text without the account's token."""
        self._token = _token_of(self._service) or self._token
        return _without(text, self._token)

    @staticmethod
    def _usage(job: Any) -> dict[str, Any]:
        found: dict[str, Any] = job.metrics().get("usage") or {}
        return found

    def _execution_mode(self) -> Any:
        """The backend, or one batch or session for all jobs until `close`."""
        if self._mode is None:
            kind = self._options.execution
            self._mode = self._device if kind == "job" else self._opened(kind)
        return self._mode

    def _opened(self, kind: str) -> Any:
        runtime = require("qiskit_ibm_runtime", "qiskit")
        if kind == "session":
            try:
                return runtime.Session(backend=self._device)
            except runtime.exceptions.IBMError as error:
                log.warning(
                    "No session for this account (%s): using a batch.", self.scrub(str(error))
                )
        return runtime.Batch(backend=self._device)

    @contextlib.contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turn any error of the service into one of this room, without token or context."""
        try:
            yield
        except BackendError:
            raise
        except Exception as error:
            text = self.scrub(f"{type(error).__name__}: {error}")
            asked = f"{self.name}, asked {what}, answered {text}."
            raise (RejectedError if is_refusal(error) else UnsureError)(asked) from None


def is_refusal(error: Exception) -> bool:
    """Whether the service itself refused, or the runtime did so before anything was sent.

    Any other error, such as an answer that is not JSON or a broken connection, is not a refusal,
    since the service may have accepted a job before. Python's plain ValueError is such an error,
    since the runtime raises a class of its own for wrong input.
    """
    known = require("qiskit_ibm_runtime.exceptions", "qiskit")
    refusals = (known.IBMNotAuthorizedError, known.IBMAccountError, known.IBMInputValueError)
    # the runtime wraps the service's answer, and its text has the code
    code = re.match(r".{0,80}?\b(\d{3}) Client Error\b", str(error), re.DOTALL)
    status = getattr(error, "status_code", int(code[1]) if code else None)
    return isinstance(error, refusals) or status in REFUSED


def failure_cause(job: Any, reason: str) -> Literal["time", "user", "system"]:
    """Return whether a job failed for lack of time, by our mistake, or otherwise."""
    code = getattr(job, "_reason_code", None)
    if code is None:
        # only the message has the code: "Error code 1305; …"
        digits = reason.partition("Error code ")[2][:4]
        code = int(digits) if digits.isdigit() else None
    if code == RAN_TOO_LONG:
        return "time"
    if code is None or int(code) >= 9000 or int(code) in RETRIABLE:
        return "system"
    return "user"


def _token_of(service: Any) -> str | None:
    """The token of a service's account, if it says so."""
    with contextlib.suppress(Exception):
        found: str | None = (service.active_account() or {}).get("token")
        return found
    return None


def _without(text: str, *secrets: str | None) -> str:
    """Return a text without some secrets and without the tokens in the environment."""
    for secret in filter(None, (*secrets, *map(os.environ.get, TOKENS))):
        text = text.replace(secret, "***")
    return text


def connect(name: str, options: Options) -> RuntimeProvider:
    """Return an IBM device by name, or the least busy one, with the configured account.

    The account comes from the environment (QISKIT_IBM_TOKEN, QISKIT_IBM_INSTANCE) or from
    `QiskitRuntimeService.save_account`.

    Raises:
        BackendError: There is no account, or no such device.
    """
    require("qiskit_ibm_runtime", "qiskit")
    options_of_device = {"use_fractional_gates": options.use_fractional_gates}
    service: Any = None
    try:
        service = account(options.instance, options.channel)
        if name == "least_busy":
            wanted = options_of_device if options.use_fractional_gates else {}
            name = service.least_busy(operational=True, simulator=False, **wanted).name
        device = service.backend(name, instance=options.instance, **options_of_device)
        return RuntimeProvider(service, device, options)
    except BackendError:
        raise
    except Exception as error:
        secrets = [_token_of(service)]
        with contextlib.suppress(Exception):
            saved = _service_class().saved_accounts().values()
            secrets += [account.get("token") for account in saved]
        text = _without(f"{type(error).__name__}: {error}", *secrets)
        raise BackendError(
            f"{name!r} could not be reached ({text}). Save your account once with "
            "QiskitRuntimeService.save_account(token=…), or set QISKIT_IBM_TOKEN; check instance= "
            "and channel= if you named them. Without an account use a fake device such as "
            "'fake_sherbrooke'."
        ) from None


def account(instance: str | None = None, channel: str | None = None) -> Any:
    """Return the service with the configured account.

    If neither the caller nor the account names an instance, the runtime chooses one if it can.
    """
    if instance is None and _version(require("qiskit_ibm_runtime", "qiskit")) >= AUTO_INSTANCE:
        instance = "auto"
    return _service_class()(channel=channel, instance=instance)


def _service_class() -> Any:
    runtime = require("qiskit_ibm_runtime", "qiskit")
    # in newer versions of the runtime the class has another name
    return getattr(runtime, "QiskitRuntimeService", None) or runtime.IBMQuantumComputeService


def _version(runtime: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", runtime.__version__)[:2])
