"""Breakpoints in a real guest: where it stands, by its own kernel's names, and that its time stands still."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import ringminus.cli.protocols  # noqa: F401
from ringminus.lens.breakpoints.prompt import Prompt
from ringminus.lens.breakpoints.symbols import Symbols
from ringminus.machine.config import DiskConfig
from ringminus.machine.reach import MachineReach
from ringminus.tap import Tap
from support.command import RunGuest
from support.live_guest import LiveGuest, RunLive

MIB = 1 << 20
NAMES = ("vmbus_set_event", "hv_ringbuffer_write", "blk_mq_dispatch_rq_list")
"""Of functions that call each other, innermost first. Modules that are loaded later than hv_vmbus may lie
elsewhere in another boot."""
READ = "dd if=/dev/sda of=/dev/null bs=4k count=1 iflag=direct skip=100"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk of 64 MiB with nothing on it."""
    path = tmp_path / "disk.raw"
    path.touch()
    os.truncate(path, 64 * MIB)
    return path


def test_the_guests_stack_at_a_disk_request(run_guest: RunGuest, disk: Path, tmp_path: Path) -> None:
    """From the hypercall page up through storvsc to the block layer, by the names of /proc/kallsyms."""
    # by the disk: some megabytes take long on a serial port
    run_guest("--disk", str(disk), words="quiet", script="dd if=/proc/kallsyms of=/dev/sda bs=64k conv=fsync")
    kallsyms = tmp_path / "kallsyms"
    kallsyms.write_bytes(disk.read_bytes().rstrip(b"\0"))
    assert kallsyms.stat().st_size > MIB
    run = run_guest(
        *("--disk", str(disk), "--break", "scsi.op == read_10 and scsi.lba == 800"),
        *("--symbols", str(kallsyms)),
        words="quiet",
        script=f"{READ}; echo read",
        commands="stack\nmemory vmbus_set_event 16\nnext vstor.message == complete_io\nshow\ncontinue\n",
    )
    assert run.status == 0 and re.search(r"^read\r?$", run.output, re.M)
    assert re.search(r"^breakpoint 1, event \d+: .*scsi READ_10 lba 800, transfer_length 8", run.output, re.M)
    order = [run.output.find(f" {name}+0x") for name in NAMES]
    assert all(place > 0 for place in order) and order == sorted(order), run.output
    assert re.search(r"^event \d+: .*vstor COMPLETE_IO", run.output, re.M)
    assert re.search(r"^ +srb_status +1 SUCCESS", run.output, re.M)


class Sleeper:
    """A person who thinks for two seconds at the prompt."""

    colored = False

    def __init__(self) -> None:
        self.stops = 0
        self.stands: list[tuple[int, int]] = []
        self.reach: MachineReach | None = None

    def open(self, complete: Callable[[str], Sequence[str]]) -> None:
        self.stops += 1

    def close(self) -> None: ...

    def say(self, text: str) -> None: ...

    def ask(self) -> str:
        assert self.reach is not None
        before = self.reach.now()
        time.sleep(2.0)
        self.stands.append((before, self.reach.now()))
        return "continue"


def test_the_guests_clock_stands_still(live_guest: RunLive, disk: Path) -> None:
    """A read at which the guest stood for two seconds took it no second, by its own clock."""
    tap, person = Tap(), Sleeper()
    prompt = Prompt(tap, person, Symbols())

    async def scenario(guest: LiveGuest) -> None:
        person.reach = prompt.reach = MachineReach(guest.worker, "test")
        spent = "set -- $(cat /sys/block/sda/stat); echo $4"
        before = int(await guest.run(spent))
        prompt.points.add("scsi.op == read_10 and scsi.lba == 800")
        began = time.monotonic()
        await guest.run(READ)
        real = time.monotonic() - began
        took = int(await guest.run(spent)) - before
        assert person.stops == 1 and real > 2.0
        assert took < 1000
        (stood,) = person.stands
        assert stood[0] == stood[1]

    live_guest(scenario, disks=[DiskConfig(disk)], tap=tap)
