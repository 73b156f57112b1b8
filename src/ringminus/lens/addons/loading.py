"""Loading addons: a file's classes, its functions, or its list `addons`; what is wrong is said at once."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from ringminus.errors import ConfigError
from ringminus.lens.addons.hooks import HOOKS, Hook

EXAMPLE = "--addon slow.py,seconds=0.2"
CLOSE = 0.8
"""How near a function's name must be to a hook's to be taken for one that is misspelt."""
_WORDS = dict.fromkeys(("yes", "true", "on", "1"), True) | dict.fromkeys(("no", "false", "off", "0"), False)
_files: set[str] = set()


@dataclass(frozen=True, slots=True)
class Addon:
    """`hooks` are the functions that are there, by hook name, called without `self`."""

    name: str
    file: str
    hooks: dict[str, Callable[..., object]]
    options: dict[str, str]
    tick_seconds: float = 1.0


def load_addons(texts: Iterable[str]) -> list[Addon]:
    """The addons of `FILE[,KEY=VALUE…]` words, in order; raises `ConfigError`."""
    found: list[Addon] = []
    for text in texts:
        found += _Loader(text).load()
    return found


def is_addons(filename: str) -> bool:
    """Whether a file of source was loaded as an addon."""
    return filename in _files


class _Loader:
    def __init__(self, text: str) -> None:
        name, *words = text.replace(",,", "\0").split(",")
        self._text = text
        self._path = Path(name.replace("\0", ","))
        self._options: dict[str, str] = {}
        for word in words:
            key, equals, value = word.replace("\0", ",").partition("=")
            if not equals or not key.isidentifier():
                raise self._error(f"{word!r} is no KEY=VALUE, as in {EXAMPLE}")
            self._options[key] = value
        self._used: set[str] = set()

    def _error(self, problem: str) -> ConfigError:
        return ConfigError(f"--addon {self._text}: {problem}")

    def load(self) -> list[Addon]:
        """All that the file has."""
        module = self._import()
        listed = getattr(module, "addons", None)
        if listed is not None:
            if not isinstance(listed, list | tuple) or not listed:
                raise self._error("its `addons` is no list of addons")
            found = [self._of(one, module) for one in listed]
        else:
            classes = [one for one in _own(module, inspect.isclass) if _hooks_of(one)]
            found = [self._of(one, module) for one in classes]
            functions = dict(_named_functions(module))
            self._check_names(functions, "the file", all_public=False)
            hooks = {name: one for name, one in functions.items() if name in HOOKS}
            if hooks:
                self._check_calls(hooks, "the file")
                seconds = getattr(module, "tick_seconds", 1.0)
                self._used |= self._options.keys()  # functions look for theirs in the context
                found.append(self._made(self._path.stem, hooks, seconds))
            for one in _own(module, inspect.isclass):
                if one not in classes:
                    self._check_names(_methods(one), f"class {one.__name__}", all_public=False)
        if not found:
            raise self._error(
                "it has no addon: a class, or functions, named after hooks (ringminus lens hooks)"
            )
        unknown = sorted(self._options.keys() - self._used)
        if unknown:
            raise self._error(f"nothing there takes the option {unknown[0]}")
        return found

    # ------------------------------------------------------------ the file

    def _import(self) -> ModuleType:
        if not self._path.is_file():
            raise self._error(f"there is no file {self._path}")
        file = self._path.resolve()
        directory = str(file.parent)
        if directory not in sys.path:
            sys.path.append(directory)  # after all others
        name = f"ringminus addon {file}"
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise self._error(f"{self._path} is no Python file")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        _files.add(str(file))
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            if not isinstance(error, Exception):
                raise
            raise self._error(self._what(error, "the file")) from error
        return module

    def _what(self, error: Exception, doing: str) -> str:
        if isinstance(error, SyntaxError) and error.filename is not None:
            return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
        frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename in _files]
        where = f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
        return f"{doing} raised {type(error).__name__}{where}: {error}"

    # ------------------------------------------------------------ one addon

    def _of(self, one: Any, module: ModuleType) -> Addon:
        kind = one if inspect.isclass(one) else type(one)
        self._check_names(_methods(kind), f"class {kind.__name__}", all_public=True)
        instance = self._create(one) if inspect.isclass(one) else one
        hooks = {name: getattr(instance, name) for name in HOOKS if callable(getattr(instance, name, None))}
        if not hooks:
            raise self._error(f"class {kind.__name__} has no hook: see ringminus lens hooks")
        self._check_calls(hooks, f"class {kind.__name__}")
        return self._made(kind.__name__, hooks, getattr(instance, "tick_seconds", 1.0))

    def _made(self, name: str, hooks: dict[str, Callable[..., object]], seconds: object) -> Addon:
        if not isinstance(seconds, int | float) or not 0.001 <= seconds <= 86400:
            raise self._error(f"tick_seconds of {name} is {seconds!r}: 0.001 to 86400 are possible")
        whole = f"{self._path.stem}.{name}" if name != self._path.stem else name
        return Addon(whole, str(self._path.resolve()), hooks, dict(self._options), float(seconds))

    def _create(self, kind: type[Any]) -> Any:
        """An instance, with the options that its `__init__` has parameters for."""
        given: dict[str, Any] = {}
        if kind.__init__ is not object.__init__:
            hints = get_type_hints(kind.__init__)
            for name, parameter in inspect.signature(kind).parameters.items():
                if name in self._options:
                    self._used.add(name)
                    given[name] = self._value(name, hints.get(name), parameter.default)
                elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
                    raise self._error(f"{kind.__name__} needs the option {name}: add ,{name}=VALUE")
        try:
            return kind(**given)
        except Exception as error:
            raise self._error(self._what(error, f"{kind.__name__}()")) from error

    def _value(self, name: str, hint: Any, default: Any) -> Any:
        """The option as its parameter wants it: by its annotation, or as its default is."""
        text = self._options[name]
        kind = hint if hint in (int, float, bool, str) else type(default)
        try:
            if kind is bool:
                return _WORDS[text.lower()]
            if kind is int:
                return int(text, 0)
            if kind is float:
                return float(text)
        except (ValueError, KeyError):
            words = {bool: "yes or no", int: "a whole number", float: "a number"}
            raise self._error(f"{name}={text}: it is {words[kind]}") from None
        return text

    # ------------------------------------------------------------ checks

    def _check_names(self, functions: dict[str, Any], where: str, *, all_public: bool) -> None:
        """A function that looks like a hook and is none is a mistake that nobody would see."""
        for name, function in functions.items():
            if name in HOOKS or name.startswith("_"):
                continue
            near = get_close_matches(name, HOOKS, 1, CLOSE)
            if not all_public and not near and not _takes_events(function):
                continue
            hint = near or get_close_matches(name, HOOKS, 1, 0.5)
            mean = f": did you mean {hint[0]}?" if hint else ""
            helper = "" if near else " (what is no hook begins with an underscore)"
            raise self._error(f"{where} has {name}, which is no hook{mean}{helper}; see ringminus lens hooks")

    def _check_calls(self, hooks: dict[str, Callable[..., object]], where: str) -> None:
        for name, function in hooks.items():
            hook = HOOKS[name]
            try:
                inspect.signature(function).bind(*_arguments(hook))
            except TypeError:
                called = ", ".join(_arguments(hook))
                raise self._error(f"{name} of {where} has to take ({called})") from None


def _arguments(hook: Hook) -> tuple[str, ...]:
    return ("event", "ctx") if hook.event is not None else ("ctx",)


def _own(module: ModuleType, what: Callable[[object], bool]) -> list[Any]:
    """What is defined in the module itself, in its order."""
    return [one for one in vars(module).values() if what(one) and one.__module__ == module.__name__]


def _named_functions(module: ModuleType) -> list[tuple[str, Any]]:
    return [(one.__name__, one) for one in _own(module, inspect.isfunction)]


def _methods(kind: type[Any]) -> dict[str, Any]:
    """Public ones, those of bases too, without properties and the like."""
    return {
        name: one for name, one in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")
    }


def _hooks_of(kind: type[Any]) -> list[str]:
    return [name for name in _methods(kind) if name in HOOKS]


def _takes_events(function: Callable[..., object]) -> bool:
    return {"event", "ctx"} <= inspect.signature(function).parameters.keys()
