"""The table of messages, and messages that are none."""

from __future__ import annotations

import struct

import pytest

from ringminus.vmbus.control.messages import MESSAGES, NAMED
from ringminus.vmbus.control.plane import VmBusError
from ringminus.vmbus.wire import Feature, InitiateContact2, OpenChannel2, TlConnectRequest, Version
from support.bus_script import connected

# the sizes that Linux checks and OpenVMM sends, newest form first
SIZES = {
    1: (196,), 2: (12,), 3: (8,), 4: (8,), 5: (156, 148), 6: (20,), 7: (12,), 8: (20,), 9: (16,), 10: (20,),
    11: (16,), 12: (12,), 13: (12,), 14: (56, 40), 15: (40, 20, 16), 16: (8,), 17: (8,), 18: (28,), 19: (20,),
    20: (12,), 21: (56, 40), 22: (16,), 23: (44,), 24: (16,), 25: (24,), 26: (9,), 27: (8,), 28: (8,),
    29: (8,),
}  # fmt: skip
FIRST = {18: "4.0", 20: "4.0", 21: "4.0", 22: "4.1", 23: "4.1", 24: "5.3", 25: "6.0", 26: "6.0", 27: "6.0",
         28: "6.0", 29: "6.0"}  # fmt: skip
ALWAYS = {14, 15, 16, 17, 19}


def test_it_has_all_29_messages_in_their_sizes() -> None:
    sizes = {number: tuple(form.structure.SIZE for form in kind.forms) for number, kind in MESSAGES.items()}
    assert sizes == SIZES


@pytest.mark.parametrize("number", sorted(MESSAGES))
def test_a_message_exists_from_its_version_on(number: int) -> None:
    major, minor = FIRST.get(number, "2.4").split(".")
    first = int(major) << 16 | int(minor)
    everything = 0xFFFFFFFF
    assert MESSAGES[number].allowed(0, 0) == (number in ALWAYS)
    for version in Version:
        expected = number in ALWAYS or version >= first
        assert MESSAGES[number].allowed(version, everything) == expected


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("MODIFY_CONNECTION", Feature.MODIFY_CONNECTION),
        ("PAUSE", Feature.PAUSE_RESUME),
        ("RESUME", Feature.PAUSE_RESUME),
    ],
)
def test_some_messages_must_be_agreed_on(name: str, feature: Feature) -> None:
    assert NAMED[name].allowed(Version.COPPER, feature)
    assert not NAMED[name].allowed(Version.COPPER, ~feature & 0xFF)


def test_the_form_follows_version_features_and_length() -> None:
    long = bytes(240)
    signals = Feature.GUEST_SIGNAL_PARAMETERS
    assert isinstance(NAMED["OPEN_CHANNEL"].unpack(long, Version.COPPER, signals), OpenChannel2)
    assert not isinstance(NAMED["OPEN_CHANNEL"].unpack(long, Version.COPPER, 0), OpenChannel2)
    assert not isinstance(NAMED["OPEN_CHANNEL"].unpack(long, Version.WIN10_V5_3, 0), OpenChannel2)
    assert isinstance(NAMED["INITIATE_CONTACT"].unpack(long, 0, 0), InitiateContact2)
    assert not isinstance(NAMED["INITIATE_CONTACT"].unpack(long[:55], 0, 0), InitiateContact2)
    short = NAMED["TL_CONNECT_REQUEST"].unpack(long[:55], Version.WIN10_V5_2, 0)
    assert isinstance(short, TlConnectRequest)


@pytest.mark.parametrize("number", [0, 1, 15, 30, 0xFFFFFFFF])
def test_what_no_guest_sends_is_refused(number: int) -> None:
    control = connected().control
    with pytest.raises(VmBusError, match="none that a guest sends"):
        control.receive(struct.pack("<II", number, 0))
    assert control.refusals == {"no such message": 1}


@pytest.mark.parametrize(
    "number",
    sorted(kind.number for kind in MESSAGES.values() if kind.from_guest),
    ids=lambda n: MESSAGES[n].name,
)
def test_a_message_that_is_too_short_changes_nothing(number: int) -> None:
    control = connected("6.0", features=0x27).control
    size = control_form_size(number)
    before = control.save()
    for length in {0, 4, 7, size - 1}:
        with pytest.raises(VmBusError) as caught:
            control.receive(struct.pack("<II", number, 0).ljust(size, b"\0")[:length])
        assert caught.value.reason == "too short"
    assert control.save() == before


def control_form_size(number: int) -> int:
    forms = [form for form in MESSAGES[number].forms if form.allowed(Version.COPPER, 0x27)]
    return next((form.structure.SIZE for form in forms if not form.by_size), forms[-1].structure.SIZE)


def test_a_message_is_240_bytes_at_most() -> None:
    control = connected().control
    control.receive(struct.pack("<II", 16, 0).ljust(240, b"\xff"))
    with pytest.raises(VmBusError, match="241 bytes"):
        control.receive(struct.pack("<II", 16, 0).ljust(241, b"\xff"))


def test_messages_are_counted_by_name() -> None:
    script = connected().play(
        """
        >> CLOSE_CHANNEL child_relid=9
        !! unknown relid
        >> CLOSE_CHANNEL child_relid=9
        !! unknown relid
        """
    )
    assert script.control.received == {"INITIATE_CONTACT": 1, "REQUEST_OFFERS": 1, "CLOSE_CHANNEL": 2}
    assert script.control.refusals == {"unknown relid": 2}


def test_an_error_names_the_message_and_the_state() -> None:
    control = connected("4.0").control
    with pytest.raises(VmBusError, match=r"MODIFY_CHANNEL does not exist in version 4\.0"):
        control.receive(struct.pack("<IIII", 22, 0, 1, 0))
    control.receive(struct.pack("<II", 16, 0))
    with pytest.raises(VmBusError, match="REQUEST_OFFERS while disconnected"):
        control.receive(struct.pack("<II", 3, 0))
