"""What may be said after --capture."""

from __future__ import annotations

import pytest

import ringminus.cli.protocols  # noqa: F401
from ringminus.errors import ConfigError
from ringminus.events import PageFault
from ringminus.lens.capture.options import CaptureOptions, parse_capture
from ringminus.lens.capture.output import UNBOUNDED
from ringminus.tap import USUAL, BusMessage, ChannelState, Hypercall, RingPacket, VmExit


def test_a_file_alone_gets_all_but_what_has_to_be_asked_for() -> None:
    assert parse_capture("a,b.pcapng") == CaptureOptions("a,b.pcapng", UNBOUNDED, 1, USUAL)
    assert PageFault not in parse_capture("a.pcapng,filter=not exit").events


def test_options_are_read() -> None:
    found = parse_capture("a.pcapng,size=2g,files=5,points=exits+packets")
    assert found == CaptureOptions("a.pcapng", 2 << 30, 5, (VmExit, RingPacket))
    assert parse_capture("a.pcapng,points=exits,packets").events == (VmExit, RingPacket)
    assert parse_capture("a.pcapng,points=faults").events == (PageFault,)
    assert parse_capture("a.pcapng,data,size=64K").data
    assert parse_capture("-").is_standard_output


def test_a_filter_has_the_points_that_it_needs() -> None:
    found = parse_capture("a.pcapng,size=1M,filter=hypercall.code in {0x5c, 0x5d}")
    assert found.size == 1 << 20 and found.events == (Hypercall,)
    assert found.wanted is not None and found.wanted.text == "hypercall.code in {0x5c, 0x5d}"
    assert parse_capture("a.pcapng,filter=fault.write").events == (PageFault,)
    needs_names = parse_capture('a.pcapng,filter=packet and vmbus.channel.device == "netvsc"').events
    assert set(needs_names) == {BusMessage, ChannelState, RingPacket}
    assert parse_capture("a.pcapng,points=exits,filter=exit or packet").events == (VmExit,)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "names no file"),
        (",size=1M", "names no file"),
        ("a.pcapng,size=1", "at least 64K"),
        ("a.pcapng,size=all", "at least 64K"),
        ("a.pcapng,size=1M,files=0", "how many files"),
        ("a.pcapng,size=1M,files=x", "how many files"),
        ("a.pcapng,files=5", "needs size="),
        ("a.pcapng,size=1M,size=2M", "twice"),
        ("a.pcapng,colour=red", "no option 'colour=red': there are size="),
        ("a.pcapng,points=exit", "knows no events 'exit': say exits"),
        ("a.pcapng,filter=nonsense == 1", "there is no field nonsense"),
    ],
)
def test_what_cannot_be_says_what_can(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_capture(text)
