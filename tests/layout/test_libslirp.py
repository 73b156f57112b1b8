"""libslirp's structures against its own header, where that and a compiler are."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from ringminus.switch.nat import library

HEADERS = [
    header
    for place in ("/usr/include/slirp", "/usr/local/include/slirp")
    if (header := Path(place, "libslirp.h")).exists()
]
STRUCTURES = {
    "SlirpConfig": library.SlirpConfig,
    "SlirpCb": library.SlirpCb,
    "struct in_addr": library.InAddr,
    "struct in6_addr": library.In6Addr,
    "struct sockaddr_in6": library.SockaddrIn6,
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """What the compiler says, in the order of `expected`."""
    if not HEADERS or shutil.which("gcc") is None:
        pytest.skip("needs gcc and libslirp's header (Debian's libslirp-dev)")
    terms = [
        f"offsetof({name}, {field[0]}), sizeof((({name} *)0)->{field[0]})"
        for name, structure in STRUCTURES.items()
        for field in structure._fields_
        if field[0] not in ("s_addr", "s6_addr")
    ]
    terms += [f"(size_t)SLIRP_POLL_{event.name}" for event in library.Poll]
    lines = "".join(f'printf("%zu %zu\\n", {term});' for term in terms if "offsetof" in term)
    lines += "".join(f'printf("%zu\\n", {term});' for term in terms if "offsetof" not in term)
    folder = tmp_path_factory.mktemp("libslirp")
    source = folder / "layout.c"
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{HEADERS[0]}"\nint main(void) {{ {lines} }}\n'
    )
    subprocess.run(["gcc", "-o", folder / "layout", source], check=True)
    out = subprocess.run([folder / "layout"], check=True, text=True, stdout=subprocess.PIPE).stdout
    return [int(word) for word in out.split()]


def test_fields_are_where_the_header_has_them(said: list[int]) -> None:
    expected: list[int] = []
    for structure in STRUCTURES.values():
        for name, *_ in structure._fields_:
            if name not in ("s_addr", "s6_addr"):
                field = getattr(structure, name)
                expected += [field.offset, field.size]
    assert said == expected + [int(event) for event in library.Poll]


def test_addresses_are_as_large_and_as_aligned() -> None:
    assert (ctypes.sizeof(library.InAddr), ctypes.alignment(library.InAddr)) == (4, 4)
    assert (ctypes.sizeof(library.In6Addr), ctypes.alignment(library.In6Addr)) == (16, 4)
