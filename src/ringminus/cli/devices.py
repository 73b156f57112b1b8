"""`--device module:Class`: synthetic devices that a person wrote."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from uuid import UUID

from ringminus.errors import ConfigError
from ringminus.vmbus.device import Device

EXAMPLE = "--device mydevice:Echo for class Echo in mydevice.py"


def load_device(text: str) -> type[Device]:
    """The class that `module:Class` names; `module` may also be a path that ends in .py. Raises
    `ConfigError`, except that an exception inside the person's module keeps its trace."""
    module_name, separator, class_name = text.rpartition(":")
    if not separator or not module_name or not class_name:
        raise ConfigError(f"--device {text}: write MODULE:CLASS, such as {EXAMPLE}")
    made = getattr(_module(module_name, text), class_name, None)
    if made is None:
        raise ConfigError(f"--device {text}: the module has no {class_name}")
    if not isinstance(made, type) or not issubclass(made, Device):
        raise ConfigError(
            f"--device {text}: {class_name} is no class derived from ringminus.vmbus.device.Device"
        )
    if not isinstance(getattr(made, "interface", None), UUID):
        raise ConfigError(f"--device {text}: {class_name} has no interface GUID: add interface = UUID('...')")
    return made


def _module(name: str, text: str) -> object:
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise ConfigError(f"--device {text}: there is no file {name}")
        sys.path.insert(0, str(path.parent.resolve()))
        name = path.stem
    elif "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0] and error.name != name:
            raise
        raise ConfigError(f"--device {text}: there is no module {name} here or in Python's path") from None
