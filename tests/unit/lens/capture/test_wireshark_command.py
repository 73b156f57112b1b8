"""`ringminus lens wireshark`: the script comes, stays up to date, and goes; what is somebody else's stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ringminus.cli.lens import lens
from ringminus.errors import ConfigError, HostError
from ringminus.lens.capture.wireshark import SCRIPT


def wireshark(*words: str | Path) -> Result:
    return CliRunner().invoke(lens, ["wireshark", *map(str, words)], catch_exceptions=False)


def test_it_is_installed_brought_up_to_date_and_deleted(tmp_path: Path) -> None:
    directory = ("--directory", tmp_path / "new" / "plugins")
    script = tmp_path / "new" / "plugins" / SCRIPT
    assert "not installed" in wireshark("path", *directory).output
    assert f"{script} is new (ringminus " in wireshark("install", *directory).output
    assert script.read_text() == wireshark("show").output
    assert "is up to date (" in wireshark("install", *directory).output
    assert wireshark("path", *directory).output == f"{script}\n"
    script.write_text(script.read_text() + "-- older\n")
    assert "of another version (ringminus " in wireshark("path", *directory).output
    assert "is up to date now" in wireshark("install", *directory).output
    assert list(script.parent.iterdir()) == [script]
    assert "is deleted" in wireshark("uninstall", *directory).output
    assert not script.exists()
    assert "there is no" in wireshark("uninstall", *directory).output


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    other = tmp_path / SCRIPT
    other.write_text("-- somebody's own\n")
    for word in ("install", "uninstall"):
        with pytest.raises(ConfigError, match="not of ringminus"):
            wireshark(word, "--directory", tmp_path)
    assert other.read_text() == "-- somebody's own\n"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="Not a directory"):
        wireshark("install", "--directory", tmp_path / "file" / "plugins")


def test_wireshark_says_where_its_plugins_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tshark"
    program.write_text(
        "#!/bin/sh\necho 'Personal Plugins:\t/no'\necho 'Personal Lua Plugins:\t/home/me/lua'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert wireshark("path").output.startswith(f"/home/me/lua/{SCRIPT}\n")
    program.write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setenv("HOME", "/home/me")
    assert wireshark("path").output.startswith(f"/home/me/.local/lib/wireshark/plugins/{SCRIPT}\n")
    monkeypatch.delenv("HOME")
    with pytest.raises(ConfigError, match="say --directory"):
        wireshark("path")


@pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark here: apt-get install tshark")
def test_tshark_finds_it_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert "is new" in wireshark("install").output
    listed = subprocess.run(["tshark", "-G", "protocols"], capture_output=True, text=True, check=True)
    assert "\tringminus.vmbus" in listed.stdout
