"""Recordings that were cut short, damaged, or made up: they are played as far as they go, or refused."""

from __future__ import annotations

import contextlib
import copy
import random
from dataclasses import fields
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringminus.devices.network.nic import SyntheticNic
from ringminus.errors import RingminusError
from ringminus.lens.capture.reader import open_capture
from ringminus.machine.replay.adapter import build_adapter
from ringminus.machine.replay.connection import Connection
from ringminus.machine.replay.devices import host_of, make
from ringminus.machine.replay.frames import LARGEST_SCALE, Segment
from ringminus.machine.replay.guest import GuestReplay
from ringminus.machine.replay.network import NetworkPlay
from ringminus.machine.replay.recording import RecordedDevice, Recording
from ringminus.machine.replay.result import Result
from ringminus.switch.frame import Frame
from ringminus.tap import BusMessage, ChannelState, Event, GpadlChange, NetworkFrame, RingPacket
from support.effort import examples
from support.recordings import NETWORK, events, unpacked

SLOW = settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
NUMBERS = (-1, 0, 1, 2, 3, 7, 255, 4096, 1 << 16, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 64, -(1 << 63))
BYTES = (b"", b"\0", b"\xff" * 12, b"\xff" * 64, bytes(64), bytes(5000))


def other(value: Any, choose: random.Random) -> Any:
    """Another value of that type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return choose.choice((*NUMBERS, value + 1, value ^ 1 << choose.randrange(32)))
    if isinstance(value, bytes):
        cut = value[: choose.randrange(len(value) + 1)]
        made = bytearray(value)
        if made:
            made[choose.randrange(len(made))] = choose.randrange(256)
        return choose.choice((*BYTES, cut, bytes(made), bytes(made)))
    if isinstance(value, str):
        return choose.choice(("", "SCSI", "dropped", "injected", "\0", "a" * 1000))
    if isinstance(value, UUID):
        return UUID(int=choose.randrange(1 << 128))
    if isinstance(value, tuple):
        return choose.choice(((), (4096,), (1 << 40,), (-1,), (0,) * 5, (4096,) * 200, (1,) * 40_000))
    return choose.choice((None, 0, 70_000)) if value is None else value


def damaged(events: list[Event], choose: random.Random, most: int = 120) -> list[Event]:
    """Some of the events, in about their order, with other values here and there."""
    start = choose.choice((0, 0, 0, choose.randrange(len(events))))
    found = [copy.copy(one) for one in events[start : start + choose.randrange(20, most)]]
    for _ in range(choose.randrange(12)):
        event = choose.choice(found)
        name = choose.choice([one.name for one in fields(event)])
        setattr(event, name, other(getattr(event, name), choose))
    for _ in range(choose.randrange(4)):
        found.insert(choose.randrange(len(found)), copy.copy(choose.choice(found)))
        del found[choose.randrange(len(found))]
    return found


def play(recorded: list[Event], side: str) -> None:
    """Both sides, against each other if it is the host's."""
    recording = Recording(recorded)
    for title in (None, "SCSI", "1", *(str(one.relid) for one in recording.devices)):
        with contextlib.suppress(RingminusError):
            device = recording.device(title)
            network = None
            if side == "guest":
                made, _, network = make(device)
            else:
                made = host_of(device, Result())
                network = NetworkPlay(device, made) if isinstance(made, SyntheticNic) else None
            player = GuestReplay(device, made, recording.version, network)
            result = player.run()
            player.close()
            assert result.compared <= len(recorded)


@SLOW
@given(st.integers(0, (1 << 32) - 1), st.sampled_from(("guest", "host")))
def test_damaged_recordings_are_played_or_refused(seed: int, side: str) -> None:
    play(damaged(events(), random.Random(seed)), side)


@SLOW
@given(st.integers(0, (1 << 32) - 1), st.sampled_from(("guest", "host")))
def test_damaged_recordings_of_networks_are_played_or_refused(seed: int, side: str) -> None:
    found = [one for one in events(NETWORK) if not isinstance(one, BusMessage) or one.name != "GPADL_BODY"]
    play(damaged(found, random.Random(seed), 400), side)


@SLOW
@given(st.integers(0, (1 << 32) - 1))
def test_a_sound_host_and_a_damaged_guest(seed: int) -> None:
    recorded = events()
    with contextlib.suppress(RingminusError):
        device = Recording(damaged(recorded, random.Random(seed))).device(None)
        player = GuestReplay(device, host_of(Recording(recorded).device(None), Result()))
        player.run()
        player.close()


@SLOW
@given(st.integers(0, (1 << 32) - 1))
def test_a_damaged_host_of_a_network_and_a_sound_guest(seed: int) -> None:
    """The recorded guest goes on as it was recorded, and gets what was made of its host."""
    recorded, result = events(NETWORK), Result()
    with contextlib.suppress(RingminusError):
        choose = random.Random(seed)
        host = Recording(damaged(recorded, choose, len(recorded))).device(None)
        device = Recording(recorded).device(None)
        nic = host_of(host, result)
        assert isinstance(nic, SyntheticNic)
        player = GuestReplay(device, nic, network=NetworkPlay(device, nic))
        player.run()
        player.close()


_frame_bytes = st.one_of(
    st.binary(max_size=100),
    st.builds(
        lambda data, at, value: data[:at] + bytes((value,)) + data[at + 1 :],
        st.sampled_from([one.data for one in events(NETWORK) if isinstance(one, NetworkFrame)]),
        st.integers(0, 90),
        st.integers(0, 255),
    ),
)


@SLOW
@given(st.lists(st.tuples(_frame_bytes, _frame_bytes, _frame_bytes), max_size=12), st.lists(_frame_bytes))
def test_frames_of_any_bytes(recorded: list[tuple[bytes, bytes, bytes]], live: list[bytes]) -> None:
    """Recorded and live ones; the host's keep their size, and are sent once for each that was said."""
    frames: list[NetworkFrame] = []
    for said, *answers in recorded:
        frames.append(NetworkFrame(0, 0, "NIC", False, said, None, "VALID", 0, sequence=len(frames) + 1))
        for data in answers:
            frames.append(NetworkFrame(0, 0, "NIC", True, data, None, "MISSING", 0, sequence=len(frames) + 1))
    device = RecordedDevice("NIC", SyntheticNic.interface, UUID(int=2), 1, list(frames))
    result = Result()
    nic = build_adapter(device, result)
    heard: list[bytes] = []
    nic.deliver = lambda frame: heard.append(frame.data)  # type: ignore[method-assign]
    nic.control.packet_filter = 0x20
    for data in (*live, *(one.data for one in frames if not one.to_guest)):
        assert nic.traffic.send(Frame(data))
    assert {len(one) for one in heard} <= {len(one.data) for one in frames if one.to_guest}
    assert result.compared == len(live) + len(recorded)
    nic.close()


_numbers_of_tcp = st.integers(0, 7).map(lambda number: (number * 3 + 0xFFFFFFF8) & 0xFFFFFFFF)
_segments = st.builds(
    Segment,
    *(_numbers_of_tcp, _numbers_of_tcp, st.sampled_from((0, 2, 16, 18, 17, 4, 20)), st.binary(max_size=9)),
    *(st.integers(0, 0xFFFF), st.none() | st.integers(0, LARGEST_SCALE)),
)


@SLOW
@given(st.lists(_segments, min_size=1), st.lists(_segments, min_size=1))
def test_connections_of_any_segments(recorded: list[Segment], live: list[Segment]) -> None:
    """Each recorded segment passes at most once, in order."""
    connection = Connection(recorded[0].sequence)
    for segment in recorded:
        connection.add(segment)
    connection.begin(live[0])
    passed: list[int] = []
    for segment in live:
        connection.takes(segment)
        verdict = connection.hear(segment)
        assert 0 <= verdict.place <= len(recorded)
        passed += connection.passed()
    assert passed == list(range(len(passed)))


_names = st.sampled_from(("", "SCSI", "OFFER_CHANNEL", "OPEN_CHANNEL", "INITIATE_CONTACT"))
_numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(-5, 5000))
_small = st.integers(0, 3)
_made_up = st.one_of(
    st.builds(BusMessage, _numbers, _small, st.booleans(), _names, st.binary(max_size=250)),
    st.builds(GpadlChange, _numbers, _small, _small, _names, _numbers, st.booleans(), _numbers),
    st.builds(
        ChannelState,
        *(_numbers, _small, _small, _names, st.booleans()),
        *(
            st.sampled_from([one.interface for one in events() if isinstance(one, RingPacket)][:1]),
            st.uuids(),
        ),
        *(_small, _numbers, _numbers, _numbers, _numbers),
    ),
    st.builds(
        RingPacket,
        *(_numbers, _small, _small, _names, st.booleans(), st.sampled_from((6, 7, 9, 11, 0, -1, 1 << 16))),
        *(_numbers, st.binary(max_size=80), st.lists(_numbers, max_size=3).map(tuple)),
        *(st.sampled_from([one.interface for one in events() if isinstance(one, RingPacket)][:1]), _small),
        wants_completion=st.booleans(),
        data=st.binary(max_size=40),
    ),
)


@SLOW
@given(st.lists(_made_up, max_size=30), st.sampled_from(("guest", "host")))
def test_made_up_recordings_are_played_or_refused(recorded: list[Event], side: str) -> None:
    play(recorded, side)


def test_a_file_that_was_cut_short_is_played_up_to_there(tmp_path: Any) -> None:
    path = unpacked(tmp_path)
    whole = path.read_bytes()
    sent = []
    for cut in range(0, len(whole), len(whole) // 12):
        path.write_bytes(whole[:cut])
        with contextlib.suppress(RingminusError), open_capture(path) as source:
            recording = Recording(source)
            device = recording.device(None)
            player = GuestReplay(device, make(device).device, recording.version)
            result = player.run()
            player.close()
            sent.append(result.sent)
            # what was there of it is the same, but for what was read only after the cut
            assert all(one.what in ("changed", "missing") for one in result.differences)
    assert sent == sorted(sent) and sent[-1] > 50
