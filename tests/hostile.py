"""What the tests of hostile services measure, and what they ask of the outcome."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fake_service import FakeService

from qkan.backends import Task
from qkan.circuits import RX, Circuit, Encoding

TURN = Circuit([RX(Encoding(0))])


Z = np.linspace(-0.9, 0.9, 31)


TASK = Task(TURN, np.arccos(Z)[:, None])


JOBS: dict[str, Any] = {"layout": [0, 1, 2], "job_seconds": 2.0 + 0.00035 * 8 * 32 + 1e-9}


def require_paid_once(service: FakeService, found: Any, run: Any, jobs: int = 4) -> None:
    assert np.isfinite(found.z).all() and (np.abs(found.z - Z) < 6 * found.stderr).all()
    assert len(service.jobs_by_id) == len(run.jobs) == jobs
    assert run.seconds == run.committed_seconds == pytest.approx(service.billed)
