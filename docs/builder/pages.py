"""Write the site's pages as plain Markdown, with their pictures and notebooks, to build/docs/pages.

`python docs/builder/pages.py` does it once. With `--while` and a command, such as that of a server,
it starts the command and writes the pages again whenever a source of them changes, until the
command ends. What builds the site then needs to know nothing of this package.

Nothing of it is committed: every number comes from the JSON of a script, or from the package.
QKAN_TUTORIALS=small runs the tutorials with less, none shows them without running them.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from formulas import font
from guides import ROOMS, ROOT, Tutorial, TutorialError, render, tutorials
from names import canonical
from ranks import table

DOCS = ROOT / "docs"
FARM = ROOT / "build" / "docs" / "qkan"
PAGES = ROOT / "build" / "docs" / "pages"
STORE = ROOT / "build" / "tutorials"
_SHOWN = re.compile(r"^::: (qkan\.[\w.]+)$", re.MULTILINE)
Contents = dict[str, str | bytes]


class SiteError(Exception):
    """A page that cannot be written."""


def write_pages() -> None:
    """Write what changed, and delete what is no longer a page."""
    link_farm()
    contents = generated() | by_hand(rendered())
    for path, content in contents.items():
        data = content.encode() if isinstance(content, str) else content
        file = PAGES / path
        if not file.exists() or file.read_bytes() != data:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    for file in PAGES.rglob("*"):
        if file.is_file() and file.relative_to(PAGES).as_posix() not in contents:
            file.unlink()


def link_farm() -> None:
    """Show the API's reader where the rooms stand in the package, by a link farm."""
    FARM.mkdir(parents=True, exist_ok=True)
    for link in FARM.iterdir():
        if not link.exists():
            link.unlink()
    parts = [*(ROOT / "qkan").iterdir(), *(ROOT / room for room in ROOMS[:3])]
    for part in parts:
        link = FARM / part.name
        if not link.exists() and part.name != "__pycache__":
            link.symlink_to(part)


def rendered() -> list[Tutorial]:
    """The tutorials as they ran."""
    size = os.environ.get("QKAN_TUTORIALS", "full")
    return [render(path, size, STORE) for path in tutorials()]


def by_hand(guides: list[Tutorial]) -> Contents:
    """The tutorials, and the files of docs/ with their lists, tables and names filled in."""
    contents: Contents = {}
    for tutorial in guides:
        contents[f"guides/{tutorial.name}.md"] = tutorial.markdown
        contents[f"guides/{tutorial.name}.ipynb"] = tutorial.notebook
        contents |= {f"guides/{name}": content for name, content in tutorial.pictures.items()}
    sources = {file.relative_to(DOCS).as_posix(): file for file in DOCS.rglob("*")}
    for path, file in sources.items():
        if file.is_dir() or path.startswith("builder/") or path in _GENERATED:
            continue
        contents[path] = (
            _filled(file.read_text(), guides) if path.endswith(".md") else (file.read_bytes())
        )
    return contents


def _filled(markdown: str, guides: list[Tutorial]) -> str:
    """A page with the lists and tables that stand in it as comments, and public names found."""
    if "<!-- tutorials -->" in markdown:
        listed = "\n".join(f"- [{t.title}]({t.name}.md). {t.about}" for t in guides)
        markdown = markdown.replace("<!-- tutorials -->", listed)
    if "<!-- redundancy -->" in markdown:
        markdown = markdown.replace("<!-- redundancy -->", _ranks())
    return _SHOWN.sub(_shown, markdown)


@functools.cache
def generated() -> Contents:
    """What comes from the package and its records, which do not change while a server runs."""
    return {
        "results.md": _said("-c", _RESULTS, room="experiments"),
        "cli.md": _command_line(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text().replace("](docs/", "]("),
        "assets/network.html": _said("-c", _NETWORK),
        "assets/stix-two-math.woff": font(),
    }


_GENERATED = ("results.md", "cli.md", "changelog.md", "contributing.md")
"""Pages that are written even where docs/ has one of the name, which is for readers of the code."""


@functools.cache
def _ranks() -> str:
    return table()


def write_while(command: list[str]) -> int:
    """Write the pages, run a command, and write them again at every change until it ends."""
    write_pages()
    written = _newest()
    with subprocess.Popen(command) as running:
        while running.poll() is None:
            time.sleep(0.5)
            if _newest() > written:
                written = _newest()
                write_pages()
    return running.returncode


def _newest() -> float:
    """When a source of the pages last changed."""
    sources: list[Path] = [*tutorials(), *DOCS.rglob("*.*")]
    return max(source.stat().st_mtime for source in sources)


def main(arguments: list[str]) -> int:
    """Write the pages once, or while a command runs.

    Raises:
        SystemExit: With a message: arguments that are unknown, or a page that cannot be written.
    """
    if arguments and (arguments[0] != "--while" or len(arguments) == 1):
        sys.exit(f"pages.py {' '.join(arguments)}: wanted nothing, or --while and a command.")
    try:
        if arguments:
            return write_while(arguments[1:])
        write_pages()
    except KeyboardInterrupt:
        return 0
    except (SiteError, TutorialError) as error:
        sys.exit(str(error))
    return 0


def _shown(found: re.Match[str]) -> str:
    name = found[1]
    return (
        f"::: {canonical(name)}\n    options:\n"
        f'      heading: "{name}"\n      toc_label: "{name.rpartition(".")[2]}"'
    )


def _command_line() -> str:
    text = _said("-m", "typer", "qkan.cli.app", "utils", "docs", "--name", "qkan")
    # the page has a heading of its own
    return _CLI + text.partition("\n")[2]


def _said(*command: str, room: str = ".") -> str:
    """What a script of the house prints."""
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT / room, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SiteError(f"{' '.join(command)} in {room}:\n{done.stderr}")
    return done.stdout


_NETWORK = """\
import torch, qkan
torch.manual_seed(0)
x = torch.rand(400, 2, dtype=torch.float64) * 2 - 1
y = torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:] ** 2)
model = qkan.QKAN([2, 3, 1], reps=3, input_range=(-1, 1), dtype=torch.float64)
qkan.fit(model, (x, y), steps=30, progress=False)
print(qkan.view(model, x, names=["x", "y"], rows=40).html)
"""
_RESULTS = "import report; print(report.results_page())"
_CLI = """# Command line

This page is for those who work in a terminal. It shows the commands in use and then lists their
options. Install the extras that they need, `pip install ".[cli,plot,qiskit,sklearn,symbolic]"`,
and begin with the demo, which learns a function, finds its formula, draws the network and measures
it on a fake device:

```sh
qkan demo
```

Three commands work on tables. `qkan fit` trains a model and writes it to a file, with its
scaling, its names and its categories; `qkan predict` and `qkan plot` read that file.
[Tables](tables.md) explains them.

```sh
qkan fit houses.csv --target price
qkan predict model.safetensors new.csv
qkan plot model.safetensors houses.csv
```

Five commands work with devices. `qkan estimate` prints what a run would cost, `qkan submit` starts
it, `qkan status` shows its state, `qkan collect` continues it, and `qkan cancel` ends it. A
fake device costs nothing; a real one needs an account and `--budget-seconds`.
[Devices](devices.md) explains them.

```sh
qkan estimate model.safetensors new.csv --backend FakeTorino
qkan submit model.safetensors new.csv --backend FakeTorino
```

`qkan info` prints versions and the engine that runs a layer; add it to a bug report.
`qkan warm-up` compiles the CPU kernels ahead of time. Most commands have `--json` for scripts. The
exit codes are:

| code | meaning |
| --- | --- |
| 0 | The command has done its work. |
| 1 | A device, an account or a package is missing or has refused. |
| 2 | The command was called wrongly, or its input is invalid. |
| 3 | Values are missing. |
| 4 | Jobs wait in the queue. |
| 130 | The command was interrupted. |

The rest of this page is the help of each command, as the terminal prints it.

"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
