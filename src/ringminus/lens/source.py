"""Where events come from: a file, or a guest that runs."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from ringminus.tap import Event


@runtime_checkable
class Source(Protocol):
    """Events in their order, from `iter` to the end of the file or of the guest, or to `close`.

    Iterating waits for what is to come: somebody with other things to do iterates in a thread of his own.
    `close` may be called from any thread and ends the iteration; it may be called twice.
    """

    @property
    def partition(self) -> str:
        """The guest's name."""

    @property
    def lost(self) -> int:
        """Events that did not get here, so far: a watcher was too slow, or a file is damaged."""

    def __iter__(self) -> Iterator[Event]: ...

    def close(self) -> None:
        """End it, and give back its file or socket."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
