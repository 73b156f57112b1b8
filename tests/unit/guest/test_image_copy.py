"""A sparse image becomes a VHDX of equal contents, without its zeros."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ringminus.disks.vhdx import open_vhdx
from ringminus.guest.image_copy import CHUNK, data_ranges, image_to_vhdx


def sparse(path: Path, size: int, pieces: dict[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in pieces.items():
            file.seek(offset)
            file.write(data)
    return path


def read(path: Path, offset: int, length: int) -> bytes:
    data = bytearray(length)
    with open_vhdx(path, read_only=True) as disk:
        disk.read(offset, [memoryview(data)])
    return bytes(data)


def test_data_arrives_where_it_was(tmp_path: Path) -> None:
    size = 16 * CHUNK
    pieces = {0: b"first" * 200, 5 * CHUNK - 512: b"over the edge" * 100, size - 512: b"z" * 512}
    fractions: list[float] = []
    image_to_vhdx(sparse(tmp_path / "image", size, pieces), tmp_path / "disk.vhdx", fractions.append)
    assert read(tmp_path / "disk.vhdx", 0, size) == (tmp_path / "image").read_bytes()
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert fractions == sorted(fractions)


def test_zeros_take_no_room(tmp_path: Path) -> None:
    image = sparse(tmp_path / "image", 64 * CHUNK, {0: bytes(8 * CHUNK), 20 * CHUNK: b"x"})
    image_to_vhdx(image, tmp_path / "disk.vhdx", lambda fraction: None)
    with open_vhdx(tmp_path / "disk.vhdx", read_only=True) as disk:
        assert disk.size == 64 * CHUNK
        assert disk.allocated(0, 64 * CHUNK) == (False, 20 * CHUNK)
        assert disk.allocated(20 * CHUNK, CHUNK)[0]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 39), st.integers(0, CHUNK - 1)), max_size=6), st.integers(0, 4095))
def test_ranges_cover_all_data_and_never_overlap(places: list[tuple[int, int]], rest: int) -> None:
    size = 40 * CHUNK + rest
    with tempfile.TemporaryDirectory() as directory:
        pieces = {chunk * CHUNK + within: b"x" for chunk, within in places}
        image = sparse(Path(directory) / "image", size, pieces)
        with image.open("rb") as file:
            ranges = list(data_ranges(file.fileno(), size))
    assert all(start < end <= size for start, end in ranges)
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(ranges))
    assert all(any(start <= place < end for start, end in ranges) for place in pieces)
