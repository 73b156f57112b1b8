"""Events as JSON lines, for a file or the clipboard."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ringminus.errors import HostError


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write a new file; gives how many lines it has. Raises `HostError`, also if there is such a file."""
    count = 0
    try:
        with path.expanduser().open("x", encoding="utf-8") as file:
            for line in lines:
                file.write(line + "\n")
                count += 1
    except FileExistsError:
        raise HostError(f"there is a file {path} already: give another name") from None
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}") from None
    return count
