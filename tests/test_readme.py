"""Every Python example of the README runs, in order, and prints what the README says."""

from __future__ import annotations

from pathlib import Path

import page_code
import pytest
from paths import ROOT

README = ROOT / "README.md"
pytestmark = pytest.mark.checkout


def test_the_examples_run_and_print_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sum(shown is not None for _, shown in page_code.blocks(README)) >= 5
    page_code.run_page(README, "readme")
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.full
@pytest.mark.parametrize("seed", range(8))
def test_the_formula_is_read_back(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _ = page_code.blocks(README)[0]
    assert "torch.manual_seed(0)" in code
    space: dict[str, object] = {"__name__": "readme"}
    exec(compile(code.replace("manual_seed(0)", f"manual_seed({seed})"), "README", "exec"), space)
    assert str(space["formula"].expr) == "exp(y**2 + sin(pi*x))"  # type: ignore[attr-defined]
    assert float(space["error"]) < 1e-3  # type: ignore[arg-type]


def test_it_can_be_read_in_two_minutes() -> None:
    assert len(README.read_text().splitlines()) <= 180


SHOWN = [
    ("error 7.0e-06\n", "error 7.8e-06\n", True),
    ("error 7.0e-05\n", "error 7.8e-06\n", False),
    ("R² 0.93", "R² 0.94", True),
    ("R² 0.43", "R² 0.94", False),
    ("2 blocks, 66,176", "2 blocks, 66,177", False),
    ("exp(x**2)", "exp(x**3)", False),
    ("a b", "a\nb\n", True),
    ("a b", "a c", False),
    ("1.5 and 2", "1.5", False),
]


@pytest.mark.parametrize(("printed", "shown", "same"), SHOWN)
def test_only_rounding_may_differ(printed: str, shown: str, same: bool) -> None:
    if same:
        page_code.assert_shown(printed, shown)
    else:
        with pytest.raises(AssertionError, match="shown on the page"):
            page_code.assert_shown(printed, shown)


def test_a_block_is_found_with_what_it_prints(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nprint(1)\n```\n\n```text\n1\n```\n\nwords\n\n```python\nx = 2\n```\n\n"
        "words\n\n```text\nno output of ours\n```\n"
    )
    assert page_code.blocks(page) == [("print(1)\n", "1\n"), ("x = 2\n", None)]
    assert page_code.run_page(page)["x"] == 2
