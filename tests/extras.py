"""Install each extra of a wheel alone, in a fresh environment, and run the lines that need it.

Run     python tests/extras.py WHEEL            every extra but those in `LEFT_OUT`
        python tests/extras.py WHEEL plot cli   some of them
Needs   a registry or a folder of wheels for pip; versions are those of constraints.txt
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LINES = {
    "": "model = qkan.QKAN([2, 1])\n"
    "qkan.fit(model, (torch.rand(9, 2), torch.rand(9, 1)), steps=1, progress=False)\n"
    "qkan.save(model, 'm.safetensors'); assert qkan.load('m.safetensors').widths == [2, 1]",
    "cli": "import subprocess, sys\n"
    "subprocess.run([sys.executable, '-m', 'qkan', 'info'], check=True)",
    "onnx": "qkan.to_onnx(qkan.HQKAN(8), torch.randn(1, 8), 'block.onnx')",
    "operon": "layer = qkan.QKANLayer(1, 1)\n"
    "print(qkan.symbolic(layer, torch.rand(30, 1), search=True, tolerance=0.5))",
    "pennylane": "from qkan.circuits import ansatz\n"
    "node = qkan.qnode(ansatz('pz', reps=1), 'default.qubit')\n"
    "print(node(torch.rand(3, 1), torch.rand(1, 1, 4)))",
    "plot": "qkan.plot(qkan.QKAN([2, 1]), torch.rand(9, 2)).savefig('m.svg')",
    "qiskit": "backend = qkan.QiskitBackend('FakeTorino', shots=100)\n"
    "print(qkan.run(qkan.QKAN([1, 1]), torch.rand(2, 1), backend, progress=False).values)",
    "sklearn": "import numpy as np\nx = np.random.rand(30, 2)\n"
    "print(qkan.QKANRegressor().fit(x, x[:, 0]).predict(x[:2]))",
    "symbolic": "print(qkan.symbolic(qkan.QKANLayer(1, 1), torch.rand(30, 1), digits=2))",
    "transformers": "from transformers import GPT2Config, GPT2LMHeadModel\n"
    "model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1))\n"
    "print(qkan.replace_ffn(model, lambda n: qkan.HQKAN(n)))",
}
"""By extra, lines that fail without it; "" is the wheel by itself."""

LEFT_OUT = {
    "cuda": "needs a card", "cuda12": "needs a card", "docs": "make docs runs it",
    "test": "make test runs it",
}  # fmt: skip


def declared() -> set[str]:
    """The extras of pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return set(tomllib.load(file)["project"]["optional-dependencies"])


def works(wheel: Path, extra: str) -> bool:
    """Whether the wheel installs with one extra into a fresh environment, and its lines run."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = f"{folder}/bin/python"
        wanted = f"qkan-hybrid[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        code = f"import torch, qkan\n{LINES[extra]}"
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        done = [
            subprocess.run(command, cwd=folder, check=False).returncode
            for command in ([*install, *constraints, wanted], [python, "-P", "-c", code])
        ]
    return not any(done)


def main() -> None:
    wheel, chosen = Path(sys.argv[1]).resolve(), sys.argv[2:] or [*LINES]
    forgotten = declared() - {*LINES, *LEFT_OUT}
    if forgotten:
        sys.exit(f"tests/extras.py has no lines for {sorted(forgotten)}")
    for extra, why in LEFT_OUT.items():
        print(f"{extra}: left out, {why}")
    failed = []
    for extra in chosen:
        good = works(wheel, extra)
        print(f"{extra or 'the wheel by itself'}: {'works' if good else 'FAILS'}", flush=True)
        failed += [] if good else [extra]
    sys.exit(f"failed: {failed}" if failed else None)


if __name__ == "__main__":
    main()
