"""Where the checkout keeps what tests read."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
DATA = TESTS / "data"
EXPERIMENTS = ROOT / "experiments"
