"""`run`: measure a model's outputs on a device, with standard errors; `resume` and `cancel`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from qkan._options import check_choice
from qkan._progress import Progress
from qkan.backends import Backend, Run
from qkan.errors import QKANError

from . import run_folder
from .checks import folder_of
from .error_propagation import (
    EdgeEstimates,
    ErrorPropagation,
    measured_forward,
    recording,
    samples_of,
)
from .layer_circuits import LayerCircuits, record
from .named import as_backend, find_backend
from .plan import MODES, estimate
from .result import DeviceResult, EdgeCheck


def run(
    model: nn.Module,
    x: Tensor,
    backend: Backend | str,
    *,
    mode: str = "sequential",
    store: str | os.PathLike[str] | None = None,
    progress: bool = True,
    resubmit: bool = False,
) -> DeviceResult:
    """Measure a model on a device: its circuits run there, and the classical rest in torch.

    Layers are measured one after the other, with all edges and samples of a layer in as few jobs as
    possible. Nothing is paid for twice: the same call with the same `store`, or `resume`, continues
    a run that has stopped. A group's activation is measured once for each sample and input, and a
    pruned edge never. A `DARUAN` is measured once for each sample and feature, but not where its
    amplitude is 0, since it adds nothing to its base there.

    Standard errors are propagated to the outputs to first order, by the simulator's derivatives,
    with all correlations between hidden values and between the values of one qubit; this takes a
    backward pass for each output. The model runs in evaluation mode. A module between the layers
    must keep the samples as the first axis and must not mix them. If it detaches its input, the
    errors before it are lost.

    Args:
        model: Any module with `QKANLayer`s or `DARUAN`s in it.
        x: (…, in) finite inputs.
        backend: The device, or the name of one that needs no options, such as "FakeTorino".
        mode: With "sequential", each layer's inputs are the measured outputs before it. With
            "teacher_forced", each layer is measured at the simulator's activations, all in one
            submission, and every edge is compared with the simulator (`result.edges`); `values` are
            then the outputs to first order in the differences.
        store: The run's directory. None takes the backend's default; an emulator keeps nothing.
        progress: Whether to show a progress bar, in a terminal or notebook.
        resubmit: Whether to submit again the jobs of an earlier attempt that the service neither
            confirmed nor lists; each may then be paid for twice.

    Returns:
        The outputs, NaN if a job failed permanently, with standard errors, job ids and seconds.
        With a store, missing values in a hidden layer stop the run; `resume` tries again.

    Raises:
        QKANError: The model has no circuits; a value is NaN or infinite (the message names it); the
            mode is unknown.
        BackendError: The backend refuses, for instance work beyond its budget, or the store belongs
            to another run.

    Example:
        >>> import torch
        >>> from qkan import QKAN, QiskitBackend, run
        >>> backend = QiskitBackend("aer", emulator="closed_form", seed=0)
        >>> model = QKAN([2, 3, 1], generator=torch.Generator().manual_seed(0))
        >>> result = run(model, torch.zeros(5, 2), backend)
        >>> result.values.shape, bool((result.stderr > 0).all())
        (torch.Size([5, 1]), True)
    """
    check_choice("mode", mode, MODES)
    backend = as_backend(backend)
    plan = estimate(model, x, backend, mode=mode)
    kept = folder_of(store)
    if not plan.stages:
        # without a circuit to measure, the simulator's output is exact
        _, out = record(model, x)
        exact = torch.zeros_like(out)
        return DeviceResult(out, exact, backend.name, backend.shots, (), 0.0, mode)
    with backend.open(kept, run_folder.about(model, x, mode)) as opened, resumable(opened):
        if not opened.jobs:
            plan.require_time()
        if resubmit:
            opened.resubmit()
        if opened.path is not None:
            run_folder.keep(opened.path, model, x, backend, mode)
        with Progress(len(plan.stages), "run", enabled=progress) as bar:
            forward = _sequential if mode == "sequential" else _teacher_forced
            return forward(model, x, opened, bar)


def resume(
    source: str | os.PathLike[str] | DeviceResult,
    backend: Backend | str | None = None,
    *,
    model: nn.Module | None = None,
    progress: bool = True,
    resubmit: bool = False,
) -> DeviceResult:
    """Continue a run that was interrupted, in any process; measured values are not measured again.

    Args:
        source: The run's directory, or its partial result.
        backend: The device of the run, or its name. None makes the backend of the run again, with
            the same options.
        model: The model, needed only if `save` does not know its kind, such as an nn.Sequential.
        progress: As in `run`.
        resubmit: As in `run`.

    Raises:
        QKANError: There is no run, it is damaged, or the device or the model is another one.
        BackendError: As in `run`.
    """
    folder = _folder(source)
    described, x, saved = run_folder.read(folder)
    chosen = saved if model is None else model
    if chosen is None:
        raise QKANError(
            f"The model of {folder} is not kept there, since save does not write models of its "
            "kind; pass resume(…, model=model) with the same parameters."
        )
    mode = described["about"]["mode"]
    if run_folder.about(chosen, x, mode) != described["about"]:
        raise QKANError(
            f"The run in {folder} has another {described['about']['model']} than this "
            f"{type(chosen).__name__}, or other parameters; pass the model with the parameters "
            "that it had."
        )
    found = find_backend(folder, described["backend"], backend)
    return run(chosen, x, found, mode=mode, store=folder, progress=progress, resubmit=resubmit)


def cancel(
    source: str | os.PathLike[str] | DeviceResult, backend: Backend | str | None = None
) -> tuple[str, ...]:
    """Cancel the jobs of a run that have not finished and return their ids.

    Finished jobs are kept, and `resume` submits the rest again. Another process may wait for the
    run at the same time; it then submits nothing more.

    Raises:
        QKANError: There is no run, or its device is another one.
    """
    folder = _folder(source)
    described, *_ = run_folder.read(folder)
    found = find_backend(folder, described["backend"], backend)
    with found.watch(folder, described["about"]) as opened:
        return opened.cancel()


def _sequential(model: nn.Module, x: Tensor, opened: Run, bar: Progress) -> DeviceResult:
    """Measure layer after layer, each at the measured outputs of those before it.

    After a layer with missing values, a run with a store stops, since the next layers must be
    measured once for all samples; a run without a store continues with the complete samples.
    """
    calls = itertools.count()

    def read(circuits: LayerCircuits, rows: Tensor) -> EdgeEstimates:
        whole = bool(rows.all())
        if opened.path is not None and not whole:
            rows = torch.zeros_like(rows)
        asked = circuits if whole else circuits.rows(rows)
        if not asked.values:
            # a layer without circuits needs no job
            return EdgeEstimates.measured(circuits, None, rows)
        call = next(calls)
        found = run_folder.measure(opened, [asked.task()], call)
        bar.advance()
        return EdgeEstimates.measured(circuits, found[0], rows, call)

    return _result(*measured_forward(model, x, read), opened, "sequential")


def _teacher_forced(model: nn.Module, x: Tensor, opened: Run, bar: Progress) -> DeviceResult:
    """Measure all layers at the simulator's activations, and correct the output to first order."""
    measured = [circuits for circuits in record(model, x)[0] if circuits.values]
    found = run_folder.measure(opened, [circuits.task() for circuits in measured])
    bar.advance()
    estimates = [EdgeEstimates.measured(*pair) for pair in zip(measured, found, strict=True)]
    queue, errors = iter(estimates), ErrorPropagation(samples_of(model, x))

    def simulate(circuits: LayerCircuits) -> Tensor:
        value = circuits.detached().simulate()
        return errors.follow(next(queue), value, circuits) if circuits.values else value

    with recording(model, simulate):
        out = model(x.detach().clone())
        values, stderr = errors.corrected(out), errors.stderr(out)
    return _result(values, stderr, opened, "teacher_forced", tuple(map(_check, estimates)))


def _check(estimates: EdgeEstimates) -> EdgeCheck:
    circuits = estimates.circuits
    simulated = circuits.detached().simulate()
    places = map(circuits.place, (simulated, estimates.z, estimates.stderr))
    return EdgeCheck(circuits.name, *places)


def _result(
    values: Tensor, stderr: Tensor, opened: Run, mode: str, edges: tuple[EdgeCheck, ...] = ()
) -> DeviceResult:
    device, notes = opened.backend, opened.notes
    if opened.path is not None and bool(values.isnan().any()):
        notes += (f"Values are missing. Try again with qkan.resume({str(opened.path)!r}).",)
    return DeviceResult(
        values, stderr, device.name, device.shots, opened.jobs, opened.seconds, mode, opened.path,
        edges, notes,
    )  # fmt: skip


@contextmanager
def resumable(run: Run, again: str = "qkan.resume({!r})") -> Iterator[None]:
    """Add to an error or Ctrl-C how to continue: the call `again` with the run's directory."""
    try:
        yield
    except (KeyboardInterrupt, ValueError) as error:
        if run.path is not None:
            jobs = ", ".join(run.jobs) or "none yet"
            go_on = again.format(str(run.path))
            error.add_note(f"Jobs submitted: {jobs}. Nothing is lost: continue with {go_on}.")
        raise


def _folder(source: str | os.PathLike[str] | DeviceResult) -> Path:
    folder = folder_of(source.path if isinstance(source, DeviceResult) else source)
    if folder is None:
        raise QKANError(
            "This run kept nothing, so it cannot be continued; pass store= to run(…) for that."
        )
    return folder
