"""`run`: a model's outputs from a device, with standard errors; `resume` and `cancel`."""

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
    """Measure a model on a device: its circuits there, the classical rest in torch, here.

    Layers are measured one after the other, all edges and samples of a layer in as few jobs as hold
    them. Nothing that is paid for is run twice: the same call with the same `store`, or `resume`,
    goes on where a run stopped. A group's activation is measured once for each sample and input, a
    pruned edge never. A `DARUAN` is measured once for each sample and feature, and not where its
    amplitude is 0, for then it adds nothing to its base.

    Standard errors are carried to the outputs to first order, by the simulator's slopes, with all
    correlations between hidden values and between the values of one qubit, at the price of a
    backward pass an output. The model runs in evaluation mode; a module between the layers must
    keep samples first and apart, and one that detaches its input hides the errors before it.

    Args:
        model: Any module with `QKANLayer`s or `DARUAN`s in it.
        x: (…, in) finite inputs.
        backend: The device, or the name of one that needs no options, such as "FakeTorino".
        mode: "sequential": each layer's inputs are the measured outputs before it.
            "teacher_forced": each layer is measured at the simulator's activations, all in one
            submission, and every edge is compared with the simulator (`result.edges`); `values`
            are then the outputs to first order in the differences found.
        store: The run's directory. None: the backend's default place; an emulator keeps nothing.
        progress: Whether to show a bar, in a terminal or notebook.
        resubmit: Whether to submit anew the jobs of an earlier attempt that the service neither
            confirmed nor shows; each may then be paid for twice.

    Returns:
        The outputs, NaN where a job failed for good, with standard errors, job ids and seconds.
        With a store, a hidden layer that lacks values stops the run: `resume` tries again.

    Raises:
        QKANError: A model without circuits; a NaN or an infinity, named; an unknown mode.
        BackendError: The backend refuses, such as work beyond its budget, or a store of another
            run.

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
    """Go on with a run that was interrupted, in any process; what was measured is not run again.

    Args:
        source: The run's directory, or its partial result.
        backend: The device it runs on, or its name; None: the backend of the run, made again with
            the options that it had.
        model: The model, needed where `save` does not know its kind, such as an nn.Sequential.
        progress: As in `run`.
        resubmit: As in `run`.

    Raises:
        QKANError: No run there, a damaged one, another device, another model.
        BackendError: As in `run`.
    """
    folder = _folder(source)
    described, x, saved = run_folder.read(folder)
    chosen = saved if model is None else model
    if chosen is None:
        raise QKANError(
            f"The model of {folder} is of no kind that save writes, so it is not kept there; "
            "pass resume(…, model=model) with the same parameters."
        )
    mode = described["about"]["mode"]
    if run_folder.about(chosen, x, mode) != described["about"]:
        raise QKANError(
            f"The run in {folder} is of another {described['about']['model']} than this "
            f"{type(chosen).__name__}, or of other parameters; pass the model as it was."
        )
    found = find_backend(folder, described["backend"], backend)
    return run(chosen, x, found, mode=mode, store=folder, progress=progress, resubmit=resubmit)


def cancel(
    source: str | os.PathLike[str] | DeviceResult, backend: Backend | str | None = None
) -> tuple[str, ...]:
    """Cancel the jobs of a run that have not finished and return their ids.

    What has finished is kept, and `resume` submits the rest again. Another process that waits for
    the run may do so meanwhile; it submits nothing more.

    Raises:
        QKANError: No run there, or one of another device.
    """
    folder = _folder(source)
    described, *_ = run_folder.read(folder)
    found = find_backend(folder, described["backend"], backend)
    with found.watch(folder, described["about"]) as opened:
        return opened.cancel()


def _sequential(model: nn.Module, x: Tensor, opened: Run, bar: Progress) -> DeviceResult:
    """Measure layer after layer, each at the measured outputs of those before it.

    After a layer with missing values a run that can be resumed stops, for its next layers must be
    asked once, for all samples; one that keeps nothing goes on with the samples that it has.
    """
    calls = itertools.count()

    def read(circuits: LayerCircuits, rows: Tensor) -> EdgeEstimates:
        whole = bool(rows.all())
        if opened.path is not None and not whole:
            rows = torch.zeros_like(rows)
        asked = circuits if whole else circuits.rows(rows)
        if not asked.values:
            # what has no circuits costs no job
            return EdgeEstimates.measured(circuits, None, rows)
        call = next(calls)
        found = run_folder.measure(opened, [asked.task()], call)
        bar.advance()
        return EdgeEstimates.measured(circuits, found[0], rows, call)

    return _result(*measured_forward(model, x, read), opened, "sequential")


def _teacher_forced(model: nn.Module, x: Tensor, opened: Run, bar: Progress) -> DeviceResult:
    """Measure all layers at the simulator's activations and correct the output to first order."""
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
    """Add to a failure or Ctrl-C how to go on: the call `again`, with the run's directory."""
    try:
        yield
    except (KeyboardInterrupt, ValueError) as error:
        if run.path is not None:
            jobs = ", ".join(run.jobs) or "none yet"
            go_on = again.format(str(run.path))
            error.add_note(f"Jobs submitted: {jobs}. Nothing is lost: go on with {go_on}.")
        raise


def _folder(source: str | os.PathLike[str] | DeviceResult) -> Path:
    folder = folder_of(source.path if isinstance(source, DeviceResult) else source)
    if folder is None:
        raise QKANError("This run kept nothing; pass store= to run(…) to be able to go on with it.")
    return folder
