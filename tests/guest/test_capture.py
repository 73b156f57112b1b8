"""A capture of a real guest, opened by tshark with our dissector: everything is decoded, and what it shows of
the bus is what the guest's own tracepoints show, message by message."""

from __future__ import annotations

import base64
import gzip
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from ringminus.lens.capture.reader import open_capture
from support.command import RunGuest
from support.wireshark import run_tshark, write_dissector

MARK = "== traced"
# the trace is packed, as every byte on the console is several events
SCRIPT = f"""
mount -t tracefs tracefs /sys/kernel/tracing
cd /sys/kernel/tracing
echo 16384 > buffer_size_kb
trace_module hyperv vmbus_open
while read -r name needs; do insmod /lib/modules/$name.ko; done < /lib/modules/order
until [ -b /dev/sda ] && [ -e /sys/class/net/eth0 ]; do sleep 0.1; done
ip link set eth0 up
udhcpc -i eth0 -n -q 2>&1
dd if=/dev/sda of=/dev/null bs=4k count=300 iflag=direct 2>/dev/null
dd if=/dev/zero of=/dev/sda bs=64k count=20 oflag=direct 2>/dev/null
ping -c 3 -s 1200 10.0.2.2
rmmod hv_netvsc
sleep 0.2
echo 0 > tracing_on
echo "{MARK}"
sed 's/.*: vmbus/: vmbus/' trace | gzip | base64
"""
WORDS = "quiet preempt=full ringminus.modules=no"
LINE = re.compile(r"^: (vmbus_\w+): (.*)$")
NUMBER = re.compile(r"(\w+)[ =](0x[0-9a-f]+|\d+)")

TO_HOST = {
    "vmbus_negotiate_version": ("INITIATE_CONTACT", ("vmbus_version_requested",)),
    "vmbus_request_offers": ("REQUEST_OFFERS", ()),
    "vmbus_open": ("OPEN_CHANNEL", ("child_relid", "openid", "ringbuffer_gpadlhandle")),
    "vmbus_establish_gpadl_header": ("GPADL_HEADER", ("child_relid", "gpadl")),
    "vmbus_establish_gpadl_body": ("GPADL_BODY", ("gpadl",)),
    "vmbus_close_internal": ("CLOSE_CHANNEL", ("child_relid",)),
    "vmbus_teardown_gpadl": ("GPADL_TEARDOWN", ("child_relid", "gpadl")),
    "vmbus_release_relid": ("RELID_RELEASED", ("child_relid",)),
}
TO_GUEST = {
    "vmbus_onversion_response": ("VERSION_RESPONSE", ("version_supported",)),
    "vmbus_onoffer": ("OFFER_CHANNEL", ("child_relid",)),
    "vmbus_onopen_result": ("OPEN_CHANNEL_RESULT", ("child_relid", "openid", "status")),
    "vmbus_ongpadl_created": ("GPADL_CREATED", ("child_relid", "gpadl", "creation_status")),
    "vmbus_ongpadl_torndown": ("GPADL_TORNDOWN", ("gpadl",)),
}
"""The guest's tracepoints, the messages that they tell of, and the fields that both have."""
RENAMED = {"gpadlhandle": "ringbuffer_gpadlhandle"}
FIELDS = ("msgtype", *sorted({name for _, names in (TO_HOST | TO_GUEST).values() for name in names}))
USED = ("vmbus", "hypercall_input", "vstor", "scsi", "nvsp", "rndis", "rndis_info", "msr_value", "cpuid_leaf")
PROBLEMS = ("undeclared", "no_protocol", "cut", "bad")


class Message(NamedTuple):
    """A control message: its name, and the values of fields."""

    name: str
    fields: tuple[int, ...]


COLUMNS = (
    *(f"ringminus.{name}" for name in ("event", "sequence", "request_in", "bus.to_guest", "serial.data")),
    *(f"ringminus.{name}.message" for name in USED),
    *(f"ringminus.vmbus.{name}" for name in FIELDS),
    *("ringminus.hypercall.name", "ringminus.hypercall_input.connection_id", "ringminus.vmbus.connection_id"),
    *("frame.number", "frame.protocols", "frame.packet_id"),
)
Row = dict[str, str]


@dataclass
class Captured:
    """What the guest's console printed, the capture, and what tshark shows of each packet in columns."""

    console: str
    path: Path
    script: Path
    rows: list[Row]

    @property
    def until(self) -> int:
        """The number of the event with which the guest's trace had ended."""
        mark = MARK.encode().hex()
        marked = (row for row in self.rows if mark in row["ringminus.serial.data"])
        return int(list(marked)[-1]["ringminus.sequence"])

    def traced_rows(self, event: str) -> Iterator[Row]:
        """Events of that name, as long as the guest traced."""
        rows = (row for row in self.rows if row["ringminus.event"] == event)
        return (row for row in rows if int(row["ringminus.sequence"]) < self.until)


@pytest.fixture(scope="module")
def captured(run_program_guest: RunGuest, tmp_path_factory: pytest.TempPathFactory) -> Captured:
    directory = tmp_path_factory.mktemp("capture")
    disk, path = directory / "disk.raw", directory / "guest.pcapng"
    disk.write_bytes(bytes(8 << 20))
    options = ("--disk", str(disk), "--nic", "nat", "--capture", str(path))
    run = run_program_guest(*options, script=SCRIPT, words=WORDS)
    assert run.status == 0 and MARK in run.output, run.output[-3000:] + run.errors
    assert "lease of 10.0.2.15 obtained" in run.output, run.output
    script = write_dissector(directory / "ringminus.lua")
    wanted = [word for name in COLUMNS for word in ("-e", name)]
    lines = run_tshark(script, path, "-T", "fields", "-E", "occurrence=l", *wanted).splitlines()
    rows = [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in lines]
    return Captured(run.output.replace("\r", ""), path, script, rows)


# ------------------------------------------------------------ the guest's side


def traced(captured: Captured) -> list[tuple[str, dict[str, int]]]:
    """The guest's trace: events in order, with their numbers by name."""
    found = []
    packed, _, _ = captured.console.rpartition(MARK)[2].partition("ringminus guest:")
    for line in gzip.decompress(base64.b64decode(packed)).decode().splitlines():
        if match := LINE.search(line):
            numbers = {RENAMED.get(name, name): int(value, 0) for name, value in NUMBER.findall(match[2])}
            found.append((match[1], numbers))
    assert found[0][0] in ("vmbus_on_msg_dpc", "vmbus_negotiate_version"), "the trace has no beginning"
    return found


def traced_messages(captured: Captured, told: dict[str, tuple[str, tuple[str, ...]]]) -> list[Message]:
    return [
        Message(told[name][0], tuple(numbers[one] for one in told[name][1]))
        for name, numbers in traced(captured)
        if name in told
    ]


# ------------------------------------------------------------ the capture's side, by tshark


def bus_messages(captured: Captured, to_guest: bool) -> list[tuple[int, Message]]:
    """Numbers and messages, in order."""
    wanted = dict((TO_GUEST if to_guest else TO_HOST).values())
    found = []
    for row in captured.traced_rows("bus"):
        if row["ringminus.bus.to_guest"] == str(int(to_guest)):
            name = row["ringminus.vmbus.message"]
            fields = tuple(int(row[f"ringminus.vmbus.{one}"], 0) for one in wanted.get(name, ()))
            found.append((int(row["ringminus.vmbus.msgtype"], 0), Message(name, fields)))
    return found


def by_channel(messages: Iterable[Message]) -> dict[int, list[Message]]:
    """The messages to the host about each channel (0: about none), in order: threads of the guest that send
    at the same time trace what they have sent in another order."""
    channels: defaultdict[int, list[Message]] = defaultdict(list)
    owners: dict[int, int] = {}
    for one in messages:
        relid = one.fields[0] if one.fields and one.name != "INITIATE_CONTACT" else 0
        if one.name == "GPADL_HEADER":
            owners[one.fields[1]] = relid
        elif one.name == "GPADL_BODY":
            relid = owners[one.fields[0]]
        channels[relid].append(one)
    return dict(channels)


def named(messages: Iterable[Message], name: str) -> Iterator[Message]:
    return (one for one in messages if one.name == name)


# ------------------------------------------------------------ the tests


def test_tshark_decodes_everything(captured: Captured) -> None:
    problems = " or ".join(f"ringminus.{name}" for name in PROBLEMS)
    assert run_tshark(captured.script, captured.path, "-Y", f"{problems} or _ws.malformed") == ""
    seen = Counter(name for name in USED for row in captured.rows if row[f"ringminus.{name}.message"])
    assert all(seen[name] for name in USED), seen
    protocols = Counter(name for row in captured.rows for name in row["frame.protocols"].split(":"))
    assert protocols["dhcp"] and protocols["icmp"] and protocols["ringminus"]


def test_messages_to_the_guest_are_those_that_it_traced_in_order(captured: Captured) -> None:
    ours = bus_messages(captured, to_guest=True)
    theirs = [numbers["msgtype"] for name, numbers in traced(captured) if name == "vmbus_on_msg_dpc"]
    assert Counter(number for number, _ in ours) == Counter(theirs)
    assert [number for number, _ in ours] == theirs
    assert len(theirs) >= 10


def test_each_message_to_the_guest_says_what_it_traced(captured: Captured) -> None:
    ours = [message for _, message in bus_messages(captured, to_guest=True)]
    theirs = traced_messages(captured, TO_GUEST)
    for name, _ in TO_GUEST.values():
        assert list(named(ours, name)) == list(named(theirs, name)) != []


def test_messages_to_the_host_are_those_that_the_guest_traced(captured: Captured) -> None:
    ours = [message for _, message in bus_messages(captured, to_guest=False)]
    theirs = traced_messages(captured, TO_HOST)
    assert Counter(one.name for one in ours) == Counter(one.name for one in theirs)
    assert {one.name for one in ours} >= {"INITIATE_CONTACT", "GPADL_BODY", "CLOSE_CHANNEL", "GPADL_TEARDOWN"}
    assert by_channel(ours) == by_channel(theirs)


def test_the_guest_signalled_as_often_as_it_traced(captured: Captured) -> None:
    signals = [
        int(row["ringminus.hypercall_input.connection_id"], 0)
        for row in captured.traced_rows("hypercall")
        if row["ringminus.hypercall.name"] == "HvCallSignalEvent"
    ]
    relids = {
        int(row["ringminus.vmbus.connection_id"], 0): int(row["ringminus.vmbus.child_relid"], 0)
        for row in captured.traced_rows("bus")
        if row["ringminus.vmbus.message"] == "OFFER_CHANNEL"
    }
    theirs = Counter(numbers["relid"] for name, numbers in traced(captured) if name == "vmbus_setevent")
    assert Counter(relids[connection] for connection in signals) == theirs
    assert len(theirs) == 2


def test_every_request_of_the_disk_has_its_answer(captured: Captured) -> None:
    asked = [row["frame.number"] for row in captured.rows if row["ringminus.scsi.message"]]
    answered = [
        row["ringminus.request_in"]
        for row in captured.rows
        if row["ringminus.vstor.message"] == "COMPLETE_IO"
    ]
    assert len(asked) > 300
    assert set(asked) <= set(answered) and len(set(answered)) == len(answered)


def test_the_file_has_what_lens_reads(captured: Captured) -> None:
    with open_capture(captured.path) as source:
        events = list(source)
    assert source.lost == 0 and source.partition
    about, *rows = captured.rows
    assert not about["ringminus.event"]
    assert [row["ringminus.event"] or "frame" for row in rows] == [one.NAME for one in events]
    assert [int(row["frame.packet_id"]) for row in rows] == [one.sequence for one in events]
