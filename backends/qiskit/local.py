"""Emulators that run real primitives on this machine: Aer with a device's noise, or without."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qkan.backends.calibration import Calibration
from qkan.backends.errors import BackendError
from qkan.backends.provider import Counts, Job, Provider, RejectedError, Status
from qkan.circuits import require

from .templates import Templates, counts_of

AER_WIDTH = 8
"""Aer simulates all qubits of a row together, at a cost that is exponential in their number."""

MakeSampler = Callable[[tuple[int, ...], int], Any]


class LocalProvider(Provider):
    """Runs each job at once through a sampler primitive.

    Args:
        device: A Qiskit `BackendV2`, whose target templates are transpiled for.
        calibration: What the device says, or what is emulated.
        make_sampler: A sampler for a layout and a seed.
        native_rx: Whether RX(angle) is one pulse.
    """

    default_width = AER_WIDTH

    def __init__(
        self,
        device: Any,
        calibration: Calibration,
        make_sampler: MakeSampler,
        native_rx: bool = False,
    ) -> None:
        self.name = calibration.name
        self.native_rx = native_rx
        self._device, self._calibration, self._make_sampler = device, calibration, make_sampler
        self._templates = Templates(device)
        self._running: dict[str, Any] = {}

    def calibration(self, refresh: bool = False) -> Calibration:
        """What the device says, or what is emulated."""
        return self._calibration

    def neighbours(self) -> Sequence[tuple[int, int]]:
        """Pairs of coupled qubits."""
        return coupled(self._device)

    def submit(self, job: Job) -> str:
        """Start the job on this machine."""
        pubs = [self._templates.pub(pub, job.layout) for pub in job.pubs]
        sampler = self._make_sampler(job.layout, job.seed)
        try:
            running = sampler.run(pubs, shots=job.shots)
        except (ValueError, TypeError) as error:
            raise RejectedError(f"{self.name} refused the job: {error}") from error
        identity = str(running.job_id())
        self._running[identity] = running
        return identity

    def find(self, tag: str) -> Sequence[tuple[str, Sequence[str]]]:
        """Nothing: a job ends with its process."""
        return []

    def status(self, identity: str) -> Status:
        """Done, or lost with its process; a failure inside the emulator is raised as it is."""
        return Status("done" if identity in self._running else "lost")

    def counts(self, identity: str, job: Job) -> list[Counts]:
        """Wait for the job and count."""
        return counts_of(self._running.pop(identity).result(), job)

    def usage(self, identity: str) -> float | None:
        """Nothing is billed."""
        return 0.0

    def cancel(self, identity: str) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing was opened."""


class AerNoise:
    """The noise of a fake device as Aer runs it, one prebuilt simulator a layout.

    Gate errors are qiskit-aer's own from the device's target. Only those of the qubits in use
    are handed over, without which every run converts the whole device's.

    Args:
        device: A fake backend.
        calibration: Whose readout errors are used.
    """

    def __init__(self, device: Any, calibration: Calibration) -> None:
        self._device, self._calibration = device, calibration
        self._simulators: dict[tuple[int, ...], Any] = {}

    def sampler(self, layout: tuple[int, ...], seed: int) -> Any:
        """The runtime's sampler in local mode on the noisy simulator of a layout."""
        if layout not in self._simulators:
            aer = require("qiskit_aer", "qiskit")
            self._simulators[layout] = aer.AerSimulator(noise_model=self.model(layout))
        return local_sampler(self._simulators[layout], seed)

    def model(self, layout: tuple[int, ...]) -> Any:
        """The noise model of some qubits."""
        noise = require("qiskit_aer.noise", "qiskit")
        model = noise.NoiseModel()
        for name, qubits, error in self._gate_errors:
            if next(iter(qubits)) in layout and error is not None:
                model.add_quantum_error(error, name, qubits)
        known = self._calibration.index(layout)
        for qubit, p, q in zip(
            layout, self._calibration.p[known], self._calibration.q[known], strict=True
        ):
            if np.isnan(p) or np.isnan(q):
                raise RejectedError(
                    f"{self._calibration.name} does not say how qubit {qubit} reads out. Leave it "
                    "out of the layout."
                )
            model.add_readout_error(noise.ReadoutError([[1 - p, p], [q, 1 - q]]), [qubit])
        return model

    @functools.cached_property
    def _gate_errors(self) -> list[tuple[str, Any, Any]]:
        device_noise = require("qiskit_aer.noise.device", "qiskit")
        errors = device_noise.basic_device_gate_errors(target=self._device.target)
        return [found for found in errors if len(found[1]) == 1 and found[0] in ("sx", "x", "rx")]


def local_sampler(simulator: Any, seed: int) -> Any:
    """IBM's sampler primitive in local mode on a simulator."""
    sampler = sampler_class()(mode=simulator)
    sampler.options.simulator.seed_simulator = seed
    return sampler


def sampler_class() -> Any:
    """The runtime's sampler: the one that is built on its executor, or SamplerV2 before 0.50."""
    runtime = require("qiskit_ibm_runtime", "qiskit")
    try:
        return require("qiskit_ibm_runtime.executor_sampler", "qiskit").Sampler
    except ImportError:
        return runtime.SamplerV2


def generic_sampler(device: Any) -> MakeSampler:
    """Qiskit's own sampler on any backend that has a `run`."""
    primitives = require("qiskit.primitives", "qiskit")

    def make(layout: tuple[int, ...], seed: int) -> Any:
        return primitives.BackendSamplerV2(backend=device, options={"seed_simulator": seed})

    return make


def ideal_calibration(name: str, qubits: int) -> Calibration:
    """The calibration of qubits without any error."""
    zero, never = np.zeros(qubits), np.full(qubits, np.inf)
    numbers = np.arange(qubits)
    return Calibration(name, None, numbers, zero, zero, zero, zero, never, never)


def coupled(device: Any) -> list[tuple[int, int]]:
    """Pairs of coupled qubits of a Qiskit backend; none where all are coupled to all."""
    coupling = device.target.build_coupling_map()
    return [] if coupling is None else [tuple(edge) for edge in coupling.get_edges()]


def ideal_device() -> Any:
    """Aer without noise."""
    return require("qiskit_aer", "qiskit").AerSimulator()


def require_device(device: Any) -> None:
    """Refuse what is no Qiskit backend."""
    if not hasattr(device, "target") or not hasattr(device, "name"):
        raise BackendError(
            f"{device!r:.80} is no device: pass a name such as 'ibm_…', 'least_busy', "
            "'fake_sherbrooke' or 'aer', or a Qiskit BackendV2."
        )
