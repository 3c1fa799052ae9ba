"""Write files as a whole: a reader finds the old content or the new one, and never a part."""

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
    """Open a draft for writing that replaces the file only once it is complete.

    The draft is in the same folder. It is moved to `path` at the end, and deleted if anything
    raises before.

    Args:
        path: The file.
        draft: The draft; None takes an unused name. With a fixed name, a process that is killed
            again and again leaves one draft rather than many.

    Raises:
        QKANError: `path` is a folder, or its folder does not exist.
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
    """Write a file, in an existing folder, as a whole or not at all.

    Raises:
        QKANError: `path` is a folder, or its folder does not exist.
        OSError: The disk refuses.
    """
    with replacing(path) as file:
        file.write(data)


def draft_of(path: Path) -> Path:
    """Return an unused name in the folder of a file, for a draft that will replace it.

    Raises:
        QKANError: `path` is a folder, or its folder does not exist.
    """
    target = path.resolve()
    if target.is_dir() or not target.parent.is_dir():
        wrong = "is a folder" if target.is_dir() else "is in a folder that does not exist"
        raise QKANError(
            f"{path} cannot be written: it {wrong}. Pass the name of a file in an existing folder."
        )
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
