"""`--device MODULE:CLASS`: where a person's devices are found, and what is said when something is wrong."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringminus.cli.devices import load_device, load_devices
from ringminus.errors import ConfigError
from ringminus.vmbus.device import Device
from support.command import POWER_OFF, command, write_kernel

ECHO = """
from uuid import UUID
from ringminus.vmbus.device import Device

class Echo(Device):
    interface = UUID("6d9a6f1e-2f0e-4c55-9d43-0f6a3f9b1c02")

    def packet(self, channel, packet):
        channel.complete(packet.transaction_id, bytes(packet.payload))

"""
REQUEST, BUG = 2, 70


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory, and a Python that forgets what was imported from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(*texts: str) -> str:
    with pytest.raises(ConfigError) as raised:
        for make in load_devices(texts):
            make()
    message = str(raised.value)
    assert "\n" not in message
    return message


# ---------------------------------------------------------------- where it is found


def test_a_module_of_the_current_directory(place: Path) -> None:
    (place / "mine.py").write_text(ECHO)
    (make,) = load_devices(["mine:Echo"])
    device = make()
    assert isinstance(device, Device) and type(device).__name__ == "Echo"
    assert make() is not device


def test_a_module_in_a_package(place: Path) -> None:
    (place / "lab").mkdir()
    (place / "lab" / "mine.py").write_text(ECHO)
    assert load_device("lab.mine:Echo").__module__ == "lab.mine"


def test_an_installed_module() -> None:
    with pytest.raises(ConfigError, match="PipeDevice has no interface GUID"):
        load_device("ringminus.vmbus.pipe:PipeDevice")


@pytest.mark.parametrize("name", ["mine.py", "my-device.py", "mine.2.py", "random.py"])
def test_a_file_anywhere_of_any_name(place: Path, name: str) -> None:
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / name).write_text(ECHO)
    assert load_device(f"elsewhere/{name}:Echo").__name__ == "Echo"
    # a file of a standard module's name stands in nobody's way
    assert sys.modules["random"] is random


def test_a_file_finds_its_neighbours(place: Path) -> None:
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "mine.py").write_text("from helper import GUID\n" + ECHO)
    (place / "elsewhere" / "helper.py").write_text("GUID = 1")
    assert load_device(f"{place}/elsewhere/mine.py:Echo")


def test_a_file_is_loaded_once_however_it_is_named(place: Path) -> None:
    (place / "mine.py").write_text(ECHO)
    classes = [load_device(text) for text in ("mine:Echo", "mine.py:Echo", f"{place}/mine.py:Echo")]
    assert len(set(classes)) == 1


def test_files_of_one_name_are_different_files(place: Path) -> None:
    for directory in ("a", "b"):
        (place / directory).mkdir()
        (place / directory / "mine.py").write_text(ECHO)
    assert load_device("a/mine.py:Echo") is not load_device("b/mine.py:Echo")


def test_the_same_class_twice_is_two_devices(place: Path) -> None:
    (place / "mine.py").write_text(ECHO)
    instances = [make().instance for make in load_devices(["mine:Echo"] * 3)]
    assert len(set(instances)) == 3
    assert [make().instance for make in load_devices(["mine:Echo"] * 3)] == instances


def test_an_instance_that_a_device_chose_itself_stays(place: Path) -> None:
    (place / "mine.py").write_text(ECHO + "    def __init__(self):\n        super().__init__(UUID(int=7))\n")
    assert [make().instance.int for make in load_devices(["mine:Echo"] * 2)] == [7, 7]


# ---------------------------------------------------------------- what is wrong with it


@pytest.mark.parametrize("text", ["mine", "mine:", ":Echo", "", ":"])
def test_what_is_not_module_and_class(text: str) -> None:
    assert f"--device {text}: write MODULE:CLASS, such as --device mydevice:Echo" in refusal(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("missing:Echo", "there is no module missing here"),
        ("missing.part:Echo", "there is no module missing here"),
        ("email.missing:Echo", "there is no module email.missing here"),
        ("missing.py:Echo", "there is no file missing.py"),
        ("/:Echo", "/ is neither a module's name nor a file"),
        (".:Echo", ". is neither a module's name nor a file"),
        ("..mine:Echo", "..mine is neither a module's name nor a file"),
        ("a b:Echo", "a b is neither a module's name nor a file"),
        ("mine.py:Echo:x", "mine.py:Echo is neither a module's name nor a file"),
    ],
)
def test_a_module_that_is_not_there(text: str, told: str) -> None:
    assert refusal(text).startswith(f"--device {text}: {told}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mine:Missing", "/mine.py has no Missing"),
        ("mine:UUID", "UUID is no class derived from ringminus.vmbus.device.Device"),
        ("mine:number", "number is no class derived from"),
        ("mine:Nameless", "Nameless has no interface GUID: add interface = UUID('...')"),
        ("mine:Text", "Text has no interface GUID"),
        ("mine:Sized", "Sized() raised TypeError: "),
        ("mine:Broken", "/mine.py, line 17: no disk"),
        ("mine:Hasty", "Hasty.__init__ has to call super().__init__()"),
    ],
)
def test_a_class_that_is_no_device(place: Path, text: str, told: str) -> None:
    (place / "mine.py").write_text(
        ECHO
        + """number = 3
class Nameless(Device): pass
class Text(Device): interface = "6d9a6f1e-2f0e-4c55-9d43-0f6a3f9b1c02"
class Sized(Echo):
    def __init__(self, size): super().__init__()
class Broken(Echo):
    def __init__(self): raise OSError("no disk")
class Hasty(Echo):
    def __init__(self): self.count = 0
"""
    )
    assert told in refusal(text)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("\nclass Echo(:\n", "line 2: SyntaxError: invalid syntax"),
        ("import missing_library", "line 1: No module named 'missing_library'"),
        ("\n\n1 / 0", "line 3: division by zero"),
        ("def f():\n    raise KeyError('x')\nf()", "line 2: 'x'"),
    ],
)
@pytest.mark.parametrize("text", ["mine:Echo", "mine.py:Echo"])
def test_a_module_that_fails_tells_where(place: Path, text: str, source: str, told: str) -> None:
    (place / "mine.py").write_text(source)
    assert f"{place}/mine.py, {told}" in refusal(text)
    # it is not taken for loaded
    (place / "mine.py").write_text(ECHO + "# of another length")
    assert load_device(text)


# ---------------------------------------------------------------- on the command


def run_with(place: Path, source: str) -> tuple[int, str]:
    (place / "mine.py").write_text(source)
    kernel = write_kernel(place, POWER_OFF)
    ended = subprocess.run(
        command("run", "-k", kernel, "--console", "none", "--device", "mine:Echo"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stderr


def test_the_command_has_a_device(place: Path) -> None:
    assert run_with(place, ECHO) == (0, "")


def test_the_command_says_in_one_line_what_is_wrong(place: Path) -> None:
    status, errors = run_with(place, ECHO.replace("interface", "interfaces"))
    assert status == REQUEST
    assert errors == (
        "ringminus: error: --device mine:Echo: Echo has no interface GUID: add interface = UUID('...')\n"
    )


def test_an_offer_that_cannot_be(place: Path) -> None:
    status, errors = run_with(place, ECHO + "    def user_defined(self): return bytes(121)\n")
    assert (status, errors) == (
        REQUEST,
        "ringminus: error: an offer has room for 120 bytes of its own, not 121\n",
    )


def test_an_exception_in_a_device_is_not_blamed_on_ringminus(place: Path) -> None:
    status, errors = run_with(place, ECHO + "    def user_defined(self): return {}['no key']\n")
    assert status == BUG
    assert "Traceback" in errors
    last = errors.splitlines()[-1]
    line = len(ECHO.splitlines()) + 1
    assert last == f"ringminus: error: a device raised an exception: look at {place}/mine.py, line {line}"
