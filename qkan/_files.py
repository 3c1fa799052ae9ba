"""Writing a file whole: a reader finds the old content or the new one, and never half of either."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import QKANError


@contextmanager
def replacing(path: Path, draft: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its place only once it is complete.

    The content goes to a draft in the same folder, which is moved to `path` at the end and deleted
    if anything raises before.

    Args:
        path: The file.
        draft: The draft; one of a new name if None. Under a fixed name a process that is killed
            again and again leaves one draft rather than many.

    Raises:
        QKANError: `path` is a folder, or lies in none.
        OSError: The disk refuses.
    """
    draft = draft or draft_of(path)
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path.resolve())
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all, in a folder that exists.

    Raises:
        QKANError: `path` is a folder, or lies in none.
        OSError: The disk refuses.
    """
    with replacing(path) as file:
        file.write(data)


def draft_of(path: Path) -> Path:
    """Return an unused name beside a file, for what will replace it.

    Raises:
        QKANError: `path` is a folder, or lies in none.
    """
    target = path.resolve()
    if target.is_dir() or not target.parent.is_dir():
        wrong = "is a folder" if target.is_dir() else "is in a folder that does not exist"
        raise QKANError(
            f"{path} cannot be written: it {wrong}. Pass the name of a file in an existing folder."
        )
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
