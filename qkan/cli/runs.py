"""The commands for devices: estimate, submit, status, collect, cancel and devices."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from qkan.errors import QKANError

from .terminal import (
    PARTIAL,
    PENDING,
    Decimal,
    Delimiter,
    Drop,
    Json,
    Model,
    Quiet,
    show,
    show_table,
    tell,
    typer,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from qkan.backends import QiskitBackend
    from qkan.devices.result import DeviceResult

VALUES = "values.csv"
"""The file of a run's results in its directory, unless --out names another one."""

RUNS = Path("qkan-runs")
"""The default directory of runs; a budget applies to all runs in it together."""

Inputs = Annotated[
    Path,
    typer.Argument(help="The model's inputs as .npy, or a CSV file with the columns of training."),
]
Store = Annotated[
    Path, typer.Argument(help="The run's directory, which `qkan submit` has printed.")
]
Backend = Annotated[
    str, typer.Option(help="A device: ibm_…, least_busy, the name of a fake device, or aer.")
]
Shots = Annotated[int, typer.Option(help="The number of shots for each value.")]
Budget = Annotated[float | None, typer.Option(help="The most seconds that may be billed.")]
Mitigation = Annotated[str, typer.Option(help="Which errors are corrected: readout or none.")]
Mode = Annotated[str, typer.Option(help="How layers are measured: sequential or teacher_forced.")]
More = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="Any other backend option, such as -o width=16."),
]
Out = Annotated[
    Path | None, typer.Option(help="A CSV file for the results; by default in the run's directory.")
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Return while jobs are still in the queue.")
]


def estimate_command(
    model: Model,
    inputs: Inputs,
    backend: Backend,
    shots: Shots = 4096,
    budget_seconds: Budget = None,
    mitigation: Mitigation = "readout",
    mode: Mode = "sequential",
    option: More = None,
    drop: Drop = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    as_json: Json = False,
) -> None:
    """Estimate what a run of the model on a device would cost; nothing is submitted."""
    from qkan.devices.plan import estimate

    device = _device(backend, shots, budget_seconds, mitigation, option)
    network, x = _loaded(model, inputs, drop, delimiter, decimal)
    plan = estimate(network, x, device, mode=mode)
    show(dataclasses.asdict(plan) if as_json else str(plan))


def submit_command(
    model: Model,
    inputs: Inputs,
    backend: Backend,
    shots: Shots = 4096,
    budget_seconds: Budget = None,
    mitigation: Mitigation = "readout",
    mode: Mode = "sequential",
    option: More = None,
    drop: Drop = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    store: Annotated[
        Path | None, typer.Option(help="The run's directory; by default a new one.")
    ] = None,
    out: Out = None,
    no_wait: NoWait = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model and wait for the results. After Ctrl-C, `qkan collect` continues the run.

    With --no-wait the command returns once the jobs are in the queue. Later layers of a network
    need the results of the first one; `qkan collect` submits them.
    """
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder = store or RUNS / f"{model.stem}-{stamp}"
    with _leaving(folder, as_json, code=0):
        from qkan.devices.run import run

        from .inputs import check_out

        check_out(out)
        option = [*([] if store else [f"store={json.dumps(str(RUNS))}"]), *(option or ())]
        device = _device(backend, shots, budget_seconds, mitigation, option, wait=not no_wait)
        network, x = _loaded(model, inputs, drop, delimiter, decimal)
        tell(f"The run is kept in {folder}")
        result = run(network, x, device, mode=mode, store=folder, progress=not quiet)
        _finish(result, network, x, out, as_json)


def collect_command(
    store: Store,
    out: Out = None,
    no_wait: NoWait = False,
    as_json: Json = False,
    quiet: Quiet = False,
    resubmit: Annotated[
        bool,
        typer.Option(
            "--resubmit",
            help="Submit again the jobs that the service neither confirmed nor lists; they may be "
            "billed twice.",
        ),
    ] = False,
) -> None:
    """Continue a run that was interrupted or left in the queue, and write its results.

    With --no-wait the exit code is 4 while jobs are in the queue.
    """
    with _leaving(store, as_json, code=PENDING):
        from qkan.devices.named import find_backend
        from qkan.devices.run import resume
        from qkan.devices.run_folder import read

        from .inputs import check_out

        check_out(out)
        described, x, network = read(store)
        device = find_backend(store, described["backend"], None, wait=not no_wait)
        result = resume(store, device, progress=not quiet, resubmit=resubmit)
        _finish(result, network, x, out, as_json)


def status_command(store: Store, as_json: Json = False) -> None:
    """Show the state of a run's jobs."""
    from qkan.devices.named import find_backend
    from qkan.devices.run_folder import read

    described, x, _ = read(store)
    device = find_backend(store, described["backend"], None)
    with device.watch(store, described["about"]) as opened:
        states, seconds = opened.status(), opened.seconds
    if as_json:
        found = {"store": str(store), "backend": device.name, "jobs": states}
        show({**found, "seconds": seconds, "inputs": [*x.shape]})
        return
    lines = [(identity, state) for identity, state in states.items()]
    title = f"{store}: {described['about']['model']} on {device.name}, {seconds:.3g} s billed"
    show_table(title, ("job", "state"), lines)
    done = store / VALUES
    tell(f"Its results: {done}" if done.exists() else f"Continue with: qkan collect {store}")


def cancel_command(store: Store, as_json: Json = False) -> None:
    """Cancel the unfinished jobs of a run; the results of finished jobs are kept."""
    from qkan.devices.run import cancel

    jobs = cancel(store)
    show({"cancelled": [*jobs]} if as_json else f"Cancelled: {', '.join(jobs) or 'nothing'}")


def devices_command(
    names: Annotated[
        list[str] | None, typer.Argument(help="The names of devices to show in detail.")
    ] = None,
    ibm: Annotated[
        bool, typer.Option("--ibm", help="List the devices of your IBM account.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List fake devices, or with --ibm those of your account with queue and calibration."""
    from .devices import Device, account_devices, fake_names, look_at

    found = [look_at(name) for name in names or ()]
    found += account_devices() if ibm else []
    found = found or fake_names()
    if as_json:
        show([dataclasses.asdict(device) for device in found])
        return
    header = tuple(field.name.replace("_", " ") for field in dataclasses.fields(Device))
    lines = [dataclasses.astuple(device) for device in found]
    keep = [k for k in range(len(header)) if any(line[k] is not None for line in lines)]
    show_table(
        "Devices for --backend; also aer, an ideal simulator",
        tuple(header[k] for k in keep),
        [tuple(line[k] for k in keep) for line in lines],
    )


@contextlib.contextmanager
def _leaving(folder: Path, as_json: bool, code: int) -> Iterator[None]:
    """Say how to continue, and end with the given exit code, if jobs are left in the queue."""
    from qkan.backends import PendingError

    try:
        yield
    except PendingError as pending:
        if as_json:
            show({"store": str(folder), "pending": [*pending.jobs]})
        tell(f"{pending}\nCollect: qkan collect {folder}")
        raise typer.Exit(code) from None
    except KeyboardInterrupt as stop:
        if folder.exists():
            stop.add_note("Submitted jobs stay in the queue, and their results are not lost.")
            stop.add_note(f"Continue: qkan collect {folder}\nGive up: qkan cancel {folder}")
        raise


def _loaded(
    model: Path, inputs: Path, drop: list[str] | None, delimiter: str | None, decimal: str | None
) -> tuple[nn.Module, Tensor]:
    """Read a model from one file and its inputs from another."""
    from qkan.io.files import load
    from qkan.tabular.reading import Dialect

    from .inputs import noted_inputs

    network = load(model)
    return network, noted_inputs(inputs, network, drop, Dialect(delimiter, decimal))[0]


def _device(
    name: str,
    shots: int,
    budget: float | None,
    mitigation: str,
    more: list[str] | None,
    *,
    wait: bool = True,
) -> QiskitBackend:
    from qkan.backends import QiskitBackend
    from qkan.backends.options import make_options

    options: dict[str, Any] = {}
    for text in more or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise QKANError(f"-o {text}; wanted name=value, such as -o width=16.")
        try:
            options[key.replace("-", "_")] = json.loads(value)
        except ValueError:
            options[key.replace("-", "_")] = value
    given: Any = {
        "shots": shots, "budget_seconds": budget, "mitigation": mitigation, "wait": wait, **options,
    }  # fmt: skip
    # a wrong option is named here rather than by the backend's constructor
    make_options(given)
    return QiskitBackend(name, **given)


def _finish(
    result: DeviceResult, model: nn.Module | None, x: Tensor, out: Path | None, as_json: bool
) -> None:
    """Write and show a result; a partial result ends with its own exit code."""
    from qkan.devices.result import write_columns

    from .inputs import to_json
    from .measured import columns_of

    if result.path is None and out is None:
        raise QKANError(
            "There is no circuit to measure for these inputs, so nothing was submitted; with --out "
            "the simulator's outputs are written."
        )
    target = out or Path(result.path or ".") / VALUES
    columns = columns_of(result, model, x)
    if columns is None:
        result.to_csv(target)
    else:
        write_columns(columns, result, target)
    if as_json:
        show(to_json(result) | ({} if columns is None else {"predictions": columns}))
    else:
        show(f"{result}\nWritten to {target}")
        for check in result.edges:
            show(str(check))
    for note in result.notes:
        tell(note)
    if not result.complete:
        tell(f"Some values are missing. Try again: qkan collect {result.path}")
        raise typer.Exit(PARTIAL)
