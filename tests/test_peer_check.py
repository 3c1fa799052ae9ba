"""Another distribution with files of the import name `qkan` is named, however it is called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import qkan
from qkan._peer_check import refuse_other_distribution


def install(site: Path, name: str, files: list[str], version: str = "1.2") -> None:
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    for file in files:
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).touch()


def ours(site: Path) -> str:
    install(site, "qkan-hybrid", ["qkan/__init__.py", "qkan/layer.py", "qkan/circuits/__init__.py"])
    return str(site / "qkan")


@pytest.mark.parametrize("name", ["qkan", "qkan-cheb", "some-kan"])
def test_files_beside_ours_are_named_with_their_owner(name: str, tmp_path: Path) -> None:
    folder = ours(tmp_path)
    install(tmp_path, name, ["qkan/__init__.py", "qkan/kan_layer.py"], "0.3")
    with pytest.raises(ImportError, match=rf"'{name}' 0\.3, is .* pip uninstall {name}, then"):
        refuse_other_distribution(folder, [str(tmp_path)])


def test_files_in_another_place_of_the_path_are_named_too(tmp_path: Path) -> None:
    folder = ours(tmp_path / "a")
    install(tmp_path / "b", "pretty-kans", ["qkan/__init__.py"])
    with pytest.raises(ImportError, match="'pretty-kans'"):
        refuse_other_distribution(folder, [str(tmp_path / "a"), str(tmp_path / "b")])


def test_what_is_nobodys_or_ours_is_let_be(tmp_path: Path) -> None:
    folder = ours(tmp_path)
    install(tmp_path, "kan-like", ["kan/__init__.py", "qkan_tools/__init__.py", "qkan.py"])
    (tmp_path / "qkan" / "__pycache__").mkdir()
    refuse_other_distribution(folder, [str(tmp_path), ""])
    (tmp_path / "qkan" / "notes.py").touch()
    refuse_other_distribution(folder, [str(tmp_path)])


def test_the_package_checks_as_it_is_imported(tmp_path: Path) -> None:
    install(tmp_path, "qkan-cheb", ["qkan/__init__.py"])
    code = "import sys; sys.path.append(sys.argv[1]); import qkan"
    parent = str(Path(qkan.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "'qkan-cheb' 1.2" in done.stderr
