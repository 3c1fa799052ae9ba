"""What the database of a run says, read past the code that is tested."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def records(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Kind and content of every record, in order."""
    found = [json.loads(row[0]) for row in rows(folder, "SELECT content FROM record")]
    return [(record["kind"], record) for record in found]


def blobs(folder: Path) -> dict[str, bytes]:
    """What is kept by name."""
    return dict(rows(folder, "SELECT name, content FROM blob"))


def rows(folder: Path, query: str, file: str = "run.sqlite") -> list[Any]:
    """The rows of a query."""
    with closing(sqlite3.connect(folder / file)) as connection:
        return connection.execute(query).fetchall()


def change(folder: Path, statement: str, *values: Any) -> None:
    """Change the database as an editor would."""
    with closing(sqlite3.connect(folder / "run.sqlite")) as connection, connection:
        assert connection.execute(statement, values).rowcount
