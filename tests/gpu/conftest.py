"""The suite for a machine with an NVIDIA GPU: `make test-gpu`. Without one it fails and says so.

With `--host-card` it runs on the card that `host_card` hosts, with a stand-in for CuPy. What only a
real card can mean is then skipped by name, with what it needs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest
import torch

NEEDS = "needs a real card"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_card(what): needs what only a real card has")


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.getoption("--host-card"):
        import host_cupy

        host_cupy.install()
        return
    missing = []
    if torch.version.cuda is None:
        missing.append(f"a torch built with CUDA (this one is {torch.__version__})")
    elif not torch.cuda.is_available():
        missing.append("an NVIDIA GPU that torch can use")
    if importlib.util.find_spec("cupy") is None:
        missing.append("CuPy (the extra cuda, or cuda12)")
    if missing:
        raise pytest.UsageError(f"tests/gpu runs the CUDA engine; missing: {'; '.join(missing)}.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--host-card"):
        for item in items:
            marker = item.get_closest_marker("real_card")
            if marker is not None:
                item.add_marker(pytest.mark.skip(f"{NEEDS}: {marker.args[0]}"))


@pytest.fixture
def cuda(request: pytest.FixtureRequest) -> torch.device:
    """The card."""
    if request.config.getoption("--host-card"):
        return torch.device("card", 0)
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture
def smaller(request: pytest.FixtureRequest) -> bool:
    """Whether large problems are made smaller, for a host that runs one thread at a time."""
    options = request.config.option
    return bool(options.host_card and not options.full)


@pytest.fixture
def compiler(request: pytest.FixtureRequest) -> str:
    """What `torch.compile` compiles for the card with."""
    return "aot_eager" if request.config.getoption("--host-card") else "inductor"


@pytest.fixture
def kernels_of(request: pytest.FixtureRequest) -> Callable[[Callable[[], object]], list[str]]:
    """From an action to the names of the kernels that it runs."""
    on_host = request.config.getoption("--host-card")
    return _launched if on_host else _profiled


def _profiled(action: Callable[[], object]) -> list[str]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        action()
        torch.cuda.synchronize()
    return [event.key for event in profile.key_averages()]


def _launched(action: Callable[[], object]) -> list[str]:
    import host_cupy

    with host_cupy.launched() as found:
        action()
    return [launch.kernel for launch in found]
