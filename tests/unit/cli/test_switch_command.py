"""`ringminus switch`: what it prints, what it changes, its exit statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringminus.cli.main import main
from ringminus.cli.switch import PORT_WORDS
from ringminus.switch.link.changes import changed
from ringminus.switch.pcap_wire import RECORD, PcapHeader
from ringminus.switch.places import directory, place_of
from ringminus.switch.port import PortSettings
from support.command import Run, command
from support.endpoints import frame, mac
from support.links import LinkBed, facts_of, kill, own_runtime_directory, process_of, until

Switch = Callable[..., Run]


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Switch:
    def run(*arguments: str | Path) -> Run:
        monkeypatch.setattr(sys, "argv", ["ringminus", "switch", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        code = ended.value.code
        return Run(code if isinstance(code, int) else 0, said.out, said.err)

    return run


@pytest.fixture
def worker() -> Iterator[LinkBed]:
    with own_runtime_directory():
        made = LinkBed()
        yield made
        made.close()


def test_without_any_switch(worker: LinkBed, switch: Switch) -> None:
    run = switch("list")
    assert (run.status, run.output) == (0, "")
    assert run.errors == "there is no switch: --nic switch:NAME of a guest makes one\n"
    assert json.loads(switch("list", "--json").output) == []
    for arguments in (
        ("show", "lab"),
        ("capture", "lab"),
        ("delete", "lab"),
        ("port", "lab", "1"),
        ("plug", "lab", "--nat"),
        ("unplug", "lab", "1"),
    ):
        run = switch(*arguments)
        assert (run.status, run.output) == (2, "")
        assert run.errors == (
            "ringminus: error: there is no switch lab: ringminus switch list names those that are there, "
            "and ringminus switch create lab makes it\n"
        )
    assert list(directory().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("show", "../lab"), "'../lab' cannot name a switch"),
        (("create", ""), "'' cannot name a switch"),
        (("create",), "missing argument 'NAME' (see ringminus switch create --help)"),
        (("create", "--nat"), "missing argument 'NAME'"),
        (("plug", "lab"), "say what to plug in: --nat, or --tap NAME"),
        (("capture", "lab", "--count", "0"), "0 is not in the range"),
        (("capture", "lab", "--seconds", "-1"), "is not in the range"),
        (("bake",), "no such command 'bake' (see ringminus switch --help)"),
    ],
)
def test_wrong_requests(worker: LinkBed, switch: Switch, arguments: tuple[str, ...], reason: str) -> None:
    run = switch(*arguments)
    assert (run.status, run.output, len(run.errors.splitlines())) == (2, "", 1)
    assert reason in run.errors


def test_a_life(worker: LinkBed, switch: Switch) -> None:
    """Created, used, looked at, changed, deleted."""
    run = switch("create", "lab")
    assert (run.status, run.output) == (0, "lab: created; plug guests in with --nic switch:lab\n")
    run = switch("create", "lab")
    assert (run.status, "there is a switch lab already" in run.errors) == (2, True)
    (first, _), (second, _) = worker.linked(1), worker.linked(2)
    for _ in range(1000):
        first.port.send(frame(mac(2), mac(1), bytes(1486)))
    first.port.send(frame(source=mac(9)))
    first.port.flush()
    worker.until(lambda: len(second.frames) == 1000)

    lines = switch("list").output.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "GUESTS", "UPLINKS", "PID", "UPTIME"]
    assert lines[1].split()[:4] == ["lab", "created", "2", "-"]
    (facts,) = json.loads(switch("list", "--json").output)
    assert (facts["name"], facts["guests"], facts["pid"]) == ("lab", 2, process_of(place_of("lab")))

    run = switch("show", "lab")
    assert run.status == 0
    rows = [line.split() for line in run.output.splitlines()]
    assert rows[3] == [
        "1", "guest", "NIC", "1", mac(1).hex(":"), "up", "10G", "1,001", "1.5", "MB", "0", "0", "B", "1", "-",
    ]  # fmt: skip
    assert rows[4][7:12] == ["0", "0", "B", "1,000", "1.5"]
    assert "port 1 dropped: 1 spoofed address" in run.output
    assert f"{mac(1).hex(':')}     -     1  the port's own" in run.output
    shown = json.loads(switch("show", "lab", "--json").output)
    assert shown["ports"][0]["counters"]["received_frames"] == 1001

    run = switch("port", "lab", "2", "link=down", "vlan=5", "limit=100M")
    assert (run.status, run.errors) == (0, "")
    assert run.output == (
        f"lab: port 2: name=NIC 2 mac={mac(2).hex(':')} vlan=5 limit=100M link=down speed=10G\n"
    )
    worker.until(lambda: not second.links[-1][0])
    assert switch("port", "lab", "nic 2", "link=up", "limit=none").output == (
        f"lab: port 2: name=NIC 2 mac={mac(2).hex(':')} vlan=5 link=up speed=10G\n"
    )
    assert "vlan=5" in switch("show", "lab").output
    assert switch("port", "lab", mac(1).hex(":")).output.startswith("lab: port 1: name=NIC 1")
    run = switch("port", "lab", "3", "link=up")
    assert (run.status, run.errors) == (2, "ringminus: error: the switch lab has no port 3; it has 1, 2\n")
    run = switch("port", "lab", "1", "vlan=4095")
    assert (run.status, "write a VLAN id from 1 to 4094" in run.errors) == (2, True)
    run = switch("port", "lab", "1", "name=a\x1bb")
    assert (run.status, len(run.errors.splitlines())) == (2, 1)

    assert switch("unplug", "lab", "1").output == "lab: port 1 (NIC 1) is unplugged\n"
    worker.until(lambda: not first.links[-1][0])

    run = switch("delete", "lab")
    assert (run.status, run.output) == (2, "")
    assert run.errors == (
        "ringminus: error: 1 guest is on lab (port 2): end them first, or take it from them with --force\n"
    )
    run = switch("delete", "lab", "--force")
    assert (run.status, run.output) == (0, "lab: deleted, and 1 of its guests has no link now\n")
    assert list(directory().iterdir()) == []


def test_a_switch_of_guests_is_created_afterwards(worker: LinkBed, switch: Switch) -> None:
    _, port = worker.linked(1)
    assert "there until its last guest ends" in switch("show", "lab").output
    assert switch("create", "lab").status == 0
    assert "there until it is deleted" in switch("show", "lab").output
    port.close()
    assert switch("delete", "lab").output == "lab: deleted\n"


def test_what_cannot_be_created_leaves_nothing(worker: LinkBed, switch: Switch) -> None:
    run = switch("create", "lab", "--nat=net=10.0.0.0/33")
    assert (run.status, run.output) == (2, "")
    assert "write a network such as net=10.0.2.0/24" in run.errors
    run = switch("create", "lab", "--tap", "a/b")
    assert (run.status, "no name for a network interface" in run.errors) == (2, True)
    assert list(directory().iterdir()) == []


def test_a_created_switch_without_its_process(worker: LinkBed, switch: Switch) -> None:
    switch("create", "lab")
    kill(place_of("lab"))
    assert switch("list").output.splitlines()[1].split() == ["lab", "not", "running"]
    assert json.loads(switch("list", "--json").output) == [{"name": "lab", "state": "not running"}]
    assert switch("delete", "lab").output == "lab: deleted\n"
    assert list(directory().iterdir()) == []


def test_a_process_that_hangs_does_not_hang_the_list(worker: LinkBed, switch: Switch) -> None:
    worker.linked(1)
    switch("create", "other")
    pid = process_of(place_of("lab"))
    os.kill(pid, signal.SIGSTOP)
    names = {line.split()[0]: line.split()[1] for line in switch("list").output.splitlines()[1:]}
    os.kill(pid, signal.SIGCONT)
    assert names == {"lab": "does", "other": "created"}


def records(data: bytes) -> list[bytes]:
    """The frames of a pcap file."""
    PcapHeader.unpack(data)
    at, found = PcapHeader.SIZE, []
    while at < len(data):
        *_, length, _ = RECORD.unpack_from(data, at)
        found.append(data[at + RECORD.size : at + RECORD.size + length])
        at += RECORD.size + length
    return found


class Capture:
    """`ringminus switch capture` as a process of its own."""

    def __init__(self, worker: LinkBed, *arguments: str | Path) -> None:
        self.worker = worker
        self.child = subprocess.Popen(
            command("switch", "capture", "lab", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        until(lambda: "capture" in [port["kind"] for port in facts_of("lab")["ports"]], worker.turn)

    def end(self, number: signal.Signals | None = None) -> Run:
        if number is not None:
            self.child.send_signal(number)
        until(lambda: self.child.poll() is not None, self.worker.turn)
        output, errors = self.child.communicate(timeout=20)
        self.output = output
        return Run(self.child.returncode, output.decode(errors="replace"), errors.decode())


def test_capture_prints_a_line_for_each_frame(worker: LinkBed) -> None:
    (first, _), (second, _) = worker.linked(1), worker.linked(2)
    capture = Capture(worker, "--count", "2")
    for number in range(3):
        first.port.send(frame(mac(2), mac(1), bytes(number)))
        first.port.flush()
    worker.until(lambda: len(second.frames) == 3)
    run = capture.end()
    ends = f"{mac(1).hex(':')} > {mac(2).hex(':')}"
    assert [line.split(maxsplit=1)[1] for line in run.output.splitlines()] == [
        f"{ends}, type 0x88b5, 14 bytes",
        f"{ends}, type 0x88b5, 15 bytes",
    ]
    assert (run.status, run.errors) == (0, "2 frames captured\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_capture_writes_a_file_until_it_is_interrupted(
    worker: LinkBed, tmp_path: Path, number: signal.Signals
) -> None:
    (first, _), (second, _) = worker.linked(1), worker.linked(2)
    capture = Capture(worker, "-w", tmp_path / "lab.pcap")
    sent = [frame(mac(2), mac(1), bytes([count]) * 100) for count in range(50)]
    for one in sent:
        first.port.send(one)
    first.port.flush()
    worker.until(lambda: len(second.frames) == 50)
    until(lambda: len(records((tmp_path / "lab.pcap").read_bytes())) == 50)  # while it goes on
    run = capture.end(number)
    assert (run.status, run.output, run.errors) == (0, "", "50 frames captured\n")
    assert records((tmp_path / "lab.pcap").read_bytes()) == [one.data for one in sent]


def test_capture_of_one_port_into_a_pipe(worker: LinkBed) -> None:
    (first, _), (second, _), (third, _) = (worker.linked(number) for number in (1, 2, 3))
    capture = Capture(worker, "--port", "nic 3", "-w", "-", "--count", "1")
    first.port.send(frame(mac(2), mac(1), b"not for the third"))
    first.port.send(frame(mac(3), mac(1), b"for the third"))
    first.port.flush()
    worker.until(lambda: second.frames and third.frames)
    run = capture.end()
    assert records(capture.output) == [frame(mac(3), mac(1), b"for the third").data]
    assert (run.status, run.errors) == (0, "1 frame captured\n")


def test_capture_ends_with_the_switch(worker: LinkBed, switch: Switch) -> None:
    worker.linked(1)
    capture = Capture(worker)
    switch("delete", "lab", "--force")
    run = capture.end()
    assert (run.status, run.output) == (0, "")
    assert run.errors == "ringminus: the switch lab was deleted\n0 frames captured\n"


def test_capture_ends_after_its_time(worker: LinkBed, switch: Switch, tmp_path: Path) -> None:
    worker.linked(1)
    run = switch("capture", "lab", "--seconds", "0.05", "-w", tmp_path / "lab.pcap")
    assert (run.status, run.output, run.errors) == (0, "", "0 frames captured\n")
    assert records((tmp_path / "lab.pcap").read_bytes()) == []


def test_capture_to_where_nothing_can_be_written(worker: LinkBed, switch: Switch, tmp_path: Path) -> None:
    worker.linked(1)
    run = switch("capture", "lab", "-w", tmp_path / "missing" / "lab.pcap")
    assert (run.status, run.output) == (1, "")
    assert "cannot write the capture" in run.errors
    run = switch("capture", "lab", "--port", "8")
    assert (run.status, run.errors) == (2, "ringminus: error: the switch lab has no port 8; it has 1\n")


def complete(*words: str) -> list[str]:
    """What the shell offers for the last word."""
    environment = {
        **os.environ,
        "_RINGMINUS_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["ringminus", *words]),
        "COMP_CWORD": str(len(words)),
    }
    ended = subprocess.run(command(), env=environment, capture_output=True, text=True, check=True)
    return [line.partition(",")[2] for line in ended.stdout.split()]


def test_completion(worker: LinkBed, switch: Switch) -> None:
    worker.linked(1)
    assert complete("switch", "cap") == ["capture"]
    assert complete("switch", "show", "l") == ["lab"]
    assert complete("switch", "port", "lab", "1") == ["1"]
    assert complete("switch", "port", "lab", "1", "li") == ["link=up", "link=down", "limit="]
    assert complete("switch", "capture", "nowhere", "--port", "1") == []


def test_every_word_that_is_offered_is_one() -> None:
    values = {"speed=": "1G", "limit=": "1M", "vlan=": "1", "trunk=": "1", "native=": "none", "name=": "x"}
    for word in PORT_WORDS:
        changed(PortSettings(), [word + values.get(word, "")])
