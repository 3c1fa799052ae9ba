"""IBM's devices through qiskit-ibm-runtime; the account is the runtime's business, never ours."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from qkan.circuits import require

from .calibration import Calibration
from .errors import BackendError
from .local import coupled, sampler_class
from .options import Options
from .provider import Counts, Job, MalformedError, Provider, RejectedError, Status, UnsureError
from .snapshot import snapshot
from .templates import Templates, counts_of

log = logging.getLogger(__name__)

RAN_TOO_LONG = 1305
RETRIABLE = {1000, 1004, 1006, 1008, 1010, 1011, 1202}
"""IBM's codes below 9000 that ask for another try; those from 9000 on are internal errors."""

TOKENS = ("QISKIT_IBM_TOKEN", "QISKIT_IBM_RUNTIME_API_TOKEN", "QISKIT_IBM_RUNTIME_CUSTOM_TOKEN")


class RuntimeProvider(Provider):
    """Jobs on a device of IBM's service, or of anything that speaks its interface.

    Args:
        service: A `QiskitRuntimeService`.
        device: One of its backends.
        options: Of the backend; those that concern the service are used.
        make_sampler: A sampler for an execution mode (a backend, batch or session).
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
        self.name = str(device.name)
        self.native_rx = options.use_fractional_gates and "rx" in device.target.operation_names

    def calibration(self, refresh: bool = False) -> Calibration:
        """The device's calibration, fetched again where asked."""
        if refresh:
            with self._asking("the calibration"):
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
        """Pairs of coupled qubits."""
        return coupled(self._device)

    def submit(self, job: Job) -> str:
        """Submit through the sampler primitive."""
        pubs = [self._templates.pub(pub, job.layout) for pub in job.pubs]
        with self._asking("to run a job"):
            make = self._make_sampler or sampler_class()
            sampler = make(self._execution_mode())
            sampler.options.environment.job_tags = list(job.tags)
            sampler.options.max_execution_time = job.seconds
            return str(sampler.run(pubs, shots=job.shots).job_id())

    def find(self, tag: str) -> Sequence[tuple[str, Sequence[str]]]:
        """Ask for the jobs with a tag."""
        with self._asking(f"for jobs tagged {tag}"):
            jobs = self._service.jobs(
                job_tags=[tag], limit=None, backend_name=self.name, descending=False
            )
            return list({str(job.job_id()): tuple(job.tags or ()) for job in jobs}.items())

    def status(self, identity: str) -> Status:
        """Ask how a job stands."""
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
            if state != "ERROR":
                return Status("queued")
            reason = self.scrub(str(job.error_message()))
            return Status("failed", reason, failure_cause(job, reason))

    def counts(self, identity: str, job: Job) -> list[Counts]:
        """Fetch the result of a job that is done."""
        with self._asking(f"for the result of job {identity}"):
            result = self._service.job(identity).result()
        try:
            return counts_of(result, job)
        except MalformedError as error:
            raise MalformedError(self.scrub(str(error)), self.scrub(error.raw)) from None

    def usage(self, identity: str) -> float | None:
        """Ask what was billed for a job."""
        with self._asking(f"for the usage of job {identity}"):
            usage = self._service.job(identity).metrics().get("usage", {})
            if usage.get("status", "pending") == "pending":
                return None
            seconds = usage.get("qpu_charge_time_seconds", usage.get("quantum_seconds"))
            return None if seconds is None else float(seconds)

    def cancel(self, identity: str) -> None:
        """Cancel a job; that it has finished is no error."""
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
        """A text without the account's token."""
        account: Mapping[str, str] = self._service.active_account() or {}
        return _without(text, account.get("token"))

    def _execution_mode(self) -> Any:
        """The backend, or one batch or session for all jobs until `close`."""
        if self._mode is None:
            self._mode = self._device
            if self._options.execution != "job":
                self._mode = self._opened(self._options.execution)
        return self._mode

    def _opened(self, kind: str) -> Any:
        runtime = require("qiskit_ibm_runtime", "qiskit")
        refused = require("qiskit_ibm_runtime.exceptions", "qiskit").IBMError
        if kind == "session":
            try:
                return runtime.Session(backend=self._device)
            except refused as error:
                log.warning(
                    "No session for this account (%s): using a batch.", self.scrub(str(error))
                )
        return runtime.Batch(backend=self._device)

    def _asking(self, what: str) -> _Asking:
        return _Asking(self, what)


class _Asking:
    """Turns the service's errors into ours, without the token and without their context."""

    def __init__(self, provider: RuntimeProvider, what: str) -> None:
        self._provider, self._what = provider, what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: Any
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, BackendError):
            return
        exceptions = require("qiskit_ibm_runtime.exceptions", "qiskit")
        qiskit = require("qiskit.exceptions", "qiskit")
        refusals = (
            exceptions.IBMNotAuthorizedError,
            exceptions.IBMAccountError,
            ValueError,
            TypeError,
        )
        text = self._provider.scrub(f"{type(error).__name__}: {error}")
        asked = f"{self._provider.name}, asked {self._what}, answered {text}."
        if isinstance(error, refusals):
            raise RejectedError(asked) from None
        # requests' errors and time-outs are OSErrors
        if isinstance(error, qiskit.QiskitError | OSError):
            raise UnsureError(asked) from None


def failure_cause(job: Any, reason: str) -> Literal["time", "user", "system"]:
    """Whether a failed job ran too long, was our mistake, or is worth another try."""
    code = getattr(job, "_reason_code", None)
    if code is None:
        # the code stands in the message only: "Error code 1305; …"
        digits = reason.partition("Error code ")[2][:4]
        code = int(digits) if digits.isdigit() else None
    if code == RAN_TOO_LONG:
        return "time"
    if code is None or int(code) >= 9000 or int(code) in RETRIABLE:
        return "system"
    return "user"


def _without(text: str, *secrets: str | None) -> str:
    """A text without some secrets and without those of the environment."""
    for secret in (*secrets, *map(os.environ.get, TOKENS)):
        if secret:
            text = text.replace(secret, "***")
    return text


def connect(name: str, options: Options) -> RuntimeProvider:
    """A device of IBM's by name, or the least busy one, with the account as it is set up.

    The account comes from the environment (QISKIT_IBM_TOKEN, QISKIT_IBM_INSTANCE) or from
    `QiskitRuntimeService.save_account`.

    Raises:
        BackendError: No account, or no such device.
    """
    runtime = require("qiskit_ibm_runtime", "qiskit")
    qiskit = require("qiskit.exceptions", "qiskit")
    fractional = options.use_fractional_gates
    try:
        service = runtime.QiskitRuntimeService(channel=options.channel, instance=options.instance)
        if name == "least_busy":
            found = service.least_busy(operational=True, simulator=False)
            name = found.name
        device = service.backend(name, instance=options.instance, use_fractional_gates=fractional)
    except (qiskit.QiskitError, ValueError, OSError) as error:
        text = _without(f"{type(error).__name__}: {error}")
        raise BackendError(
            f"{name!r} could not be reached ({text}). Save your account once with "
            "QiskitRuntimeService.save_account(token=…), or set QISKIT_IBM_TOKEN; without an "
            "account use a fake device such as 'fake_sherbrooke'."
        ) from None
    return RuntimeProvider(service, device, options)
