"""Real guests, recorded and played again: to our device without a guest, and to a guest without our disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from ringminus.memory import MIB
from support.command import RunGuest, kernel_words, run_command

PATTERN = hashlib.shake_128(b"replay").digest(2 * MIB)
WAIT = "n=0; until [ -e /dev/sda ]; do n=$((n+1)); [ $n -lt 100 ] || exit 9; sleep 0.1; done"
READ = f"{WAIT}; dd if=/dev/sda bs=64k 2>/dev/null | md5sum"
WRITE = f"{WAIT}; echo hello | dd of=/dev/sda bs=512 seek=77 conv=sync,fsync 2>/dev/null"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, run_guest: RunGuest) -> Path:
    """A guest reads its whole disk, and writes a sector; the disk is gone then."""
    directory = tmp_path_factory.mktemp("replay")
    disk, capture = directory / "disk.img", directory / "guest.pcapng"
    disk.write_bytes(PATTERN)
    run = run_guest(
        *("--disk", f"{disk},format=raw", "--capture", f"{capture},data"), script=f"{READ}; {WRITE}"
    )
    assert run.status == 0, run
    assert hashlib.md5(PATTERN).hexdigest() in run.output
    disk.unlink()
    return capture


def test_what_a_guest_said_gets_the_same_answers(recording: Path) -> None:
    run = run_command("replay", str(recording), "--side", "guest", "--channel", "scsi", "--json")
    assert run.status == 0, run
    result = json.loads(run.output)
    assert result["same"] and result["differences"] == [] and result["notes"] == []
    assert result["sent"] == result["compared"] > 50


def test_a_guest_reads_a_disk_that_is_only_a_recording(recording: Path, guest_options: list[str]) -> None:
    script = f"{READ}; dmesg | grep -E 'sda|storvsc'"
    run = run_command(
        *("replay", str(recording), "--side", "host", *guest_options),
        *("--append", kernel_words(script, "quiet"), "--console", "stdio", "--timeout", "100"),
    )
    assert run.status == 0, run
    assert hashlib.md5(PATTERN).hexdigest() in run.output
    assert "[sda] 4096 512-byte logical blocks" in run.output
    assert "error" not in run.output
    assert "all the same" in run.errors and "did not come" in run.errors


def test_a_guest_that_does_something_else_is_told_of(recording: Path, guest_options: list[str]) -> None:
    script = f"{WAIT}; echo other | dd of=/dev/sda bs=512 seek=99 conv=sync,fsync 2>/dev/null; {READ}"
    run = run_command(
        *("replay", str(recording), "--side", "host", "--json", *guest_options),
        *("--append", kernel_words(script, "quiet"), "--console", "none", "--timeout", "100"),
    )
    assert run.status == 1, run
    result = json.loads(run.output)
    (difference, *_) = [one for one in result["differences"] if "WRITE_10" in one["message"]]
    lba = next(one for one in difference["changes"] if one["field"] == "scsi.lba")
    assert (lba["recorded"], lba["replayed"]) == ("72", "96")  # their pages
    assert any("what the guest itself has written" in note for note in result["notes"])
