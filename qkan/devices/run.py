"""`run`: a model's outputs from a device, with standard errors; `resume` and `cancel`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from qkan._progress import Progress
from qkan.backends import Backend, Run
from qkan.errors import QKANError
from qkan.nn.watch import evaluating

from . import store as files
from .checks import check_stage, folder_of, sample_of_row, samples_of
from .named import as_backend, find_backend
from .plan import MODES, estimate
from .reading import Reading, Source, Tracked
from .result import DeviceResult, EdgeCheck
from .stage import Stage, record, tapped

Read = Callable[[Stage, Tensor], Source]
"""From a stage and the rows of it to measure, (n,) bools, to values with errors."""


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

    Layer after layer, all edges and samples of a layer in as few jobs as hold them. Nothing that
    is paid for is run twice: the same call with the same `store`, or `resume`, goes on where a
    run stopped. A group's activation is measured once a sample and input, a pruned edge never.

    Standard errors are carried to the outputs to first order, by the simulator's slopes, with all
    correlations between hidden values and between the values of one qubit, at the price of a
    backward pass an output. The model runs in evaluation mode; a module between the layers must
    keep samples first and apart, and one that detaches its input hides the errors before it.

    Args:
        model: Any module with `QKANLayer`s in it.
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
    if mode not in MODES:
        raise QKANError(f"mode={mode!r}; wanted {' or '.join(map(repr, MODES))}.")
    backend = as_backend(backend)
    plan = estimate(model, x, backend, mode=mode)
    kept = folder_of(store)
    if not plan.stages:
        return _nothing(model, x, backend, mode)
    with backend.open(kept, files.about(model, x, mode)) as opened, resumable(opened):
        if not opened.jobs:
            plan.require_time()
        if resubmit:
            opened.resubmit()
        if opened.path is not None:
            files.keep(opened.path, model, x, backend, mode)
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
    """Go on with a run that was interrupted, in any process; what is there is not run again.

    Args:
        source: The run's directory, or its partial result.
        backend: The device it runs on, or its name; None: the backend of the run, made again with
            the options that it had.
        model: Needed where the model is none that `save` knows, such as an nn.Sequential.
        progress: As in `run`.
        resubmit: As in `run`.

    Raises:
        QKANError: No run there, a damaged one, another device, another model.
        BackendError: As in `run`.
    """
    folder = _folder(source)
    described, x, saved = files.read(folder)
    chosen = saved if model is None else model
    if chosen is None:
        raise QKANError(
            f"The model of {folder} is no QKAN or QKANLayer alone, so it is not kept there; "
            "pass resume(…, model=model) with the same parameters."
        )
    mode = described["about"]["mode"]
    if files.about(chosen, x, mode) != described["about"]:
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
    described, *_ = files.read(folder)
    found = find_backend(folder, described["backend"], backend)
    with found.watch(folder, described["about"]) as opened:
        return opened.cancel()


def measure_forward(model: nn.Module, x: Tensor, read: Read) -> tuple[Tensor, Tensor]:
    """A forward pass in which `read` gives the activations, and its outputs' standard errors.

    Samples with a missing value end as NaN, and are not read any further.
    """
    samples, tracked = samples_of(model, x), Tracked()
    lost: set[int] = set()

    def activate(stage: Stage) -> Tensor:
        place = sample_of_row(stage, samples)
        missing = torch.isin(place, place.new_tensor(sorted(lost)))
        check_stage(stage, missing)
        source = read(stage, ~missing)
        lost.update(place[source.z.isnan().any(-1)].tolist())
        return tracked.follow(source, source.z)

    with tapped(model, activate), evaluating(model), _recording():
        out = model(x.detach().clone())
        return out.detach(), tracked.stderr(out, samples).to(out.dtype)


def read_from(run: Run, bar: Progress) -> Read:
    """Read stages by measuring them in a run; what has no circuits costs no job.

    After a layer with missing values a run that can be resumed stops, for its next layers must be
    asked once, for all samples; one that keeps nothing goes on with the samples that it has.
    """
    calls = itertools.count()

    def read(stage: Stage, rows: Tensor) -> Reading:
        if run.path is not None and not rows.all():
            rows = torch.zeros_like(rows)
        part = stage if bool(rows.all()) else stage.rows(rows)
        if not part.values:
            return Reading.of(stage, None, rows)
        call = next(calls)
        found = files.measure(run, [part.task()], call)
        bar.advance()
        return Reading.of(stage, found[0], rows, call)

    return read


def _sequential(model: nn.Module, x: Tensor, run: Run, bar: Progress) -> DeviceResult:
    values, stderr = measure_forward(model, x, read_from(run, bar))
    return _result(values, stderr, run, "sequential")


def _teacher_forced(model: nn.Module, x: Tensor, run: Run, bar: Progress) -> DeviceResult:
    stages, _ = record(model, x)
    measured = [stage for stage in stages if stage.values]
    found = files.measure(run, [stage.task() for stage in measured])
    bar.advance()
    readings = [Reading.of(stage, m) for stage, m in zip(measured, found, strict=True)]
    queue, tracked, samples = iter(readings), Tracked(), samples_of(model, x)

    def simulate(stage: Stage) -> Tensor:
        value = stage.detached().simulate()
        return tracked.follow(next(queue), value, stage) if stage.values else value

    with tapped(model, simulate), evaluating(model), _recording():
        out = model(x.detach().clone())
        values = tracked.corrected(out, samples).to(out.dtype)
        stderr = tracked.stderr(out, samples).to(out.dtype)
    checks = tuple(_check(reading) for reading in readings)
    return _result(values, stderr, run, "teacher_forced", checks)


def _check(reading: Reading) -> EdgeCheck:
    stage = reading.stage
    simulated = stage.detached().simulate()
    places = (stage.place(t) for t in (simulated, reading.z, reading.stderr))
    return EdgeCheck(stage.name, *places)


def _result(
    values: Tensor, stderr: Tensor, run: Run, mode: str, edges: tuple[EdgeCheck, ...] = ()
) -> DeviceResult:
    device, notes = run.backend, run.notes
    if run.path is not None and bool(values.isnan().any()):
        notes += (f"Values are missing. Try again with qkan.resume({str(run.path)!r}).",)
    return DeviceResult(
        values, stderr, device.name, device.shots, run.jobs, run.seconds, mode, run.path, edges,
        notes,
    )  # fmt: skip


def _nothing(model: nn.Module, x: Tensor, backend: Backend, mode: str) -> DeviceResult:
    """Without a circuit to measure, the simulator's output is exact."""
    _, out = record(model, x)
    stderr = torch.zeros_like(out)
    return DeviceResult(out, stderr, backend.name, backend.shots, (), 0.0, mode)


@contextmanager
def _recording() -> Iterator[None]:
    """Autograd at work, whatever the caller turned off: errors are carried by its slopes."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def resumable(run: Run, again: str = "qkan.resume({!r})") -> Iterator[None]:
    """Tell whoever sees a failure or Ctrl-C how to go on: `again`, with the run's directory."""
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
