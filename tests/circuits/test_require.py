"""`require`: what it returns, what it says of an absent package, what of a broken one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from qkan.circuits import require


def test_returns_the_submodule_itself() -> None:
    assert require("math", "plot") is math
    assert require("os.path", "plot").__name__ in ("posixpath", "ntpath")


def test_an_absent_package_names_the_line_that_installs_it() -> None:
    with pytest.raises(ImportError, match=r'pip install "qkan-hybrid\[plot\]"') as caught:
        require("no_such_package.pyplot", "plot")
    assert "needs no_such_package, which is not installed" in str(caught.value)
    assert caught.value.name == "no_such_package"


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        ("import no_such_dependency", ModuleNotFoundError, "'no_such_dependency'"),
        ("raise ImportError('library too old')", ImportError, "library too old"),
        ("1 / 0", ZeroDivisionError, "division"),
    ],
    ids=["dependency", "import error", "other"],
)
def test_a_broken_package_raises_its_own_error(
    source: str,
    error: type[Exception],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "broken_package_of_a_test.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(error, match=text) as caught:
        require("broken_package_of_a_test", "plot")
    assert "pip install" not in str(caught.value)


def test_a_missing_submodule_is_not_a_missing_package() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"json\.no_such_part") as caught:
        require("json.no_such_part", "plot")
    assert "pip install" not in str(caught.value)
