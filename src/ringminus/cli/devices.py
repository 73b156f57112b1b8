"""`--device module:Class`: synthetic devices that a person wrote."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from uuid import UUID, uuid5

from ringminus.errors import ConfigError
from ringminus.vmbus.device import INSTANCES, Device

EXAMPLE = "--device mydevice:Echo for class Echo in mydevice.py"
Factory = Callable[[], Device]
_files: set[str] = set()  # of the modules that were loaded for devices


def load_devices(texts: Iterable[str]) -> tuple[Factory, ...]:
    """What makes each device that is asked for; the same class twice is two devices. Raises `ConfigError`,
    and so may the makers."""
    factories: list[Factory] = []
    seen: Counter[tuple[UUID, str]] = Counter()
    for text in texts:
        made = load_device(text)
        key = made.interface, made.__qualname__
        seen[key] += 1
        factories.append(_factory(made, text, seen[key]))
    return tuple(factories)


def load_device(text: str) -> type[Device]:
    """The class that `module:Class` names; `module` may also be a path that ends in .py. Raises
    `ConfigError`."""
    module_name, separator, class_name = text.rpartition(":")
    if not separator or not module_name or not class_name:
        raise ConfigError(f"--device {text}: write MODULE:CLASS, such as {EXAMPLE}")
    module = load_module(module_name, text)
    made = getattr(module, class_name, None)
    if made is None:
        raise ConfigError(f"--device {text}: {module.__file__ or module_name} has no {class_name}")
    if not isinstance(made, type) or not issubclass(made, Device):
        raise ConfigError(
            f"--device {text}: {class_name} is no class derived from ringminus.vmbus.device.Device"
        )
    if not isinstance(getattr(made, "interface", None), UUID):
        raise ConfigError(f"--device {text}: {class_name} has no interface GUID: add interface = UUID('...')")
    return made


def place_of(error: BaseException) -> str | None:
    """Where in a person's device an exception has passed, for who has to look there; None if nowhere."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in _files]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else None


def _factory(made: type[Device], text: str, number: int) -> Factory:
    """Makes device `number` of that class."""

    def make() -> Device:
        try:
            device = made()
        except Exception as error:
            raise ConfigError(f"--device {text}: {_what(error, made.__name__ + '()')}") from error
        if not hasattr(device, "instance"):
            raise ConfigError(f"--device {text}: {made.__name__}.__init__ has to call super().__init__()")
        if number > 1 and device.instance == uuid5(INSTANCES, made.__qualname__):
            device.instance = uuid5(INSTANCES, f"{made.__qualname__} {number}")
        return device

    return make


def load_module(name: str, text: str) -> ModuleType:
    """The module of that name, or of that file in .py, for `--device text`. Raises `ConfigError`."""
    path = Path(name)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise ConfigError(f"--device {text}: there is no file {name}")
    if not is_file and not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"--device {text}: {name} is neither a module's name nor a file that ends in .py")
    try:
        module = _from_file(path) if is_file else _from_path(name)
    except ModuleNotFoundError as error:
        if is_file or error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(f"--device {text}: {_what(error, name)}") from error
        raise ConfigError(
            f"--device {text}: there is no module {error.name} here or in Python's path"
        ) from None
    except Exception as error:
        raise ConfigError(f"--device {text}: {_what(error, name)}") from error
    if module.__file__ is not None:
        _files.add(module.__file__)
    return module


def _search(directory: Path) -> None:
    """Let modules be found there, after all others: a person's random.py is not to be everybody's."""
    if str(directory) not in sys.path:
        sys.path.append(str(directory))


def _from_path(name: str) -> ModuleType:
    _search(Path.cwd())
    return importlib.import_module(name)


def _from_file(path: Path) -> ModuleType:
    file = path.resolve()
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(file):
            return module
    _search(file.parent)
    found = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
    name = path.stem if found is not None and found.origin == str(file) else str(file)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _what(error: Exception, doing: str) -> str:
    """What went wrong in a person's code, and where, in one line."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    where = "" if frames[-1].filename == __file__ else f" in {frames[-1].filename}, line {frames[-1].lineno}"
    return f"{doing} raised {type(error).__name__}{where}: {error}"
