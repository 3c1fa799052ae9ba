"""The pages that are generated at the build: tutorials, results, the command line, and the like.

Nothing of it is committed: every number comes from the JSON of a script, or from the package.
QKAN_TUTORIALS=small runs the tutorials with less, none shows them without running them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

from guides import ROOMS, ROOT, Tutorial, TutorialError, render, tutorials
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from names import canonical
from ranks import table

FARM = ROOT / "build" / "docs" / "qkan"
STORE = ROOT / "build" / "tutorials"
_SHOWN = re.compile(r"^::: (qkan\.[\w.]+)$", re.MULTILINE)
_rendered: list[Tutorial] = []


def on_startup(**_: Any) -> None:
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


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the tutorials to the navigation."""
    guides = next(entry["Guides"] for entry in config.nav or () if "Guides" in entry)
    guides += [f"guides/{path.stem}.md" for path in tutorials()]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what is generated."""
    size = os.environ.get("QKAN_TUTORIALS", "full")
    try:
        _rendered[:] = [render(path, size, STORE) for path in tutorials()]
    except TutorialError as error:
        raise PluginError(str(error)) from error
    pages: dict[str, str | bytes] = {
        "results.md": _said("-c", _RESULTS, room="experiments"),
        "cli.md": _command_line(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text().replace("](docs/", "]("),
    }
    for tutorial in _rendered:
        pages[f"guides/{tutorial.name}.md"] = tutorial.markdown
        pages |= {f"guides/{name}": content for name, content in tutorial.pictures.items()}
    for path, content in pages.items():
        old = files.get_file_from_path(path)
        if old is not None:
            files.remove(old)
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Fill the lists and tables that stand as comments, and find where a public name is defined."""
    if "<!-- tutorials -->" in markdown:
        markdown = markdown.replace("<!-- tutorials -->", _list_of_tutorials())
    if "<!-- redundancy -->" in markdown:
        markdown = markdown.replace("<!-- redundancy -->", table())
    return _SHOWN.sub(_shown, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Let a picture be opened by itself, for it is small on a phone."""
    return re.sub(r'(<img [^>]*?src="([^"]+)"[^>]*>)', r'<a href="\2">\1</a>', content)


def _shown(found: re.Match[str]) -> str:
    name = found[1]
    return (
        f"::: {canonical(name)}\n    options:\n"
        f'      heading: "{name}"\n      toc_label: "{name.rpartition(".")[2]}"'
    )


def _list_of_tutorials() -> str:
    return "\n".join(f"- [{t.title}]({t.name}.md). {t.about}" for t in _rendered)


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
        raise PluginError(f"{' '.join(command)} in {room}:\n{done.stderr}")
    return done.stdout


_RESULTS = "import report; print(report.results_page())"
_CLI = """# Command line

Install the extras that the commands need, `pip install ".[cli,plot,qiskit,sklearn,symbolic]"`,
and begin with the demo, which learns a function, finds its formula, draws it and measures it on a
fake device:

```sh
qkan demo
```

Three commands work on tables. `qkan fit` trains a model and writes it to a file, with its
scaling, its names and its categories; `qkan predict` and `qkan plot` read that file. [Tables from
a CSV file to a device](tables.md) goes through them.

```sh
qkan fit houses.csv --target price
qkan predict model.safetensors new.csv
qkan plot model.safetensors houses.csv
```

Five commands work with devices. `qkan estimate` says what a run would cost, `qkan submit` starts
it, `qkan status` looks at it, `qkan collect` goes on where it stopped, `qkan cancel` ends it. A
fake device costs nothing; a real one needs an account and `--budget-seconds`.
[Devices](devices.md) explains them.

```sh
qkan estimate model.safetensors new.csv --backend FakeTorino
qkan submit model.safetensors new.csv --backend FakeTorino
```

`qkan info` prints versions and which engine runs a layer, which helps in a report of a mistake,
and `qkan warm-up` compiles the CPU kernels ahead of time. The exit code of a command is 0 when it
has done its work, 1 when a device, an account or a package refused or is missing, 2 when the
command was called wrongly or its input is not right, 3 when values are missing and 4 when jobs
wait in the queue. Most commands have `--json` for scripts. What follows is the help of each
command, as the terminal prints it.

"""
