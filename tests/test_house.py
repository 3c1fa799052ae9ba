"""The house keeps its rules: packages, imports, examples, and what an import costs."""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from paths import ROOT

import qkan

ROOMS = ("circuits", "simulators", "backends", "qkan")
ALLOWED = {
    "circuits": {"circuits"},
    "simulators": {"simulators", "circuits"},
    "backends": {"backends", "circuits"},
    "qkan": {"qkan", "circuits", "simulators", "backends"},
}


def run(code: str, cwd: Path | None = None) -> str:
    """Run Python code in a process of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def python_folders(room: str) -> set[str]:
    base = ROOT / room
    prefix = "qkan" if room == "qkan" else f"qkan.{room}"
    found = {base, *(f.parent for f in base.rglob("__init__.py"))}
    return {".".join([prefix, *f.relative_to(base).parts]) for f in found}


@pytest.mark.checkout
def test_the_package_list_is_complete() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        listed = tomllib.load(file)["tool"]["setuptools"]["packages"]
    assert set(listed) == set().union(*map(python_folders, ROOMS))


def imported_rooms(path: Path, room: str) -> set[str]:
    """The rooms that a file imports from, at any depth."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
            if node.module == "qkan":
                names = [f"qkan.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            assert parts[0] not in ("circuits", "simulators", "backends"), f"{path}: {name}"
            if parts[0] == "qkan":
                inner = parts[1] if len(parts) > 1 else ""
                rooms.add(inner if inner in ROOMS else "qkan")
    return rooms


@pytest.mark.checkout
@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_downhill(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        assert imported_rooms(path, room) <= ALLOWED[room], path


@pytest.mark.checkout
def test_circuits_know_no_torch() -> None:
    for path in (ROOT / "circuits").rglob("*.py"):
        assert "import torch" not in path.read_text(), path


@pytest.mark.checkout
def test_no_ansatz_is_compared_by_name_outside_its_file() -> None:
    names = {"pz", "rpz", "px", "mix", "real"}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            if path.name in ("ansatz.py", "from_qkan.py"):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Compare):
                    found = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
                    assert not found & names, f"{path}:{node.lineno}"


def test_the_rooms_do_not_pollute_the_top_level(tmp_path: Path) -> None:
    code = """
import importlib.util
for room in ("circuits", "simulators", "backends"):
    assert importlib.util.find_spec(room) is None, room
    assert importlib.util.find_spec("qkan." + room) is not None, room
"""
    run(code, cwd=tmp_path)


def modules() -> list[str]:
    return [m.name for m in pkgutil.walk_packages(qkan.__path__, "qkan.")]


def all_modules() -> list[str]:
    rooms = [importlib.import_module(f"qkan.{room}") for room in ROOMS[:3]]
    inner = [
        m.name for room in rooms for m in pkgutil.walk_packages(room.__path__, room.__name__ + ".")
    ]
    return sorted({"qkan", *modules(), *inner})


@pytest.mark.parametrize("name", all_modules())
def test_every_example_in_a_docstring_is_true(name: str) -> None:
    result = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert result.failed == 0


OPTIONAL = ("matplotlib", "qiskit", "pennylane", "cupy", "sklearn", "transformers", "pandas")


def test_the_import_brings_no_optional_package() -> None:
    code = f"import sys, qkan; print([m for m in {OPTIONAL!r} if m in sys.modules])"
    assert run(code).strip() == "[]"


def test_it_imports_and_trains_without_the_optional_packages() -> None:
    code = f"""
import sys
for name in {OPTIONAL!r}:
    sys.modules[name] = None
import torch, qkan
model = qkan.QKAN([2, 3, 1])
x = torch.rand(32, 2)
history = qkan.fit(model, (x, x.sum(-1, keepdim=True)), steps=2, progress=False)
print(history.train_loss[-1] < history.train_loss[0] or history.train_loss)
"""
    assert run(code).strip() == "True"


def imported_modules(name: str) -> set[str]:
    return set(run(f"import sys, {name}; print(*sys.modules)").split())


def test_the_import_adds_little_to_torchs() -> None:
    extra = imported_modules("qkan") - imported_modules("torch")
    heavy = {"numba", "scipy", "llvmlite", "torch._dynamo", "torch._inductor"}
    assert not {m for m in extra if m in heavy}, "heavy modules belong inside functions"
    assert len({m for m in extra if not m.startswith("qkan")}) < 100


def test_another_distribution_of_that_name_is_an_error(tmp_path: Path) -> None:
    fake = tmp_path / "qkan-0.2.3.dist-info"
    fake.mkdir()
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: qkan\nVersion: 0.2.3\n")
    code = f"import sys; sys.path.append({str(tmp_path)!r}); import qkan"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "pip uninstall qkan" in done.stderr


def test_the_wheel_under_test_is_the_installed_one() -> None:
    if os.environ.get("QKAN_INSTALLED"):
        assert "site" in Path(qkan.__file__).parts
        assert Path(importlib.import_module("qkan.circuits").__file__).parent.parent.name == "qkan"
    else:
        assert Path(qkan.__file__).parent == ROOT / "qkan"
