"""Console output and input: nothing waits, nothing is lost, and the end of one is not the end of all."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from ringminus.cli.console import KEPT_LINES, Input, LastLines, Output

PIPE_SIZE = 65536


class Reader:
    """What an `Output` tells."""

    def __init__(self, fd: int) -> None:
        self.told: list[str] = []
        tell = self.told.append
        self.output = Output(fd, lambda: tell("full"), lambda: tell("empty"), tell)


@pytest.fixture
def pipe() -> tuple[int, int]:
    return os.pipe()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def run(main: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(main())


def test_a_full_pipe_does_not_stop_us_and_loses_nothing(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    text = bytes(range(256)) * 1024

    async def main() -> None:
        reader = Reader(write_end)
        for start in range(0, len(text), 1000):
            reader.output.write(text[start : start + 1000])
        assert reader.told == ["full"]
        assert reader.output.waits
        received = b""
        os.set_blocking(read_end, False)  # or an empty pipe would hold the loop that has to fill it
        while len(received) < len(text):
            with contextlib.suppress(BlockingIOError):
                received += os.read(read_end, PIPE_SIZE)
            await asyncio.sleep(0)
        assert received == text
        await until(lambda: not reader.output.waits)
        assert reader.told == ["full", "empty"]

    run(main)


def test_the_pipe_stays_as_others_know_it(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        Reader(pipe[1]).output.write(b"text")

    run(main)
    assert os.get_blocking(pipe[1])
    assert os.read(pipe[0], 10) == b"text"


def test_a_reader_who_leaves_is_told_once(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        reader = Reader(pipe[1])
        os.close(pipe[0])
        reader.output.write(b"one")
        reader.output.write(b"two")
        assert reader.told == ["Broken pipe"]
        assert not reader.output.waits

    run(main)


def test_a_reader_who_leaves_while_something_waits(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        reader = Reader(pipe[1])
        reader.output.write(bytes(2 * PIPE_SIZE))
        os.close(pipe[0])
        await until(lambda: not reader.output.waits)
        assert reader.told == ["full", "Broken pipe", "empty"]

    run(main)


def test_a_file_is_continued_and_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("wb", buffering=0) as file:
        file.write(b"before ")

        async def main() -> None:
            Reader(file.fileno()).output.write(b"after")

        run(main)
    assert path.read_bytes() == b"before after"


class Guest:
    """Takes at most `rate` bytes at a time, and nothing while it is 0."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.got = b""

    def type(self, data: bytes) -> int:
        taken = data[: self.rate]
        self.got += taken
        return len(taken)


def test_a_slow_guest_gets_everything_in_order(pipe: tuple[int, int]) -> None:
    text = bytes(range(256)) * 8

    async def main() -> None:
        guest = Guest(500)
        Input(pipe[0], guest.type, None)
        os.write(pipe[1], text)
        await until(lambda: len(guest.got) == len(text))
        assert guest.got == text

    run(main)


def test_nothing_more_is_read_while_the_guest_takes_nothing(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        guest = Guest(0)
        keys = Input(pipe[0], guest.type, None)
        os.write(pipe[1], bytes(PIPE_SIZE))
        await asyncio.sleep(0.1)
        os.set_blocking(pipe[1], False)
        with pytest.raises(BlockingIOError):
            for _ in range(100):
                os.write(pipe[1], bytes(4096))
        keys.close()

    run(main)


def test_a_file_is_read_to_its_end_once(tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_bytes(b"echo hello\n" * 2000)

    async def main() -> None:
        guest = Guest(777)
        with path.open("rb") as file:
            Input(file.fileno(), guest.type, None)
            await until(lambda: len(guest.got) == path.stat().st_size)
            await asyncio.sleep(0.05)
        assert guest.got == path.read_bytes()

    run(main)


@pytest.mark.parametrize("name", ["/dev/null", "/"])
def test_an_input_that_has_nothing_to_say(name: str) -> None:
    async def main() -> None:
        guest = Guest(10)
        fd = os.open(name, os.O_RDONLY)
        Input(fd, guest.type, None)
        await asyncio.sleep(0.05)
        assert guest.got == b""
        os.close(fd)

    run(main)


def test_only_a_terminal_has_a_key_that_leaves(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        guest, left = Guest(100), asyncio.Event()
        keys = Input(pipe[0], guest.type, None)
        os.write(pipe[1], b"a\x1db")
        await until(lambda: guest.got == b"a\x1db")
        keys.close()
        Input(pipe[0], guest.type, left.set)
        os.write(pipe[1], b"c")
        await until(lambda: guest.got.endswith(b"c"))
        os.write(pipe[1], b"\x1d")
        await asyncio.wait_for(left.wait(), 10)
        assert guest.got == b"a\x1dbc"

    run(main)


def test_the_last_lines_are_kept_and_no_more() -> None:
    lines = LastLines()
    for number in range(1000):
        lines.add(f"line {number}\r\nha".encode())
        lines.add(b"lf ")
    kept = lines.text().split("\n")
    assert len(kept) == KEPT_LINES
    assert kept[-2:] == ["half line 999", "half "]


def test_a_line_without_an_end_does_not_fill_memory() -> None:
    lines = LastLines()
    for _ in range(100):
        lines.add(b"x" * 10_000)
    assert 1000 < len(lines.text()) < 100_000
