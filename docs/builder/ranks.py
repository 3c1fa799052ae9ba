"""The table of the claims page: parameters against the rank of the Fisher information."""

from __future__ import annotations

from qkan import redundancy
from qkan.circuits import ansatz, ansatze

REPS = 3
ENCODINGS = ("linear", "binary", "ternary", "trainable")


def table() -> str:
    """A row for each ansatz and encoding; all of it computed here."""
    rows = [
        f"The circuits have {REPS} repetitions.\n",
        "| ansatz | encoding | spectrum | parameters | rank |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in ansatze():
        for encoding in ENCODINGS:
            circuit = ansatz(name, REPS)
            found = redundancy(circuit, encoding=encoding)
            coefficients = "–"
            if encoding != "trainable" and not circuit.uses_arccos:
                frequencies = circuit.spectrum(encoding)
                coefficients = str(sum(1 if k == 0 else 2 for k in frequencies))
            rows.append(
                f"| `{name}` | {encoding} | {coefficients} | {found.parameters} | {found.rank} |"
            )
    return "\n".join(rows)
