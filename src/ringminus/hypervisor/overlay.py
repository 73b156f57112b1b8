"""Overlay pages: pages of the hypervisor's that cover guest memory where the guest puts them.

While an overlay is shown, the RAM below it keeps its contents; they are there again when the overlay is
moved or taken away (TLFS, hypercall-interface.md: "Establishing the Hypercall Interface"). A place that is
no RAM is allowed: nobody sees the page there then.
"""

from __future__ import annotations

from typing import Any

from ringminus.memory import PAGE_SIZE, GuestMemory


class Overlay:
    """One page. `gpa` is where it is shown, None while it is not; `view` is its memory while it is shown."""

    def __init__(self, memory: GuestMemory) -> None:
        self._memory = memory
        self._contents = bytes(PAGE_SIZE)
        self._below = b""
        self.gpa: int | None = None
        self.view: memoryview | None = None

    def show(self, gpa: int) -> bool:
        """Cover the page at `gpa`; False when there is no RAM."""
        if gpa == self.gpa:
            return True
        self.hide()
        if not self._memory.is_ram(gpa, PAGE_SIZE):
            return False
        self._below = self._memory.read(gpa, PAGE_SIZE)
        self._memory.write(gpa, self._contents)
        self.gpa = gpa
        self.view = self._memory.view(gpa, PAGE_SIZE)
        return True

    def hide(self) -> None:
        """Give the guest back what was there; the page's own contents are kept."""
        if self.gpa is None:
            return
        self._contents = self._memory.read(self.gpa, PAGE_SIZE)
        self._memory.write(self.gpa, self._below)
        self.gpa, self.view, self._below = None, None, b""

    def fill(self, contents: bytes) -> None:
        """Set the page's first bytes, whether it is shown or not."""
        if self.gpa is not None:
            self._memory.write(self.gpa, contents)
        else:
            self._contents = contents + self._contents[len(contents) :]

    def touched(self, offset: int, length: int) -> None:
        """Tell that bytes were changed through `view`."""
        if self._memory.code_pages is not None and self.gpa is not None:
            self._memory.written(self.gpa + offset, length)

    def save(self) -> dict[str, Any]:
        """State as plain data; what the guest sees now is part of its RAM."""
        return {"gpa": self.gpa, "contents": self._contents, "below": self._below}

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave, with the RAM of that moment already in place."""
        self.gpa, self._contents, self._below = state["gpa"], state["contents"], state["below"]
        self.view = None if self.gpa is None else self._memory.view(self.gpa, PAGE_SIZE)
