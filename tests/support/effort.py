"""How much chance tests try: little by default, all that they name with RINGMINUS_LONG_TESTS=1."""

from __future__ import annotations

import os

LONG = bool(os.environ.get("RINGMINUS_LONG_TESTS"))
SHARE, FEWEST = 6, 5


def examples(number: int) -> int:
    """Of `number` examples, how many to try now."""
    return number if LONG else max(number // SHARE, FEWEST)
