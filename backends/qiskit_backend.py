"""`QiskitBackend`: IBM's devices, their fake twins, Aer, and any other Qiskit backend."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from .backend import Backend, Cost
from .book import Book
from .calibration import Calibration
from .devices import provider_of
from .errors import BackendError
from .layout import chosen_layout
from .options import OptionNames, make_options
from .provider import Provider
from .queue import Site, job_seconds, rows_a_job
from .run import QiskitRun
from .store import Memory, Store


class QiskitBackend(Backend):
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
        self.options = make_options(options)
        self.shots = self.options.shots
        self.provider = provider or provider_of(device, self.options)
        self.name = self.provider.name
        self._opened = 0
        self._seed = self.options.seed if self.options.seed is not None else secrets.randbits(63)
        self._books: dict[str, Book] = {}
        self._require_budget()
        rows_a_job(self.options)
        self._width = len(self._layout(self.calibration(), frozenset()))

    def __repr__(self) -> str:
        return f"QiskitBackend({self.name!r}, shots={self.shots}, width={self.width})"

    @property
    def width(self) -> int:
        """Qubits used at once."""
        return self._width

    @property
    def corrects_readout(self) -> bool:
        """Whether twins and calibration rows take the readout's bias out."""
        return self.options.twins

    @property
    def fused(self) -> bool:
        """Whether the mode is "fused"."""
        return self.options.mode == "fused"

    @property
    def layout(self) -> tuple[int, ...]:
        """The physical qubits that are used, the best first."""
        return self._layout(self.calibration(), frozenset())

    @property
    def seconds_left(self) -> float | None:
        """What is left of the budget after all that is billed or reserved; None without one."""
        if self.options.budget_seconds is None:
            return None
        committed = sum(book.committed for book in self._books.values())
        return self.options.budget_seconds - committed

    def cost(self, values: int) -> Cost:
        """The cost of measuring that many values of one circuit; nothing is submitted.

        Seconds are estimated from rows × shots as IBM bills them, on an emulator too, where they
        tell what the device would take.
        """
        if not isinstance(values, int) or isinstance(values, bool) or values < 0:
            raise BackendError(f"cost({values!r}): the number of values is a whole number ≥ 0.")
        options = self.options
        rows = math.ceil(values / self.width)
        jobs = math.ceil(rows / rows_a_job(options))
        run = rows * options.copies + jobs * options.calibration_rows
        executions = run * options.row_shots
        seconds = (jobs - 1) * job_seconds(0) + job_seconds(executions) if jobs else 0.0
        return Cost(run, jobs, executions, seconds, self.seconds_left, self.width)

    def open(
        self, store: Path | str | None = None, about: Mapping[str, Any] | None = None
    ) -> QiskitRun:
        """Open a run: a new one, or, where `store` holds one already, that one again.

        A real device always has a store: without a path it is made in `~/.qkan/runs`, or in the
        folder that the option `store` names.

        Raises:
            BackendError: Another process holds it, it was altered, or it holds another run.
        """
        path = self._path(store)
        opened = Memory() if path is None else Store(path)
        seed = f"{self._seed}-{self._opened}"
        self._opened += 1
        described = {"name": self.name, **self.options.describe()}
        try:
            book = Book(opened, about or {}, described, seed)
        except BackendError:
            opened.close()
            raise
        site = Site(self.provider, self.options, self._layout, lambda: self.seconds_left)
        if self.options.budget_seconds is not None:
            # by the run's own name: opened twice, it is counted once
            self._books[book.run] = book
        return QiskitRun(self, site, book, path)

    def calibration(self) -> Calibration:
        """The device's calibration as last fetched; entries that are missing are NaN."""
        return self.provider.calibration()

    def _layout(self, calibration: Calibration, without: frozenset[int]) -> tuple[int, ...]:
        width = self.options.width or self.provider.default_width
        usable = chosen_layout(
            calibration, self.options, self.options.width, self.provider.neighbours(), without
        )
        return usable[:width]

    def _path(self, store: Path | str | None) -> Path | None:
        if store is not None:
            return Path(store)
        if self.options.store is None and not self.provider.bills:
            return None
        root = Path(self.options.store or Path.home() / ".qkan" / "runs")
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        return root / f"{self.name}-{stamp}-{secrets.token_hex(3)}"

    def _require_budget(self) -> None:
        if self.provider.bills and self.options.budget_seconds is None:
            raise BackendError(
                f"{self.name} bills its time: say how much at most, as in budget_seconds=60. The "
                "open plan has 600 s in 28 days."
            )
