"""What all tests share."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from hypothesis import settings

from support.effort import examples

settings.register_profile("ringminus", max_examples=examples(100))
settings.load_profile("ringminus")
