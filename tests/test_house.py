"""The house keeps its rules: packages, imports, examples, and what an import costs."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import house
import pytest
import size
from house import FOLDERS
from paths import ROOT

import qkan
from qkan._old_paths import OLD_PATHS


def run(code: str, cwd: Path | None = None) -> str:
    """Run Python code in a process of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def python_folders(folder: str) -> set[str]:
    """The packages in a folder of the checkout, by the names under which they install."""
    base = ROOT / folder
    prefix = "qkan" if folder == "qkan" else f"qkan.{folder}"
    found = {base, *(file.parent for file in base.rglob("__init__.py"))}
    return {".".join([prefix, *path.relative_to(base).parts]) for path in found}


@pytest.mark.checkout
def test_the_package_list_is_complete() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        listed = tomllib.load(file)["tool"]["setuptools"]["packages"]
    assert set(listed) == set().union(*map(python_folders, FOLDERS))


@pytest.mark.checkout
def test_imports_run_downwards() -> None:
    wrong = house.against_the_direction()
    assert not wrong, "A room may import from lower floors only:\n" + "\n".join(map(str, wrong))


@pytest.mark.checkout
def test_no_files_import_each_other_in_a_circle() -> None:
    circles = ["\n  and ".join(map(str, circle)) for circle in house.circles()]
    assert not circles, "Files import each other in a circle:\n" + "\n".join(circles)


@pytest.mark.checkout
def test_the_package_is_imported_by_its_installed_name() -> None:
    for path in house.files().values():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                assert name.partition(".")[0] not in FOLDERS[:3], f"{path} imports {name}"


def test_every_kind_of_import_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {
        "circuits/gates": "def f():\n    from .circuit import Circuit",
        "circuits/circuit": "if TYPE_CHECKING:\n    from . import gates",
        "qkan/nn/layer": "import qkan.surgery.fold\nfrom qkan.circuits.gates import H",
        "qkan/surgery/fold": "import_module('qkan.cli.app')\nfrom ..nn import layer",
        "qkan/cli/app": "from qkan import errors",
        "qkan/errors": "",
    }
    paths = {}
    for name, text in sources.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        paths["qkan." + name.removeprefix("qkan/").replace("/", ".")] = path
    monkeypatch.setattr(house, "ROOT", tmp_path)
    monkeypatch.setattr(house, "files", lambda: paths)
    monkeypatch.setattr(house, "imports", house.imports.__wrapped__)
    assert sorted(map(str, house.against_the_direction())) == [
        "qkan/nn/layer.py, line 1 (room: nn), imports qkan/surgery/fold.py (room: surgery)",
        "qkan/surgery/fold.py, line 1 (room: surgery), imports qkan/cli/app.py (room: cli)",
    ]
    rooms = [{house.room(step.importer) for step in circle} for circle in house.circles()]
    assert sorted(map(sorted, rooms)) == [["circuits"], ["nn", "surgery"]]


@pytest.mark.checkout
@pytest.mark.parametrize(
    "package", [name for name, path in house.files().items() if path.name == "__init__.py"]
)
def test_a_room_says_in_one_sentence_what_it_is_for(package: str) -> None:
    text = ast.get_docstring(ast.parse(house.files()[package].read_text())) or ""
    sentence = text.partition("\n\n")[0]
    assert sentence.endswith(".") and ". " not in sentence, f"{house.shown(package)}: {sentence!r}"


@pytest.mark.checkout
def test_old_names_of_modules_lead_to_modules_of_today() -> None:
    lost = {old: new for old, new in OLD_PATHS.items() if new not in house.files()}
    assert not lost, f"qkan/_old_paths.py names modules that do not exist: {lost}"


PATH = re.compile(
    r"(?<![\w./-])(?:qkan|circuits|simulators|backends|tests|experiments|benchmarks|docs|tutorials)"
    r"/[\w./-]*\w\.(?:py|cuh?|md)\b"
)
"""A file of the checkout as prose names it."""
PLACEHOLDERS = {"tutorials/N_name.py", "tutorials/NAME.py"}


@pytest.mark.checkout
def test_every_file_that_is_named_is_there() -> None:
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml")]
    pages += house.files().values()
    for folder in ("docs", "tutorials", "experiments", "benchmarks"):
        pages += (ROOT / folder).rglob("*.[mp][dy]")
    named = {(name, page) for page in pages for name in PATH.findall(page.read_text())}
    lost = {name: str(page) for name, page in named if not (ROOT / name).exists()}
    assert len(named) > 50 and not {*lost} - PLACEHOLDERS, lost


@pytest.mark.checkout
def test_the_core_stays_small() -> None:
    found = size.core(size.sizes())
    assert found <= size.MOST_CORE, f"the core has {found:,} lines of code proper: tests/size.py"


def test_code_proper_is_neither_blank_nor_comment_nor_docstring() -> None:
    text = """
'A docstring.'

# a comment
x = [
    1,  # one
]
def f():
    Q A docstring,

    of three lines. Q
    return 'a'
"""
    assert size.code_proper(text.replace("Q", '"' * 3)) == 5


@pytest.mark.checkout
def test_circuits_know_no_torch() -> None:
    for path in (ROOT / "circuits").rglob("*.py"):
        assert "import torch" not in path.read_text(), path


@pytest.mark.checkout
def test_no_ansatz_is_compared_by_name_outside_its_file() -> None:
    names = {"pz", "rpz", "px", "mix", "real"}
    for path in house.files().values():
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
    rooms = [importlib.import_module(f"qkan.{room}") for room in FOLDERS[:3]]
    inner = [
        m.name for room in rooms for m in pkgutil.walk_packages(room.__path__, room.__name__ + ".")
    ]
    return sorted({"qkan", *modules(), *inner})


@pytest.mark.parametrize("name", all_modules())
def test_every_example_in_a_docstring_is_true(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # what an example registers is gone with its names
    builders = importlib.import_module("qkan.circuits.ansatz")
    monkeypatch.setattr(builders, "_builders", {**builders._builders})
    result = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert result.failed == 0


AMBIGUOUS = (
    "fused", "fold", "form", "stage", "run", "task", "basis", "twin", "source", "table",
)  # fmt: skip
"""Words that meant two things or more before the glossary gave each its one meaning."""


def glossary() -> str:
    return (ROOT / "docs" / "glossary.md").read_text()


def ruled_out() -> dict[str, str]:
    """The words that the glossary's last table rules out, and what is said instead."""
    table = glossary().partition("## Words that we do not use")[2]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| `")]
    return {word: then.strip() for words, then in rows for word in re.findall("`(.+?)`", words)}


def words_in(name: str) -> set[str]:
    """The words of a name: `FoldedLayer` and `in_features` have two each."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}


def public_names() -> set[str]:
    """What the four packages export, with its parameters, methods and attributes."""
    found = set()
    for package in (qkan, *(importlib.import_module(f"qkan.{room}") for room in FOLDERS[:3])):
        for name in (name for name in dir(package) if not name.startswith("_")):
            thing = getattr(package, name)
            if callable(thing) and thing.__module__.startswith("qkan"):
                found.add(name)
                found.update(part for part in vars(thing) if not part.startswith("_"))
                call = thing.__init__ if isinstance(thing, type) else thing
                if inspect.isfunction(call):
                    found.update(inspect.signature(call).parameters)
    return found


@pytest.mark.checkout
def test_no_public_name_uses_a_word_that_the_glossary_rules_out() -> None:
    instead, names = ruled_out(), public_names()
    assert len(instead) > 10 and {"QKAN", "in_features", "forward", "lower"} <= names
    wrong = {name: instead[word] for name in names for word in {name, *words_in(name)} & {*instead}}
    assert not wrong, f"public names with a word ruled out, and what to say instead: {wrong}"


@pytest.mark.checkout
def test_the_glossary_gives_every_word_one_meaning() -> None:
    entries = re.findall(r"^(\S.*)\n:   ", glossary(), re.MULTILINE)
    words = [word.strip().lower() for entry in entries for word in entry.split(",")]
    assert len(words) == len(set(words)) and {*AMBIGUOUS} <= {*words}
    assert entries == sorted(entries, key=str.lower)
    assert not {*words} & {*ruled_out()}


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
