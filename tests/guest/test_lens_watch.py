"""A guest that runs is watched from other processes: what they print is what the guest did, and a watcher who
does not read costs it nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command import command, kernel_words, run_command
from support.links import own_runtime_directory

PATIENCE = 90
WRITES = 40
SCRIPT = f"""
stty -echo
for round in 1 2 3; do
    echo "round $round"
    read go
    dd if=/dev/zero of=/dev/sda bs=4k count={WRITES} seek=8 oflag=direct 2>/dev/null
    echo "written"
done
"""


@pytest.fixture
def runtime() -> Iterator[Path]:
    with own_runtime_directory() as directory:
        yield directory


class Box:
    """The command `ringminus run` with a disk, whose guest writes to it when it is told to."""

    def __init__(self, options: list[str], disk: Path) -> None:
        words = kernel_words(SCRIPT, "quiet")
        fixed = [
            "run",
            *options,
            "--console",
            "stdio",
            "--append",
            words,
            "--disk",
            str(disk),
            "--timeout",
            "120",
        ]
        self.process = subprocess.Popen(
            command(*fixed), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def expect(self, text: str) -> str:
        """The next line of the console with that text in it."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if text in line:
                return line
        assert self.process.stderr is not None
        raise AssertionError(f"the guest ended before it said {text!r}: {self.process.stderr.read()}")

    def go(self) -> None:
        """Let the guest do one round."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def box(guest_options: list[str], tmp_path: Path, runtime: Path) -> Iterator[Box]:
    disk = tmp_path / "scratch.raw"
    disk.write_bytes(bytes(4 << 20))
    made = Box(guest_options, disk)
    yield made
    made.end()


def lens(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("lens", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def watched(name: str, count: int) -> None:
    """Wait until so many watch."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        (found,) = json.loads(run_command("lens", "list", "--json").output)
        if found["name"] == name and found["watchers"] > count:  # and we who ask
            return
        time.sleep(0.1)
    raise AssertionError(f"nobody watches {name}")


def test_watchers_see_what_the_guest_does_and_how_it_ended(box: Box) -> None:
    box.expect("round 1")
    (described,) = json.loads(run_command("lens", "list", "--json").output)
    assert described["name"] == "scratch"  # of its disk
    assert described["pid"] == box.process.pid
    assert [one["device"] for one in described["channels"] if one["open"]] == ["SCSI"]
    refused = run_command("run", "--kernel", "/dev/null", "--name", "scratch")
    assert refused.status == 2
    assert "there is a guest scratch already" in refused.errors

    writes = lens("watch", "scratch", "scsi.op == write_10", "--json")
    signals = lens("watch", "scratch", 'hypercall.code == signal_event and vmbus.channel.device == "storvsc"')
    stopped = lens("watch", "scratch")
    watched("scratch", 3)
    stopped.send_signal(signal.SIGSTOP)
    for number in (1, 2, 3):
        box.go()
        box.expect("written")
        if number < 3:
            box.expect(f"round {number + 1}")
    box.process.wait(PATIENCE)
    stopped.send_signal(signal.SIGCONT)

    printed, said = writes.communicate(timeout=PATIENCE)
    found = [json.loads(line) for line in printed.splitlines()]
    lbas = [
        message["fields"]["lba"]
        for one in found
        for message in one["messages"]
        if message["protocol"] == "scsi"
    ]
    assert lbas == 3 * [8 * (8 + number) for number in range(WRITES)]
    assert {one["partition"] for one in found} == {"scratch"}
    assert said == "ringminus: the guest powered off\n"
    assert writes.returncode == 0

    printed, said = signals.communicate(timeout=PATIENCE)
    assert printed.count("HvCallSignalEvent") >= 3
    assert "SCSI" in printed
    stopped.communicate(timeout=PATIENCE)
    assert json.loads(run_command("lens", "list", "--json").output) == []


def test_a_request_is_a_tree_and_its_time_a_figure(box: Box) -> None:
    box.expect("round 1")
    tree = lens("tree", "scratch", "scsi.op == write_10", "--count", "1", "--json")
    stats = lens("stats", "scratch", "--json")
    watched("scratch", 2)
    for _ in range(3):
        box.go()
        box.expect("written")
    box.process.wait(PATIENCE)

    printed, _ = tree.communicate(timeout=PATIENCE)
    node, names, times = json.loads(printed), [], []
    while node:
        names.append(node["event"])
        times.append(node["time"])
        node = next(iter(node.get("caused", ())), None)
    assert names == ["exit", "hypercall", "packet", "packet", "signal", "interrupt"]
    assert times == sorted(times)

    printed, _ = stats.communicate(timeout=PATIENCE)
    found = json.loads(printed)
    assert found["lost"] == 0
    (writes,) = [one for one in found["requests"] if one["request"] == "WRITE_10"]
    assert writes["count"] == 3 * WRITES
    assert 0 < writes["p50"] <= writes["p99"] <= writes["most"] < 10
    (scsi,) = [one for one in found["channels"] if one["device"] == "SCSI"]
    assert scsi["to_host"]["packets"] >= 3 * WRITES
    assert scsi["to_host"]["signals"] <= scsi["to_host"]["packets"]
    assert found["hypercalls"]["HvCallSignalEvent"] >= scsi["to_host"]["signals"]
