"""Emulators that run real primitives on this machine: Aer with or without a device's noise."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from qkan.backends.calibration import Calibration
from qkan.backends.in_process import InProcessProvider
from qkan.backends.provider import Counts, Job, RejectedError
from qkan.circuits import require

from .templates import Templates, counts_of

AER_WIDTH = 8
"""Aer simulates all qubits of a row together, at a cost that is exponential in their number."""

MakeSampler = Callable[[tuple[int, ...], int], Any]


class SamplerProvider(InProcessProvider):
    """Runs each job on this machine through a sampler primitive.

    Args:
        device: A Qiskit `BackendV2`, for whose target the templates are transpiled.
        calibration: The calibration of the device, or the emulated one.
        make_sampler: A function that returns a sampler for a layout and a seed.
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
        super().__init__(calibration, coupled(device), native_rx)
        self._make_sampler, self._templates = make_sampler, Templates(device)

    def start(self, job: Job) -> Callable[[], list[Counts]]:
        """Pass the job to the sampler, which runs it in the background."""
        pubs = [self._templates.pub(pub, job.layout) for pub in job.pubs]
        sampler = self._make_sampler(job.layout, job.seed)
        try:
            running = sampler.run(pubs, shots=job.shots)
        except (ValueError, TypeError) as error:
            raise RejectedError(f"{self.name} refused the job: {error}") from error
        return lambda: counts_of(running.result(), job)


class AerNoise:
    """The noise of a fake device in Aer, with one prebuilt simulator for each layout.

    The gate errors are those that qiskit-aer derives from the device's target. Only the errors of
    the qubits in use are passed on, since every run converts all errors that it gets.

    Args:
        device: A fake backend.
        calibration: The calibration with the readout errors.
    """

    def __init__(self, device: Any, calibration: Calibration) -> None:
        self._device, self._calibration = device, calibration
        self._simulators: dict[tuple[int, ...], Any] = {}

    def sampler(self, layout: tuple[int, ...], seed: int) -> Any:
        """Return the runtime's sampler in local mode on the noisy simulator of a layout."""
        if layout not in self._simulators:
            aer = require("qiskit_aer", "qiskit")
            self._simulators[layout] = aer.AerSimulator(noise_model=self.model(layout))
        return local_sampler(self._simulators[layout], seed)

    def model(self, layout: tuple[int, ...]) -> Any:
        """Return the noise model of some qubits."""
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
                    f"{self._calibration.name} does not have the readout errors of qubit {qubit}. "
                    "Leave it out of the layout."
                )
            model.add_readout_error(noise.ReadoutError([[1 - p, p], [q, 1 - q]]), [qubit])
        return model

    @functools.cached_property
    def _gate_errors(self) -> list[tuple[str, Any, Any]]:
        device_noise = require("qiskit_aer.noise.device", "qiskit")
        errors = device_noise.basic_device_gate_errors(target=self._device.target)
        return [found for found in errors if len(found[1]) == 1 and found[0] in ("sx", "x", "rx")]


def local_sampler(simulator: Any, seed: int) -> Any:
    """Return IBM's sampler primitive in local mode on a simulator."""
    sampler = sampler_class()(mode=simulator)
    sampler.options.simulator.seed_simulator = seed
    return sampler


def sampler_class() -> Any:
    """Return the runtime's sampler class: that of its executor, or SamplerV2 before 0.50."""
    runtime = require("qiskit_ibm_runtime", "qiskit")
    try:
        return require("qiskit_ibm_runtime.executor_sampler", "qiskit").Sampler
    except ImportError:
        return runtime.SamplerV2


def ideal_calibration(name: str, qubits: int) -> Calibration:
    """Return the calibration of qubits without errors."""
    zero, never = np.zeros(qubits), np.full(qubits, np.inf)
    numbers = np.arange(qubits)
    return Calibration(name, None, numbers, zero, zero, zero, zero, never, never)


def coupled(device: Any) -> list[tuple[int, int]]:
    """Return the pairs of coupled qubits of a Qiskit backend; none if all qubits are coupled."""
    coupling = device.target.build_coupling_map()
    return [] if coupling is None else [tuple(edge) for edge in coupling.get_edges()]
