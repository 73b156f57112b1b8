"""Where named switches are: whose directory that is, and who holds a switch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ringminus import places as module
from ringminus.errors import ConfigError, HostError
from ringminus.places import LONGEST_SOCKET_PATH
from ringminus.switch.places import directory, place_of, places


def test_the_directory_is_made_for_this_user_alone(runtime: Path) -> None:
    path = directory()
    assert path == runtime / "ringminus"
    assert path.stat().st_mode & 0o777 == 0o700
    assert directory() == path


def test_a_directory_that_others_may_look_into_is_refused(runtime: Path) -> None:
    directory().chmod(0o755)
    with pytest.raises(HostError, match=f"run chmod 700 {runtime}/ringminus"):
        directory()


def test_a_link_in_its_place_is_refused(runtime: Path) -> None:
    (runtime / "elsewhere").mkdir(mode=0o700)
    (runtime / "ringminus").symlink_to("elsewhere")
    with pytest.raises(HostError, match="not a directory of your own"):
        directory()


def test_a_directory_of_somebody_else_is_refused(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = directory()
    monkeypatch.setattr(module, "_candidates", lambda: [path])
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(HostError, match="set XDG_RUNTIME_DIR to one that is"):
        directory()


def test_a_runtime_directory_that_is_not_ours_is_passed_over(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after su, which leaves XDG_RUNTIME_DIR as it was."""
    for told in ("", "relative/path", str(runtime / "missing")):
        monkeypatch.setenv("XDG_RUNTIME_DIR", told)
        assert module._candidates()[-1] == Path(f"/tmp/ringminus-{os.geteuid()}")
        assert runtime / "ringminus" not in module._candidates()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert module._candidates()[0] == runtime / "ringminus"
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert module._candidates() == [Path(f"/tmp/ringminus-{user + 1}")]


@pytest.mark.parametrize("name", ["lab", "a", "0", "A.b-c_d", "x" * 32])
def test_names(runtime: Path, name: str) -> None:
    assert place_of(name).socket == runtime / "ringminus" / f"{name}.socket"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../lab", "a/b", "-x", ".x", "x" * 33, "a b", "ä", "a\n", "a\0"]
)
def test_names_that_are_none(runtime: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a switch"):
        place_of(name)


def test_a_path_that_is_too_long_for_a_socket(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = runtime / ("x" * LONGEST_SOCKET_PATH)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(HostError, match="set XDG_RUNTIME_DIR to a shorter one"):
        place_of("lab")


HOLD = """
import sys
from pathlib import Path
from ringminus.switch.places import Place
print(Place("lab", Path(sys.argv[1])).take_lock() is not None, flush=True)
sys.stdin.read()
"""


def test_one_process_holds_a_switch(runtime: Path) -> None:
    place = place_of("lab")
    assert not place.is_alive()
    command = [sys.executable, "-c", HOLD, os.fspath(place.directory)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    assert place.is_alive()
    assert places() == [place]
    assert place.take_lock() is None
    assert not place.forget()
    holder.kill()
    holder.communicate()
    assert not place.is_alive()
    assert places() == []
    lock = place.take_lock()
    assert lock is not None
    os.close(lock)


def test_a_lock_file_that_was_deleted_is_nobodys(runtime: Path) -> None:
    """Its owner deletes it before it ends: who opened it before must not take it for the lock."""
    place = place_of("lab")
    first = place.take_lock()
    assert first is not None
    place.lock.unlink()
    second = place.take_lock()
    assert second is not None
    assert os.fstat(first).st_ino != os.fstat(second).st_ino
    assert os.path.samestat(os.fstat(second), place.lock.stat())
    os.close(first)
    os.close(second)


def test_what_a_killed_process_left_is_forgotten(runtime: Path) -> None:
    place = place_of("lab")
    for path in (place.socket, place.lock, place.log, place.state):
        path.touch()
    assert places() == [place]  # it was created, and comes back
    assert place.forget()
    assert list(place.directory.iterdir()) == []


def test_other_files_are_no_switches(runtime: Path) -> None:
    for name in (".lock", "-x.lock", "lab.part", "lab.log", "readme"):
        (directory() / name).touch()
    assert places() == []
