"""`ringminus lens` on a capture: lines, objects, bytes, trees, figures, fields, and its errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringminus.cli.main import main
from ringminus.lens.capture.output import open_output
from ringminus.lens.capture.writer import CaptureWriter
from ringminus.tap import Tap
from support.command import Run, command, run_command
from support.lens_events import PER_REQUEST, requests
from support.links import own_runtime_directory

Lens = Callable[..., Run]
COUNT = 20


@pytest.fixture(autouse=True)
def runtime() -> Iterator[Path]:
    with own_runtime_directory() as directory:
        yield directory


@pytest.fixture
def lens(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lens:
    def run(*arguments: str | Path) -> Run:
        monkeypatch.setattr(sys, "argv", ["ringminus", "lens", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        code = ended.value.code
        return Run(code if isinstance(code, int) else 0, said.out, said.err)

    return run


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Disk requests: reads and writes by turns, one block each, LBA 0 to 19."""
    path, tap = tmp_path / "requests.pcapng", Tap()
    with CaptureWriter(tap, open_output(str(path)), partition="demo"):
        for event in requests(COUNT):
            tap.tell(event)
    return path


def test_every_event_is_a_line_in_the_order_in_which_it_began(lens: Lens, capture: Path) -> None:
    run = lens("show", capture)
    assert (run.status, run.errors) == (0, "")
    lines = run.output.splitlines()
    assert len(lines) == 1 + COUNT * PER_REQUEST
    assert "channel opened" in lines[0]
    for words, line in zip(
        ("exit hypercall", "HvCallSignalEvent", "scsi READ_10", "COMPLETE_IO", "event signal", "vector 0xf3"),
        (" ".join(one.split()) for one in lines[1:]),
        strict=False,
    ):
        assert words in line
    assert "\x1b" not in run.output


def test_a_filter_needs_no_quotes(lens: Lens, capture: Path) -> None:
    quoted = lens("show", capture, "scsi.op == write_10 and scsi.lba >= 8")
    assert quoted.output.count("\n") == 6
    assert lens("show", capture, "scsi.op", "==", "write_10", "and", "scsi.lba", ">=", "8") == quoted
    counted = lens("show", capture, "scsi.op == write_10", "--count", "2")
    assert counted.output.count("\n") == 2


def test_a_channel_is_known_by_its_driver(lens: Lens, capture: Path) -> None:
    run = lens("show", capture, 'hypercall.code == signal_event and vmbus.channel.device == "storvsc"')
    assert run.output.count("HvCallSignalEvent") == COUNT


def test_objects_have_everything(lens: Lens, capture: Path) -> None:
    run = lens("show", capture, "--json", "scsi.op == write_10")
    found = [json.loads(line) for line in run.output.splitlines()]
    assert len(found) == COUNT // 2
    first = found[0]
    assert (first["event"], first["partition"], first["sequence"], first["cause"]) == (
        "packet",
        "demo",
        10,
        9,
    )
    assert first["channel"] == {"device": "SCSI 0", "relid": 3, "index": 0, "driver": "storvsc"}
    assert first["fields"]["ranges"] == [512]
    assert "vstor" in [one["protocol"] for one in first["messages"]]
    (scsi,) = [one for one in first["messages"] if one["protocol"] == "scsi"]
    assert scsi["message"] == "WRITE_10"
    assert (scsi["fields"]["op"], scsi["fields"]["lba"]) == (0x2A, 1)


def test_bytes_are_shown_below_their_event(lens: Lens, capture: Path) -> None:
    run = lens("show", capture, "--hex", "scsi", "--count", "1")
    line, first, *rest = run.output.splitlines()
    assert "READ_10" in line
    assert first.split()[:5] == ["0000", "03", "00", "00", "00"]
    assert len(rest) == 3


def test_one_request_is_a_tree_from_the_doorbell_to_the_interrupt(lens: Lens, capture: Path) -> None:
    run = lens("tree", capture, "scsi.lba == 7")
    assert (run.status, run.errors) == (0, "")
    lines = [one for one in run.output.splitlines() if one]
    assert len(lines) == PER_REQUEST
    for depth, (words, line) in enumerate(
        zip(
            ("exit", "HvCallSignalEvent", "WRITE_10 lba 7", "COMPLETE_IO", "event signal", "vector 0xf3"),
            lines,
            strict=True,
        )
    ):
        assert words in line
        assert line.count("└─") == (depth > 0)
        assert line.find("└─") < line.find(words)
    assert [one.split()[0] for one in lines[1:]] == ["+1.0", "+2.0", "+3.0", "+4.0", "+5.0"]
    assert lens("show", "--tree", capture, "scsi.lba == 7") == run


def test_a_tree_is_an_object_too(lens: Lens, capture: Path) -> None:
    run = lens("tree", capture, "scsi.lba == 7", "--json")
    node, names = json.loads(run.output), []
    while node:
        names.append(node["event"])
        (node,) = node.get("caused", [None])
    assert names == ["exit", "hypercall", "packet", "packet", "signal", "interrupt"]


def test_figures_of_a_capture(lens: Lens, capture: Path) -> None:
    found = json.loads(lens("stats", capture, "--json").output)
    assert found["exits"]["hypercall"]["count"] == COUNT
    assert [(one["request"], one["count"]) for one in found["requests"]] == [
        ("READ_10", 10),
        ("WRITE_10", 10),
    ]
    assert found["channels"][0]["to_guest"]["packets_per_signal"] == 1
    assert "READ_10" in lens("stats", capture).output
    assert 'ringminus_hypercalls_total{guest="demo",name="HvCallSignalEvent"} 20' in (
        lens("stats", capture, "--prometheus").output
    )


def test_fields_are_listed(lens: Lens) -> None:
    run = lens("fields", "scsi.op")
    assert run.status == 0
    assert run.output.startswith("scsi.op ")
    assert {"  read_10", "  write_10"} <= set(run.output.splitlines())
    assert "scsi.lba" in lens("fields", "scsi").output
    values = lens("fields", "packet.kind").output.splitlines()
    assert "  completion" in values
    found = json.loads(lens("fields", "exit", "--json").output)
    assert {"exit", "exit.reason", "exit.rip"} <= {one["name"] for one in found}
    assert lens("fields", "nothing").status == 2


DEVICE = """
from uuid import UUID
from ringminus.protocol import Form, Protocol, declare
from ringminus.vmbus.device import Device
from ringminus.wire import U8, U16, Struct

class Header(Struct):
    kind: U8

class Greeting(Struct):
    volume: U16

class Greeter(Device):
    interface = UUID("99999999-0000-0000-0000-000000000002")

FORMS = {1: Form("GREET", Greeting)}
declare(Protocol("greeter", "Greeter", Header, "kind", FORMS, interfaces=(Greeter.interface,)))
"""


def test_messages_of_a_device_of_ones_own_are_known(tmp_path: Path) -> None:
    (tmp_path / "greeter.py").write_text(DEVICE)
    for text in (f"{tmp_path}/greeter.py:Greeter", f"{tmp_path}/greeter.py"):
        run = run_command("lens", "--device", text, "fields", "greeter.kind")
        assert (run.status, run.output) == (0, "greeter.kind  number      greet\n  greet\n")
    run = run_command("lens", "--device", f"{tmp_path}/missing.py:Greeter", "fields")
    assert run.status == 2
    assert "there is no file" in run.errors


def test_no_guest_runs(lens: Lens) -> None:
    run = lens("list")
    assert (run.status, run.output) == (0, "")
    assert run.errors == "no guest runs: ringminus run boots one\n"
    assert json.loads(lens("list", "--json").output) == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("show", "CAPTURE", "scsi.op == wriet_10"), "did you mean write_10"),
        (("show", "CAPTURE", "scsi.op ="), "a comparison is written =="),
        (("show", "CAPTURE", "--hex", "--json"), "--hex with --json"),
        (("watch", "box"), "there is no guest box: none runs"),
        (("stats", "box"), "nor is there a file box"),
        (("tree", "box"), "nor is there a file box"),
        (("stats", "CAPTURE", "--interval", "1"), "are for guests that run"),
        (("stats", "CAPTURE", "--json", "--prometheus"), "not both"),
    ],
)
def test_a_wrong_request_is_said_so(
    lens: Lens, capture: Path, arguments: tuple[str, ...], problem: str
) -> None:
    run = lens(*(str(capture) if one == "CAPTURE" else one for one in arguments))
    assert (run.status, run.output) == (2, "")
    assert run.errors.startswith("ringminus: error: ")
    assert problem in run.errors


def test_an_error_of_a_filter_points_at_its_place(lens: Lens, capture: Path) -> None:
    run = lens("show", capture, "vp == 0 and scsi.lab > 3")
    first, shown, carets = run.errors.splitlines()
    assert "there is no field scsi.lab: did you mean scsi.lba" in first
    assert shown[carets.index("^") :].startswith("scsi.lab")
    assert carets.count("^") == len("scsi.lab")


def test_files_that_are_none(lens: Lens, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no capture")
    for path in (tmp_path / "text", tmp_path / "missing.pcapng"):
        run = lens("show", path)
        assert run.status in (1, 2)
        assert str(path) in run.errors


def test_whoever_reads_us_may_stop(capture: Path) -> None:
    shown = subprocess.Popen(
        command("lens", "show", capture), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert shown.stdout is not None
    assert "channel opened" in shown.stdout.readline()
    shown.stdout.close()
    assert shown.stderr is not None
    assert shown.stderr.read() == ""
    shown.stderr.close()
    shown.wait(30)


def complete(*words: str) -> list[str]:
    environment = {
        **os.environ,
        "_RINGMINUS_COMPLETE": "zsh_complete",
        "COMP_WORDS": " ".join(["ringminus", *words]),
        "COMP_CWORD": str(len(words)),
    }
    ended = subprocess.run(command(), env=environment, capture_output=True, text=True, check=True)
    return ended.stdout.split("\n")[1::3]


def test_filters_are_completed_in_the_shell(capture: Path) -> None:
    assert complete("lens", "show", str(capture), "scsi.opc") == ["scsi.opcode"]
    assert complete("lens", "show", str(capture), "scsi.op", "==", "write_1") == [
        "write_10",
        "write_12",
        "write_16",
    ]
