"""`Progress`: the one progress bar of the package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from tqdm import tqdm

from qkan.simulators.cpu.notice import hushed, is_wanted


class Progress:
    """A progress bar of steps on standard error, with the latest values beside the rate.

    It is shown in a terminal and in a notebook, but not written to a file or a pipe. If the
    environment variable QKAN_PROGRESS is 0, it is never shown.

    Args:
        total: The total number of steps.
        description: A word before the bar.
        enabled: Whether to show the bar, and lines about kernels that are compiled meanwhile.
        done: The number of steps already taken, which do not count towards the rate.

    Example:
        >>> with Progress(3, "fit", enabled=False) as bar:
        ...     bar.advance(loss=0.5)
    """

    def __init__(self, total: int, description: str, *, enabled: bool, done: int = 0) -> None:
        shown = enabled and is_wanted() and (sys.stderr.isatty() or _in_notebook())
        self._quiet = hushed(not enabled)
        self._bar = tqdm(
            total=total, desc=description, initial=done, unit="step", disable=not shown
        )

    def advance(self, **values: float | None) -> None:
        """Count one step, and show those `values` that are not None beside the bar."""
        if not self._bar.disable:
            known = {name: value for name, value in values.items() if value is not None}
            text = ", ".join(f"{name} {value:.3e}" for name, value in known.items())
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update()

    def close(self) -> None:
        """End the line of the bar."""
        self._bar.close()

    def __enter__(self) -> Progress:
        self._quiet.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._quiet.__exit__(None, None, None)
        self.close()


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, and not one that imports ipykernel."""
    kernel = sys.modules.get("ipykernel.kernelapp")
    return kernel is not None and bool(kernel.IPKernelApp.initialized())


@contextmanager
def progress_bar(
    wanted: bool | Progress, total: int, description: str, done: int = 0
) -> Iterator[Progress]:
    """Yield a new bar, or the given bar of a longer run, which stays open."""
    if isinstance(wanted, Progress):
        yield wanted
    else:
        with Progress(total, description, enabled=wanted, done=done) as bar:
            yield bar
