"""Running mmdebstrap: what it is told, what we make of its words, and what an interrupt leaves."""

from __future__ import annotations

import os
import shutil
import tarfile
import time
from pathlib import Path

import pytest

from ringminus.errors import ConfigError, HostError
from ringminus.guest.bootstrap import Bootstrap, bootstrapped
from support.debian_archive import pretend


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "bin"


@pytest.fixture
def request_for(tmp_path: Path) -> Bootstrap:
    overlay, settings = tmp_path / "over lay.tar", tmp_path / "apt.conf"
    tarfile.open(overlay, "w").close()
    settings.write_text('Acquire::X "y";\n')
    return Bootstrap(["one", "two"], "Types: deb\n", settings, overlay, "9.9")


def run(request: Bootstrap, steps: list[tuple[str, float]] | None = None) -> list[str]:
    """The names in the archive."""
    told = steps if steps is not None else []
    with (
        bootstrapped(request, lambda step, fraction: told.append((step, fraction))) as archive,
        tarfile.open(fileobj=archive, mode="r|") as tar,
    ):
        return tar.getnames()


def test_it_gets_packages_sources_and_settings(programs: Path, request_for: Bootstrap) -> None:
    pretend(programs)
    assert "./usr/lib/os-release" in run(request_for)
    asked = (programs / "asked").read_text().splitlines()
    assert "--include=one,two" in asked
    assert '--customize-hook=chroot "$1" depmod 9.9' in asked
    assert asked[-2:] == ["-", "-"]
    assert (programs / "sources").read_text() == "Types: deb\n"
    assert (programs / "settings").read_text() == 'Acquire::X "y";\n'


def test_its_words_become_steps(programs: Path, request_for: Bootstrap) -> None:
    pretend(programs)
    steps: list[tuple[str, float]] = []
    run(request_for, steps)
    assert list(dict.fromkeys(step for step, _ in steps)) == [
        "package lists",
        "base: download",
        "base: install",
        "packing and unpacking",
    ]
    assert [fraction for step, fraction in steps if step == "base: download"] == [0.0, 0.5, 1.0, 1.0]
    assert steps[-1] == ("packing and unpacking", 1.0)


def test_a_package_that_apt_does_not_know(programs: Path, request_for: Bootstrap) -> None:
    pretend(programs, "say('E: Unable to locate package two', 'E: setup failed'); sys.exit(1)")
    with pytest.raises(ConfigError, match="apt knows no package two: see --install and --suite"):
        run(request_for)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("E: unable to pick chroot mode automatically", "uidmap .* or be root"),
        ("tar: x: No space left on device", "about 1 GB in /tmp"),
        ("E: the first reason', 'E: setup failed", "mmdebstrap failed: the first reason"),
        ("nothing of use", "mmdebstrap failed: exit status 7"),
    ],
)
def test_a_failure_says_what_to_do(programs: Path, request_for: Bootstrap, said: str, told: str) -> None:
    pretend(programs, f"say('{said}'); sys.exit(7)")
    with pytest.raises(HostError, match=told):
        run(request_for)


def test_an_archive_that_is_cut_short(programs: Path, request_for: Bootstrap) -> None:
    pretend(programs, "sys.stdout.write('x' * 100); sys.exit(0)")
    with pytest.raises(HostError, match="mmdebstrap gave a damaged archive: try again"):
        run(request_for)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("heed", ["", "signal.signal(signal.SIGINT, signal.SIG_IGN)"])
def test_an_interrupt_leaves_no_process_and_no_directory(
    programs: Path, request_for: Bootstrap, monkeypatch: pytest.MonkeyPatch, heed: str
) -> None:
    monkeypatch.setattr("ringminus.guest.bootstrap._GRACE", 0.2)
    behaviour = (
        f"{heed}\npathlib.Path(work, 'file').touch()\nimport subprocess\n"
        "sleep = subprocess.Popen(['sleep', '100'])\n(here / 'pid').write_text(str(sleep.pid))\n"
        "say('I: installing remaining packages...')\nsleep.wait()"
    )
    pretend(programs, behaviour)
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt), bootstrapped(request_for, lambda step, _: steps.append(step)):
        while "packages: download" not in steps:
            time.sleep(0.01)
        assert len(list(programs.glob("mmdebstrap.*"))) == 1
        raise KeyboardInterrupt
    assert not list(programs.glob("mmdebstrap.*"))
    pid = int((programs / "pid").read_text())
    for _ in range(100):
        if not is_alive(pid):
            break
        time.sleep(0.01)
    assert not is_alive(pid)


def test_without_mmdebstrap_its_package_is_named(
    request_for: Bootstrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    with pytest.raises(HostError, match=r"install the Debian package mmdebstrap, or .* --disk FILE"):
        run(request_for)
