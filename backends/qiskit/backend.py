"""`QiskitBackend`: IBM's devices, fake devices, Aer, and any other Qiskit backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import Unpack

from qkan.backends.options import OptionNames, make_options, restore_options
from qkan.backends.packed import PackedBackend
from qkan.backends.provider import Provider

from .devices import provider_of


class QiskitBackend(PackedBackend, kind="qiskit"):
    """A device or an emulator that Qiskit can use.

    Every measurement is one packed parametric circuit that is bound to an array of angles:
    ⌈values/width⌉ rows, each of which measures one value on every qubit of the layout, with a
    standard error for every value.

    Args:
        device: "ibm_…" or "least_busy" (with the account that `QiskitRuntimeService` finds; it is
            never stored or shown), a fake device such as "FakeSherbrooke" or "fake_sherbrooke",
            "aer" for an ideal simulator, or any Qiskit `BackendV2`.
        provider: The provider that runs the jobs, in place of that of `device`.
        **options: Options by name; see `Options`.

    Attributes:
        name: The name of the device.
        shots: The number of shots for each value.
        options: All options.

    By default a fake device is emulated by the runtime's own primitive on Aer, with the code path
    of a real device; `emulator="closed_form"` draws from the same noise in closed form and is about
    a hundred times faster.

    Raises:
        BackendError: There is no such device or account, an option is wrong, or a real device has
            no budget.

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
        """Make the backend of a description, by the name of its device."""
        return cls(name, **restore_options(options), wait=wait)
