"""Translate rows for Qiskit: one packed parametric circuit, its parameters, its counts.

Letters: r rows, w width, s slots.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from qkan.backends.errors import BackendError
from qkan.backends.provider import Counts, Job, MalformedError, Pub
from qkan.circuits import Isa, require

REGISTER = "c"


class Templates:
    """The transpiled templates of one device, each built once.

    Args:
        device: A Qiskit `BackendV2`.

    Raises:
        BackendError: The device lacks an instruction.
    """

    def __init__(self, device: Any) -> None:
        missing = {"sx", "x", "rz", "measure"} - set(device.target.operation_names)
        if missing:
            raise BackendError(
                f"{device.name} lacks the instructions {sorted(missing)}; it has "
                f"{sorted(device.target.operation_names)}. Choose a device with SX, X and RZ."
            )
        self._device = device
        self._built: dict[tuple[Isa, tuple[int, ...]], Any] = {}

    def get(self, sequence: Isa, layout: tuple[int, ...]) -> Any:
        """Return the ISA circuit that runs a sequence on every qubit of a layout.

        Raises:
            BackendError: The transpiler changed the circuit.
        """
        key = (sequence, layout)
        if key not in self._built:
            transpiler = require("qiskit.transpiler", "qiskit")
            # higher levels would cancel gates that must run
            passes = transpiler.generate_preset_pass_manager(
                optimization_level=0, backend=self._device, initial_layout=list(layout)
            )
            packed = packed_circuit(sequence, len(layout))
            isa = passes.run(packed)
            require_faithful(isa, packed, sequence, layout)
            self._built[key] = isa
        return self._built[key]

    def pub(self, pub: Pub, layout: tuple[int, ...]) -> tuple[Any, Any]:
        """Return a PUB for a primitive: the circuit and its parameters, (r, w·s)."""
        return self.get(pub.sequence, layout), pub.turns.reshape(len(pub.turns), -1)


def packed_circuit(sequence: Isa, width: int) -> Any:
    """Return a sequence on `width` qubits at once, measured into the register `c`.

    Its parameters are one vector in the order of qubits, then slots: an array (r, w, s) flattened
    to (r, w·s) binds it.
    """
    qiskit = require("qiskit", "qiskit")
    slots = len(sequence.slots)
    angle = require("qiskit.circuit", "qiskit").ParameterVector("a", width * slots)
    register = qiskit.ClassicalRegister(width, REGISTER)
    circuit = qiskit.QuantumCircuit(qiskit.QuantumRegister(width, "q"), register)
    for qubit in range(width):
        for pulse in sequence.pulses:
            append = getattr(circuit, pulse.name)
            if pulse.name in ("sx", "x"):
                append(qubit)
            else:
                first = qubit * slots
                append(pulse.angle if pulse.slot is None else angle[first + pulse.slot], qubit)
    circuit.measure(range(width), register)
    return circuit


def require_faithful(isa: Any, packed: Any, sequence: Isa, layout: tuple[int, ...]) -> None:
    """Raise unless a transpiled circuit is equivalent to the packed one.

    The parameters and their order, the pulses on each qubit and the measured qubits must be those
    of the sequence.

    Raises:
        BackendError: They differ.
    """
    if list(isa.parameters) != list(packed.parameters):
        raise BackendError("The transpiler changed the parameters or their order.")
    pulses: Counter[tuple[int, str]] = Counter()
    measured: dict[int, int] = {}
    for step in isa.data:
        name, qubit = step.operation.name, step.qubits and isa.find_bit(step.qubits[0]).index
        if name == "measure":
            measured[isa.find_bit(step.clbits[0]).index] = qubit
        elif name in ("sx", "x", "rx"):
            pulses[qubit, name] += 1
    wanted = Counter(
        {(q, name): sequence.count(name) for q in layout for name in ("sx", "x", "rx")}
    )
    if pulses != wanted:
        qubit = min(q for q, name in pulses | wanted if pulses[q, name] != wanted[q, name])
        found, right = ({n: k for (q, n), k in c.items() if q == qubit} for c in (pulses, wanted))
        raise BackendError(
            f"The transpiler changed the pulses on qubit {qubit}: {found}, not {right}."
        )
    if [measured.get(k) for k in range(len(layout))] != list(layout):
        raise BackendError(f"The transpiler measures {measured}, not the qubits {list(layout)}.")


def counts_of(result: Any, job: Job) -> list[Counts]:
    """Return the numbers of ones from a primitive's result, an array (r, w) for each PUB.

    Raises:
        MalformedError: A PUB or the register is missing, or the shape or the number of shots is
            wrong.
    """
    try:
        found = [_pub_counts(result[k], pub, job) for k, pub in enumerate(job.pubs)]
        extra = len(result) - len(job.pubs)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise MalformedError(
            f"The result does not fit the job ({type(error).__name__}: {error}); it was set aside.",
            _as_text(result),
        ) from error
    if extra:
        raise MalformedError(f"The result has {extra} PUBs too many.", _as_text(result))
    return found


def _pub_counts(result: Any, pub: Pub, job: Job) -> Counts:
    bits = getattr(result.data, REGISTER)
    rows, width = pub.turns.shape[:2]
    if bits.shape != (rows,) or bits.num_bits != width or bits.num_shots != job.shots:
        raise ValueError(
            f"{bits.shape} rows of {bits.num_bits} bits and {bits.num_shots} shots, not "
            f"{(rows,)}, {width} and {job.shots}"
        )
    ones = np.empty((rows, width), dtype=np.int64)
    for row, packed in enumerate(bits.array):
        unpacked = np.unpackbits(packed, axis=-1)[:, ::-1]
        ones[row] = unpacked[:, :width].sum(0)
    return ones


def _as_text(result: Any) -> str:
    """An invalid result as text, with all of its known bits."""
    parts = [repr(result)]
    for pub in result if hasattr(result, "__iter__") else ():
        for name, value in getattr(getattr(pub, "data", None), "items", dict().items)():
            array = getattr(value, "array", None)
            parts.append(f"{name}: {value!r} {array.tolist() if array is not None else ''}")
    return "\n".join(parts)
