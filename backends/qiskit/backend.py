"""`QiskitBackend`: IBM's devices, their fake twins, Aer, and any other Qiskit backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import Unpack

from qkan.backends.options import OptionNames, make_options, restore_options
from qkan.backends.packed import PackedBackend
from qkan.backends.provider import Provider

from .devices import provider_of


class QiskitBackend(PackedBackend, kind="qiskit"):
    """A device or an emulator that Qiskit runs.

    Every measurement is one packed parametric template bound by an array: ⌈values/width⌉ rows,
    each measuring one value on every qubit of the layout, with a standard error for every value.

    Args:
        device: "ibm_…" or "least_busy" (the account is the one that `QiskitRuntimeService`
            finds; it is never stored or shown), a fake device as "FakeSherbrooke" or
            "fake_sherbrooke", "aer" for an ideal simulator, or any Qiskit `BackendV2`.
        provider: Runs the jobs in place of what `device` would.
        **options: By name; see `Options`.

    Attributes:
        name: As the device calls itself.
        shots: Shots a value.
        options: All options.

    A fake device runs by default through the runtime's own primitive on Aer, so that the code
    path is that of a real one; `emulator="closed_form"` draws from the same noise in closed form
    and is some hundred times faster.

    Raises:
        BackendError: No such device or account, a wrong option, a real device without a budget.

    Example:
        >>> import numpy as np
        >>> from qkan.backends import QiskitBackend
        >>> from qkan.circuits import RX, Circuit, Encoding
        >>> backend = QiskitBackend("aer", shots=1000, emulator="closed_form", seed=0)
        >>> z, stderr = backend.measure(Circuit([RX(Encoding(0))]), np.array([[0.0], [np.pi]]))
        >>> z.round(2), bool((stderr > 0).all())
        (array([ 1., -1.]), True)
    """

    def __init__(
        self, device: Any, *, provider: Provider | None = None, **options: Unpack[OptionNames]
    ) -> None:
        made = make_options(options)
        super().__init__(provider or provider_of(device, made), made)

    @classmethod
    def from_options(cls, name: str, options: Mapping[str, Any], *, wait: bool) -> QiskitBackend:
        """The backend of a description, by the name of its device."""
        return cls(name, **restore_options(options), wait=wait)
