"""The suite for a machine with an NVIDIA GPU: `make test-gpu`. Without one it fails and says so."""

from __future__ import annotations

import importlib.util

import pytest
import torch


def pytest_sessionstart(session: pytest.Session) -> None:
    missing = []
    if torch.version.cuda is None:
        missing.append(f"a torch built with CUDA (this one is {torch.__version__})")
    elif not torch.cuda.is_available():
        missing.append("an NVIDIA GPU that torch can use")
    if importlib.util.find_spec("cupy") is None:
        missing.append("CuPy (the extra cuda, or cuda12)")
    if missing:
        raise pytest.UsageError(f"tests/gpu runs the CUDA engine; missing: {'; '.join(missing)}.")


@pytest.fixture
def cuda() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())
