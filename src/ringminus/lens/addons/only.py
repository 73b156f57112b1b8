"""`@only("scsi.op == write_10")`: a hook that is called for some of its events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

H = TypeVar("H", bound=Callable[..., Any])
ATTRIBUTE = "__ringminus_only__"


def only(text: str) -> Callable[[H], H]:
    """Call a hook only with events that satisfy a filter, as `ringminus lens show` has them. What is wrong
    in it is told when the addon is loaded."""

    def mark(hook: H) -> H:
        setattr(hook, ATTRIBUTE, text)
        return hook

    return mark


def wanted(hook: Callable[..., Any]) -> str:
    """The filter of a hook, "" without one."""
    found: str = getattr(hook, ATTRIBUTE, "")
    return found
