"""`QiskitBackend`: IBM's devices, their fake twins, Aer, and any other Qiskit backend."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from .backend import Backend, Cost, Task
from .book import Book
from .budget import FILE as BUDGET_FILE
from .budget import Budget, Ledger
from .calibration import Calibration
from .carried import OLD_LOG
from .contact import Contact
from .errors import BackendError
from .layout import chosen_layout
from .options import OptionNames, make_options, whole
from .packing import flatten
from .planner import Planner, Site, job_seconds, rows_a_job
from .provider import Provider
from .qiskit.devices import provider_of
from .run import QiskitRun
from .store import FILE as RUN_FILE
from .store import Store


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
        self._opened = itertools.count()
        self._seed = self.options.seed if self.options.seed is not None else secrets.randbits(63)
        self._require_budget()
        self._budget = self._shared_budget()
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
        return None if self._budget is None else self._budget.left

    def cost(self, values: int) -> Cost:
        """The cost of measuring that many values of one circuit; nothing is submitted.

        Seconds are estimated from rows × shots as IBM bills them, on an emulator too, where they
        tell what the device would take.
        """
        values = whole(values)
        if not isinstance(values, int) or isinstance(values, bool) or values < 0:
            raise BackendError(f"cost({values!r}): the number of values is a whole number ≥ 0.")
        seconds_left, account = self.seconds_left, None
        if self.provider.bills:
            account = Contact(self.provider, self.options).account_seconds()
        found = self._cost_on(self.width, values)
        chip = None
        if not self.provider.bills and self.options.width is None and self._usable > self.width:
            chip = self._cost_on(self._usable, values)
        return dataclasses.replace(
            found, seconds_left=seconds_left, account_seconds_left=account, chip=chip
        )

    @functools.cached_property
    def _usable(self) -> int:
        """Qubits that may be used at once at most."""
        usable = chosen_layout(
            self.calibration(), self.options, None, self.provider.neighbours(), ()
        )
        return len(usable)

    def _cost_on(self, width: int, values: int) -> Cost:
        options = self.options
        rows = math.ceil(values / width)
        jobs = math.ceil(rows / rows_a_job(options))
        run = rows * options.copies + jobs * options.calibration_rows
        executions = run * options.row_shots
        seconds = (jobs - 1) * job_seconds(0) + job_seconds(executions) if jobs else 0.0
        return Cost(run, jobs, executions, seconds, None, width)

    def dry_run(self, tasks: Sequence[Task]) -> float | None:
        """Seconds that the service says the tasks would be billed for; nothing is run.

        The service validates the jobs as it would real ones, on a mock of the device. IBM offers it
        on its paid plans, from version 0.51 of the runtime on. None on an emulator.

        Raises:
            BackendError: The service refuses, or does not offer it.
        """
        fused, native_rx = self.options.mode == "fused", self.provider.native_rx
        values = flatten(tasks, fused=fused, native_rx=native_rx)
        book = Book(Store(None), {}, {}, "dry run")
        site = Site(Contact(self.provider, self.options), self.options, self._layout)
        planner = Planner(book, site, 0, values)
        planner.plan_values(planner.missing())
        found = [self.provider.dry_run(planner.request(entry)) for entry in planner.jobs()]
        seconds = [s for s in found if s is not None]
        return sum(seconds) if len(seconds) == len(found) else None

    def open(
        self, store: Path | str | None = None, about: Mapping[str, Any] | None = None
    ) -> QiskitRun:
        """Open a run: a new one, or, where `store` holds one already, that one again.

        A real device always has a store: without a path it is made in `~/.qkan/runs`, or in the
        folder that the option `store` names.

        Raises:
            BackendError: Another process holds it, it was altered, or it holds another run.
        """
        return self._opened_run(self._path(store), about, working=True)

    def watch(self, store: Path | str, about: Mapping[str, Any] | None = None) -> QiskitRun:
        """Open a run that another process may be working on, to ask for its status or cancel it.

        Raises:
            BackendError: There is no run, it was altered, or it is another one.
        """
        path = Path(store)
        if not any((path / name).exists() for name in (RUN_FILE, OLD_LOG)):
            raise BackendError(
                f"{path} holds no run of a QiskitBackend. Name a run's directory; if {RUN_FILE} "
                "was deleted there, restore it from a copy."
            )
        return self._opened_run(path, about, working=False)

    def _opened_run(
        self, path: Path | None, about: Mapping[str, Any] | None, *, working: bool
    ) -> QiskitRun:
        opened = Store(path, working=working)
        seed = f"{self._seed}-{next(self._opened)}"
        described = {"name": self.name, **self.options.describe()}
        try:
            book = Book(opened, about or {}, described, seed)
            ledger = self._ledger(path)
            if ledger is not None and working:
                ledger.enter(
                    book.run,
                    {e.key: (book.commitment(e), book.is_final(e)) for e in book.entries},
                )
        except BaseException:
            opened.close()
            raise
        contact = Contact(self.provider, self.options)
        site = Site(contact, self.options, self._layout, self._budget, ledger)
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
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        return self._root / f"{self.name}-{stamp}-{secrets.token_hex(3)}"

    def _shared_budget(self) -> Budget | None:
        """The budget, with all that is entered already in the store's folder."""
        if self.options.budget_seconds is None or not self.provider.bills:
            return None
        budget = Budget(self.options.budget_seconds)
        if self.options.store is not None:
            budget.join(self._root / BUDGET_FILE)
        return budget

    def _ledger(self, path: Path | None) -> Ledger | None:
        """Where the jobs of a run are entered: beside the runs of one folder, or in its own."""
        if self._budget is None or path is None:
            return None
        beside = path.resolve().parent / BUDGET_FILE
        if self.options.store is not None or path.resolve().parent == self._root:
            return self._budget.join(self._root / BUDGET_FILE)
        return self._budget.join(beside if beside.exists() else path / BUDGET_FILE)

    @property
    def _root(self) -> Path:
        """The folder of the runs that are given no place of their own."""
        return Path(self.options.store or Path.home() / ".qkan" / "runs").expanduser().resolve()

    def _require_budget(self) -> None:
        if self.provider.bills and self.options.budget_seconds is None:
            raise BackendError(
                f"{self.name} bills its time: say how much at most, as in budget_seconds=60. The "
                "open plan has 600 s in 28 days."
            )
