"""`PackedBackend`: the generic backend that packs many one-qubit circuits side by side.

A `Provider` runs the jobs. Packing, layout, mitigation, budgets and the store are the same for all
providers.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .backend import Backend, Cost, Task
from .budget import FILE as BUDGET_FILE
from .budget import Budget, Ledger
from .calibration import Calibration
from .carried import OLD_LOG
from .contact import Contact
from .context import RunContext
from .errors import BackendError
from .layout import chosen_layout
from .options import Options, count, describe_options
from .packing import flatten
from .planner import Planner, job_seconds, rows_a_job
from .provider import Provider
from .run import QiskitRun
from .state import RunState
from .store import FILE as RUN_FILE
from .store import Store


class PackedBackend(Backend):
    """A backend whose rows measure one value on every qubit in use.

    Every measurement is one packed parametric circuit that is bound to an array of angles:
    ⌈values/width⌉ rows, with a standard error for every value.

    Args:
        provider: The provider that runs the jobs.
        options: All options.

    Attributes:
        name: The name of the device.
        shots: The number of shots for each value.
        options: All options.
        width: The number of qubits used at once.

    Raises:
        BackendError: The provider bills, but there is no budget; or the layout cannot be used.
    """

    def __init__(self, provider: Provider, options: Options) -> None:
        self.provider, self.options = provider, options
        self.name, self.shots = provider.name, options.shots
        self._opened = itertools.count()
        self._seed = options.seed if options.seed is not None else secrets.randbits(63)
        if provider.bills and options.budget_seconds is None:
            raise BackendError(
                f"{self.name} bills its time; say how much may be billed at most, such as "
                "budget_seconds=60. The open plan has 600 s in 28 days."
            )
        self._budget: Budget | None = None
        if options.budget_seconds is not None and provider.bills:
            self._budget = Budget(options.budget_seconds)
            if options.store is not None:
                # the entries in the ledger of the store's folder count already
                self._budget.join(self._root / BUDGET_FILE)
        rows_a_job(options)
        self.width = len(self.layout)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, shots={self.shots}, width={self.width})"

    def describe_options(self) -> dict[str, Any] | None:
        """Return the options as JSON values."""
        return describe_options(self.options)

    @property
    def corrects_readout(self) -> bool:
        """Whether twins and calibration rows remove the readout's bias."""
        return self.options.twins

    @property
    def fused(self) -> bool:
        """Whether the mode is "fused"."""
        return self.options.mode == "fused"

    @property
    def layout(self) -> tuple[int, ...]:
        """The physical qubits in use, the best first."""
        return self._layout(self.calibration(), frozenset())

    @property
    def seconds_left(self) -> float | None:
        """The seconds left of the budget after billed and reserved ones; None without a budget."""
        return None if self._budget is None else self._budget.left

    def cost(self, values: int) -> Cost:
        """Return the cost of measuring that many values of one circuit; nothing is submitted.

        Seconds are estimated from rows × shots as IBM bills them; on an emulator, they say what the
        device would take.
        """
        values = count("values", values, least=0)
        found, chip = self._cost_on(self.width, values), None
        if self.provider.bills:
            account = Contact(self.provider, self.options).account_seconds()
            return dataclasses.replace(
                found, seconds_left=self.seconds_left, account_seconds_left=account
            )
        if self.options.width is None:
            neighbours = self.provider.neighbours()
            usable = len(chosen_layout(self.calibration(), self.options, None, neighbours))
            chip = self._cost_on(usable, values) if usable > self.width else None
        return dataclasses.replace(found, chip=chip)

    def _cost_on(self, width: int, values: int) -> Cost:
        options = self.options
        rows = math.ceil(values / width)
        jobs = math.ceil(rows / rows_a_job(options))
        rows_run = rows * options.copies + jobs * options.calibration_rows
        executions = rows_run * options.row_shots
        seconds = (jobs - 1) * job_seconds(0) + job_seconds(executions) if jobs else 0.0
        return Cost(rows_run, jobs, executions, seconds, None, width)

    def dry_run(self, tasks: Sequence[Task]) -> float | None:
        """Return the seconds that the service would bill for the tasks; nothing is run.

        The service validates the jobs as it would real ones, on a mock of the device. IBM offers
        this on its paid plans, from version 0.51 of the runtime on. The result is None on an
        emulator.

        Raises:
            BackendError: The service refuses, or does not offer dry runs.
        """
        values = flatten(tasks, fused=self.fused, native_rx=self.provider.native_rx)
        state = RunState(Store(None), {}, {}, "dry run")
        planner = Planner(self._context(state), 0, values)
        planner.plan_values(planner.missing())
        found = [self.provider.dry_run(planner.request(entry)) for entry in planner.jobs()]
        seconds = [s for s in found if s is not None]
        return sum(seconds) if len(seconds) == len(found) else None

    def open(
        self, store: Path | str | None = None, about: Mapping[str, Any] | None = None
    ) -> QiskitRun:
        """Open a new run, or the run that `store` has already.

        A real device always has a store: without a path, it is made in `~/.qkan/runs` or in the
        folder of the option `store`.

        Raises:
            BackendError: Another process works on the run, the store was altered, or it has another
                run.
        """
        path = None if store is None else Path(store)
        if path is None and (self.options.store is not None or self.provider.bills):
            stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
            path = self._root / f"{self.name}-{stamp}-{secrets.token_hex(3)}"
        return self._opened_run(path, about, working=True)

    def watch(self, store: Path | str, about: Mapping[str, Any] | None = None) -> QiskitRun:
        """Open a run on which another process may be working, to see its status or cancel it.

        Raises:
            BackendError: There is no run, the store was altered, or it has another run.
        """
        path = Path(store)
        if not any((path / name).exists() for name in (RUN_FILE, OLD_LOG)):
            raise BackendError(
                f"{path} has no run of a {type(self).__name__}. Name a run's directory; if "
                f"{RUN_FILE} was deleted there, restore it from a copy."
            )
        return self._opened_run(path, about, working=False)

    def calibration(self) -> Calibration:
        """Return the calibration that was fetched last; missing entries are NaN."""
        return self.provider.calibration()

    def _opened_run(
        self, path: Path | None, about: Mapping[str, Any] | None, *, working: bool
    ) -> QiskitRun:
        opened = Store(path, working=working)
        seed = f"{self._seed}-{next(self._opened)}"
        described = {"name": self.name, **self.options.of_results()}
        try:
            state = RunState(opened, about or {}, described, seed)
            context = self._context(state, self._ledger(path))
            if working:
                context.update_ledger(*state.entries, may_lower=False)
        except BaseException:
            opened.close()
            raise
        return QiskitRun(self, context, path)

    def _context(self, state: RunState, ledger: Ledger | None = None) -> RunContext:
        contact = Contact(self.provider, self.options)
        return RunContext(state, contact, self.options, self._layout, self._budget, ledger)

    def _layout(self, calibration: Calibration, without: frozenset[int]) -> tuple[int, ...]:
        options = self.options
        neighbours = self.provider.neighbours()
        usable = chosen_layout(calibration, options, options.width, neighbours, without)
        return usable[: options.width or self.provider.default_width]

    def _ledger(self, path: Path | None) -> Ledger | None:
        """The ledger of a run: that of its folder, or its own."""
        if self._budget is None or path is None:
            return None
        folder = path.resolve().parent
        if self.options.store is not None or folder == self._root:
            folder = self._root
        elif not (folder / BUDGET_FILE).exists():
            folder = path
        return self._budget.join(folder / BUDGET_FILE)

    @property
    def _root(self) -> Path:
        """The folder of runs without a directory of their own."""
        return Path(self.options.store or Path.home() / ".qkan" / "runs").expanduser().resolve()
