"""A guest's process and who watches it: what passes, what is lost, and what happens to those who lie."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringminus.errors import ConfigError, HostError
from ringminus.lens import live, watchers
from ringminus.lens.guests import NoSuchGuest, guests, place_of, take_free_name, take_name
from ringminus.lens.hub import MOST_WATCHERS, Hub
from ringminus.lens.live import LiveSource, connect
from ringminus.lens.live_wire import (
    HOT_HEADER,
    LARGEST_REQUEST,
    Body,
    Farewell,
    Hello,
    Inbox,
    Kind,
    LiveError,
    Lost,
    MessageHeader,
    Request,
    Response,
    Watch,
    Welcome,
    pack,
    unpack,
)
from ringminus.lens.source import Source
from ringminus.tap import ChannelState, Event, EventSignal, Interrupt, Tap, VmExit
from support.links import own_runtime_directory

OPEN = ChannelState(5, 0, 3, "NIC 0", True, UUID(int=1), UUID(int=2), 0, 0x2003, 3, 4096, 4096)


@pytest.fixture(autouse=True)
def runtime() -> Iterator[Path]:
    with own_runtime_directory() as directory:
        yield directory


@asynccontextmanager
async def guest(name: str = "box") -> AsyncIterator[tuple[Hub, Tap]]:
    """A guest's process, as far as watchers see it; the block runs on its loop."""
    tap = Tap()
    hub = Hub(tap, *take_name(name), channels=lambda: [OPEN])
    hub.open()
    try:
        yield hub, tap
    finally:
        await hub.close("the guest powered off")


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(main())


async def watch(name: str, *points: str) -> LiveSource:
    return await asyncio.to_thread(connect, name, points)


async def read(source: LiveSource, count: int = 1 << 30) -> list[Event]:
    """So many events, or all to the end."""

    def take() -> list[Event]:
        found = []
        for event in source:
            found.append(event)
            if len(found) == count:
                break
        return found

    return await asyncio.to_thread(take)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_a_watcher_gets_the_events_of_the_points_that_he_asks_for() -> None:
    async def scenario() -> None:
        async with guest() as (hub, tap):
            assert tap.exits is None
            source = await watch("box", "exits", "interrupts")
            assert isinstance(source, Source)
            assert (source.partition, source.pid) == ("box", os.getpid())
            await until(lambda: tap.exits is not None)
            assert tap.signals is None
            assert tap.interrupts is not None
            tap.interrupts(Interrupt(1, 0, 0xF3, "sint2"))
            assert tap.exits is not None
            tap.exits(VmExit(2, 0, "cpuid", 3, 4, 5))
            found = await read(source, 2)
            assert found == [Interrupt(1, 0, 0xF3, "sint2"), VmExit(2, 0, "cpuid", 3, 4, 5)]
            assert [one.sequence for one in found] == [1, 2]
            source.close()
            await until(lambda: tap.exits is None and not hub.watchers)

    play(scenario)


def test_other_points_can_be_asked_for_later() -> None:
    async def scenario() -> None:
        async with guest() as (_, tap):
            source = await watch("box", "exits")
            await until(lambda: tap.exits is not None)
            await asyncio.to_thread(source.watch, ["signals"])
            await until(lambda: tap.signals is not None)
            assert tap.exits is None
            assert tap.signals is not None
            tap.signals(EventSignal(0, 0, 2, 3, True))
            assert await read(source, 1) == [EventSignal(0, 0, 2, 3, True)]
            source.close()

    play(scenario)


def test_who_comes_later_is_told_of_the_channels_that_are_open() -> None:
    async def scenario() -> None:
        async with guest():
            source = await watch("box", "channels")
            (found,) = await read(source, 1)
            assert found == OPEN
            assert found.sequence == 0
            source.close()

    play(scenario)


def test_several_watch_at_once_and_hear_how_it_ended() -> None:
    async def scenario() -> None:
        async with guest() as (hub, tap):
            sources = [await watch("box", "exits") for _ in range(3)]
            await until(lambda: hub.watchers == 3 and tap.exits is not None)
            await asyncio.sleep(0.05)  # each has said what it wants
            assert tap.exits is not None
            for number in range(500):
                tap.exits(VmExit(number, 0, "cpuid", 3, 4, 5))
            reading = [asyncio.ensure_future(read(source)) for source in sources]
        for source, result in zip(sources, reading, strict=True):
            found = await result
            assert [one.time for one in found] == list(range(500))
            assert source.ended == "the guest powered off"
            assert source.lost == 0
            source.close()

    play(scenario)


def test_a_slow_watcher_loses_events_and_is_told_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "QUEUE", 4096)
    monkeypatch.setattr(watchers, "SOCKET_BUFFER", 4096)

    async def scenario() -> None:
        async with guest() as (_, tap):
            source = await watch("box", "exits")
            await until(lambda: tap.exits is not None)
            assert tap.exits is not None
            sent = 5000
            for number in range(sent):  # nobody reads meanwhile, and this does not wait
                tap.exits(VmExit(number, 0, "cpuid", 3, 4, 5))
            reading = asyncio.ensure_future(read(source))
            await asyncio.sleep(0.05)
            tap.exits(VmExit(sent, 0, "cpuid", 3, 4, 5))
        found = await reading
        assert source.lost > 0
        assert len(found) + source.lost == sent + 1
        assert [one.time for one in found] == sorted(one.time for one in found)
        source.close()

    play(scenario)


def test_an_event_that_cannot_be_told_of_is_lost_and_the_guest_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with guest() as (_, tap):
            source = await watch("box", "exits")
            await until(lambda: tap.exits is not None)
            assert tap.exits is not None
            tap.exits(VmExit(1, 0, "cpuid", 1 << 70, 4, 5))
            tap.exits(VmExit(2, 0, "cpuid", 3, 4, 5))
            assert [one.time for one in await read(source, 1)] == [2]
            assert source.lost == 1
            source.close()

    play(scenario)
    assert "cannot be recorded" in caplog.text


def test_a_question_is_answered_before_during_and_after_reading() -> None:
    async def scenario() -> None:
        async with guest() as (hub, tap):

            def refuse(arguments: dict[str, object]) -> object:
                raise ConfigError(f"not {arguments['what']}")

            hub.operations |= {"double": lambda arguments: 2 * arguments["value"], "refuse": refuse}
            source = await watch("box", "exits")
            assert await asyncio.to_thread(source.request, "double", value=21) == 42
            reading = asyncio.ensure_future(read(source))
            await until(lambda: source._iterating)
            assert await asyncio.to_thread(source.request, "double", value="ab") == "abab"
            with pytest.raises(ConfigError, match="not that"):
                await asyncio.to_thread(source.request, "refuse", what="that")
            with pytest.raises(ConfigError, match="does not know how to dance"):
                await asyncio.to_thread(source.request, "dance")
            assert tap.exits is not None
            tap.exits(VmExit(1, 0, "cpuid", 3, 4, 5))
            source.close()
            assert len(await reading) <= 1

    play(scenario)


def test_closing_ends_who_reads_in_another_thread() -> None:
    async def scenario() -> None:
        async with guest() as (hub, _):
            source = await watch("box", "exits")
            reading = asyncio.ensure_future(read(source))
            await until(lambda: source._iterating)
            source.close()
            source.close()
            assert await reading == []
            assert source.ended == ""
            await until(lambda: hub.watchers == 0)

    play(scenario)


def test_closing_ends_who_waits_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PATIENCE", 60.0)

    async def scenario() -> None:
        async with guest():
            source = await watch("box", "exits")
            reading = asyncio.ensure_future(read(source))
            await until(lambda: source._iterating)
            monkeypatch.setattr(source, "_hear", lambda message: None)  # no answer is ever heard
            asking = asyncio.ensure_future(asyncio.to_thread(source.request, "describe"))
            await until(source._asking.locked)
            source.close()
            with pytest.raises(HostError, match="does not answer"):
                await asyncio.wait_for(asking, 30)
            await reading

    play(scenario)


def raw(name: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(os.fspath(place_of(name).socket))
    connection.settimeout(10)
    return connection


def all_of(connection: socket.socket) -> bytes:
    found = b""
    while data := connection.recv(65536):
        found += data
    return found


def messages(data: bytes) -> list[object]:
    inbox, found = Inbox(), []
    inbox.add(data)
    while (one := inbox.next()) is not None:
        found.append(unpack(*one))
    return found


@pytest.mark.parametrize(
    "lies",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        pack(Watch(["exits"])),
        pack(Hello(99)),
        pack(Hello(1)) + pack(Hello(1)),
        pack(Hello(1)) + pack(Lost(3)),
        HOT_HEADER.pack(LARGEST_REQUEST + 1, Kind.HELLO),
        HOT_HEADER.pack(3, Kind.HELLO) + b"abc",
        HOT_HEADER.pack(0, 77),
    ],
)
def test_who_breaks_the_protocol_loses_his_connection_alone(lies: bytes) -> None:
    async def scenario() -> None:
        async with guest() as (hub, tap):
            honest = await watch("box", "exits")
            await until(lambda: tap.exits is not None)
            liar = raw("box")
            liar.sendall(lies)
            told = messages(await asyncio.to_thread(all_of, liar))
            liar.close()
            assert isinstance(told[-1], Farewell)
            assert hub.watchers == 1
            assert tap.exits is not None
            tap.exits(VmExit(1, 0, "cpuid", 3, 4, 5))
            assert len(await read(honest, 1)) == 1
            honest.close()

    play(scenario)


def test_a_guest_takes_so_many_watchers_and_no_more() -> None:
    async def scenario() -> None:
        async with guest() as (hub, _):
            sources = [await watch("box") for _ in range(MOST_WATCHERS)]
            with pytest.raises(HostError, match=f"{MOST_WATCHERS} watch this guest already"):
                await watch("box")
            sources.pop().close()
            await until(lambda: hub.watchers < MOST_WATCHERS)
            sources.append(await watch("box"))
            for source in sources:
                source.close()

    play(scenario)


def serve_once(name: str, answer: bytes) -> threading.Thread:
    """A process that says `answer` to whoever comes, and leaves."""
    place, _ = take_name(name)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(os.fspath(place.socket))
    listening.listen()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection, listening:
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "ended meanwhile"),
        (pack(Farewell("go away")), "go away"),
        (pack(Lost(1)), "answers with Lost"),
        (HOT_HEADER.pack(0, 77), "kind 77"),
        (pack(Welcome(1, "liar", 1, b"nonsense")), "no schema of events"),
    ],
)
def test_a_process_that_is_no_guest_is_told_from_one(answer: bytes, problem: str) -> None:
    thread = serve_once("liar", answer)
    with pytest.raises(HostError, match=problem):
        connect("liar")
    thread.join()


def test_a_guest_that_is_not_there() -> None:
    with pytest.raises(NoSuchGuest, match="none runs; ringminus run --name box"):
        connect("box")

    async def scenario() -> None:
        async with guest("other"):
            with pytest.raises(NoSuchGuest, match="no guest box; those that run: other"):
                connect("box")

    play(scenario)


def test_a_name_has_one_guest_and_is_free_again_after_it() -> None:
    async def scenario() -> None:
        async with guest():
            assert [one.name for one in guests()] == ["box"]
            with pytest.raises(ConfigError, match="there is a guest box already"):
                take_name("box")
            place, lock = take_free_name([Path("/some/box.vhdx")])
            assert place.name == f"box-{os.getpid()}"
            os.close(lock)
        assert guests() == []
        async with guest():
            assert [one.name for one in guests()] == ["box"]

    play(scenario)
    assert guests() == []
    assert list(place_of("box").directory.iterdir()) == []


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["/a/root.vhdx", "/a/vmlinuz"], "root"),
        (["/a/vmlinuz"], "vmlinuz"),
        (["/a/Müll & Söhne.vhdx"], "M-ll-S-hne"),
        (["/a/" + "x" * 60 + ".raw"], "x" * 32),
        (["/a/.hidden.raw"], "hidden"),
        (["/a/äöü"], "guest"),
        ([], "guest"),
    ],
)
def test_a_guest_without_a_name_has_that_of_its_disk(files: list[str], name: str) -> None:
    place, lock = take_free_name([Path(one) for one in files])
    assert place.name == name
    os.close(lock)


def test_what_a_killed_guest_left_is_deleted() -> None:
    place = place_of("dead")
    place.socket.touch()
    place.lock.touch()
    assert guests() == []
    assert not place.socket.exists()


@pytest.mark.parametrize("name", ["", "../box", "a b", "x" * 33])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a guest"):
        take_name(name)


def test_the_codec_of_headers_is_their_structure() -> None:
    header = MessageHeader(length=0x01020304, kind=5)
    assert HOT_HEADER.pack(0x01020304, 5) == header.pack()
    assert HOT_HEADER.size == MessageHeader.SIZE


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_stream_is_messages_or_a_typed_error(pieces: list[bytes]) -> None:
    inbox = Inbox(64)
    try:
        for piece in pieces:
            inbox.add(piece)
            while (found := inbox.next()) is not None:
                unpack(*found)
    except LiveError:
        pass


@given(st.data())
def test_messages_come_out_as_they_went_in_however_they_are_cut(data: st.DataObject) -> None:
    bodies: list[Body] = [Hello(1), Watch(["exits"]), Lost(5), Request("x", {"a": 1}), Response([1], "no")]
    stream = b"".join(map(pack, bodies))
    inbox, found = Inbox(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        inbox.add(stream[:size])
        stream = stream[size:]
        while (one := inbox.next()) is not None:
            found.append(unpack(*one))
    assert found == bodies
