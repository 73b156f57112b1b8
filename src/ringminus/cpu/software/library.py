"""Loads libunicorn so that our replacements of its functions take effect.

The dynamic linker gives libunicorn the first global definition of each exported name. So our extension
module is loaded first, with its symbols global, and then Unicorn's Python package.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from types import ModuleType
from typing import Any

from ringminus.cpu.engine import GuestException
from ringminus.errors import HostError


def _load_native() -> ModuleType:
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_GLOBAL | os.RTLD_NOW)
    try:
        return importlib.import_module("ringminus.cpu.software._native")
    except ImportError as error:
        raise HostError(
            f"the native part of ringminus is not built: run `pip install .` ({error})"
        ) from error
    finally:
        sys.setdlopenflags(flags)


_native = _load_native()

from ringminus.cpu.software import layout  # noqa: E402

# untyped packages, and not to be imported by a plain statement, which a sorter could move up
unicorn: Any = importlib.import_module("unicorn")
x86_const: Any = importlib.import_module("unicorn.x86_const")
uclib: ctypes.CDLL = importlib.import_module("unicorn.unicorn_py3.unicorn").uclib


def address(name: str) -> int:
    """Address of libunicorn's own definition of a function."""
    try:
        value = ctypes.cast(getattr(uclib, name), ctypes.c_void_p).value
    except AttributeError:
        value = None
    if value is None:
        raise HostError(f"libunicorn has no function {name}: is it the wheel of unicorn {layout.VERSION}?")
    return value


layout.check_version(unicorn.__version__)
_native.bind(tuple(address(name) for name in layout.FUNCTIONS), GuestException)
