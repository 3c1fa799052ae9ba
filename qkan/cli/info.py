"""`qkan info`: versions, the machine, and which engine runs a layer and why."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import torch

from qkan._version import __version__
from qkan.circuits import ansatze
from qkan.errors import QKANError
from qkan.interpret.explain import explain_layer
from qkan.nn.layer import QKANLayer

from .terminal import show, show_table

DISTRIBUTION = "qkan-hybrid"


def show_info(
    sizes: tuple[int, int, int],
    encodings: Sequence[str],
    options: dict[str, Any],
    device: str | None,
    *,
    as_json: bool,
) -> None:
    """Show what is installed, and the engines for a layer of (batch, in, out) in each encoding.

    Raises:
        QKANError: This machine lacks the device, or an option of the layer is wrong.
    """
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if place not in ("cpu", "cuda") or (place == "cuda" and not torch.cuda.is_available()):
        raise QKANError(f"--device {place} is not on this machine; `qkan info` lists the devices.")
    batch, inputs, outputs = sizes
    layers = [
        QKANLayer(inputs, outputs, encoding=name, device="meta", **options) for name in encodings
    ]
    found = {**about(), "engines": [engines_of(layer, batch, place) for layer in layers]}
    if as_json:
        show(found)
    else:
        _show(found)


def about() -> dict[str, Any]:
    """Return versions, cores, devices and ansätze as JSON values, without host or user names."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "qkan": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": cores,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda,
        "devices": ["cpu", *map(torch.cuda.get_device_name, range(torch.cuda.device_count()))],
        "ansatze": [*ansatze()],
        "packages": packages(),
    }


def packages() -> dict[str, dict[str, str | None]]:
    """Return the version of each package that this one can use, and the extra that installs it.

    The version is None if the package is not installed, and the extra is None if it is always
    needed. The result is empty if this package itself is not installed.
    """
    found: dict[str, dict[str, str | None]] = {}
    known = version(DISTRIBUTION) is not None
    for line in (known and metadata.requires(DISTRIBUTION)) or ():
        name, extra = re.match(r"[\w.-]+", line), re.search(r"extra == .([\w-]+)", line)
        assert name is not None, f"the requirement {line!r} begins with no name"
        if extra is None or extra[1] not in ("test", "docs"):
            found[name[0]] = {"version": version(name[0]), "extra": extra and extra[1]}
    return found


def version(distribution: str) -> str | None:
    """Return the installed version, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def engines_of(layer: QKANLayer, batch: int, device: str) -> dict[str, Any]:
    """Return the engine that "auto" chooses for a layer and a batch, and why not the others."""
    x = torch.zeros(1, device=device).expand(batch, layer.in_features)
    explanation = explain_layer(layer, x)
    return {
        "layer": f"{layer.in_features} → {layer.out_features}, {layer.circuit.num_encodings} "
        f"repetitions, {layer.encoding}, batch {batch}, {device}",
        "engine": explanation.engine,
        "verdicts": dict(explanation.verdicts),
    }


def _show(found: dict[str, Any]) -> None:
    lines = [
        (name, entry["version"] or f'not installed: pip install "{DISTRIBUTION}[{entry["extra"]}]"')
        for name, entry in found["packages"].items()
    ]
    title = f"qkan {found['qkan']}, Python {found['python']}, {found['system']}"
    show_table(title, ("package", "version"), lines)
    show(
        f"Devices: {', '.join(found['devices'])}; {found['cores']} cores, {found['threads']} "
        f"threads, {found['instructions']}\nAnsätze: {', '.join(found['ansatze'])}"
    )
    for case in found["engines"]:
        chosen = [("→ " if name == case["engine"] else "  ") + name for name in case["verdicts"]]
        lines = [*zip(chosen, case["verdicts"].values(), strict=True)]
        show_table(case["layer"], ("engine", "why"), lines)
