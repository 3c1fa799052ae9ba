"""Virtual environments of their own for the packages we are measured against.

Run     python benchmarks/peers.py, for some of them: python benchmarks/peers.py qkan pykan

Each lives in build/peers/<name>/ with pinned versions, and is rebuilt when its pins change. On
Linux the newest torch from PyPI brings CUDA libraries with it; to save the gigabytes point pip at
an index with the CPU build of that version, e.g. PIP_EXTRA_INDEX_URL.
"""

from __future__ import annotations

import argparse
import os
import shutil
import site
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "peers"
TORCH = "torch==2.13.0"


@dataclass(frozen=True)
class Peer:
    """One environment.

    Attributes:
        packages: Pins installed with what they depend on.
        bare: Pins installed without: their own open ranges would replace torch.
        why: What is not obvious about the choice.
        beside: Whether it sees the packages of this interpreter, such as a torch built for the
            machine's GPU; made only when it is named.
    """

    packages: tuple[str, ...]
    bare: tuple[str, ...] = ()
    why: str = ""
    beside: bool = False

    @property
    def pins(self) -> str:
        """All pins, one a line: the stamp of a finished environment."""
        return "\n".join([*self.packages, *self.bare]) + "\n"


PEERS: dict[str, Peer] = {
    "qkan": Peer(
        (TORCH, "numpy==2.4.6", "opt_einsum==3.4.0", "qkan==0.2.3"),
        why="opt_einsum gives its cutn solver a contraction plan; both ways are measured",
    ),
    "qkan-gpu": Peer(
        (), ("qkan==0.2.3", "opt_einsum==3.4.0"), beside=True,
        why="on a GPU it runs with the torch and triton that are there",
    ),
    "pykan": Peer(
        (
            TORCH, "numpy==2.4.6", "matplotlib==3.11.2", "scikit-learn==1.9.1", "sympy==1.14.0",
            "tqdm==4.70.1", "pandas", "pyyaml", "setuptools",
        ),
        bare=("pykan==0.2.8",),
        why="its requirements are open or missing",
    ),
    "inkan": Peer(
        (TORCH, "numpy==2.4.6"), bare=("inkan==0.5.2",),
        why="its requirement of torch is open",
    ),
    "pennylane": Peer(
        (TORCH, "numpy==2.4.6", "pennylane==0.45.1", "pennylane-lightning==0.45.0"),
    ),
    "qiskit": Peer(
        (TORCH, "numpy==2.4.6", "qiskit==2.6.2", "qiskit-machine-learning==0.9.1"),
    ),
}  # fmt: skip


def python(name: str) -> Path:
    """The interpreter of a peer's environment, there or not."""
    return FOLDER / name / "bin" / "python"


def missing(name: str) -> str | None:
    """What to do when a peer's environment is not ready; None when it is."""
    stamp = FOLDER / name / "pins.txt"
    if stamp.exists() and stamp.read_text() == PEERS[name].pins:
        return None
    state = "is out of date" if stamp.exists() else "is missing"
    return f"its environment {state}; make it with: python benchmarks/peers.py {name}"


def create(name: str) -> None:
    """Make a peer's environment anew.

    Raises:
        subprocess.CalledProcessError: pip failed; its message is on the console.
    """
    folder, peer = FOLDER / name, PEERS[name]
    shutil.rmtree(folder, ignore_errors=True)
    print(f"{name}: creating {folder.relative_to(ROOT)}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # a search path meant for this checkout must not reach the other environment
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if peer.beside:
        # not --system-site-packages: that shows nothing of a virtual environment that we run in
        path = subprocess.run(
            [str(python(name)), "-c", "import site; print(site.getsitepackages()[0])"],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        Path(path, "beside.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    if peer.packages:
        subprocess.run([*pip, *peer.packages], check=True, env=environment)
    if peer.bare:
        subprocess.run([*pip, "--no-deps", *peer.bare], check=True, env=environment)
    (folder / "pins.txt").write_text(peer.pins)
    print(f"{name}: ready, {', '.join((*peer.packages, *peer.bare))}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)}; all")
    parser.add_argument("--again", action="store_true", help="also those that are ready")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(PEERS)
    if unknown:
        parser.error(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    for name in arguments.names or [name for name, peer in PEERS.items() if not peer.beside]:
        if arguments.again or missing(name):
            create(name)
        else:
            print(f"{name}: ready already")


if __name__ == "__main__":
    main()
