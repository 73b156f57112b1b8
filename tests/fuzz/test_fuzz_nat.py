"""A hostile guest behind NAT: whatever frames it sends, the process that has libslirp in it lives on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ringminus.errors import HostError
from ringminus.switch.frame import Checksum
from ringminus.switch.nat import library
from ringminus.switch.wire import IpProtocol, UdpHeader
from support.nat_guest import ADDRESS, ADDRESS6, DNS, HOST, HOST6, MAC, ROUTER, icmp, icmpv6, ip_frame
from support.nat_worker import PORT, Step, Worker

FULL = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
ELSEWHERE, ELSEWHERE6 = bytes((192, 0, 2, 1)), bytes.fromhex("20010db8") + bytes(11) + b"\1"
ALL_NODES = bytes.fromhex("ff02") + bytes(13) + b"\1"
LINK_LOCAL = bytes.fromhex("fe80") + bytes(13) + b"\x15"
MSS = b"\2\4\5\xb4"


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    try:
        library.load()
    except HostError as error:
        pytest.skip(str(error))
    if why := Worker.why_not():
        pytest.skip(f"no namespace of its own: {why}")
    made = Worker()
    yield made
    made.close()


# ------------------------------------------------------------------ what a guest may send

u8, u16, u32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
addresses = st.sampled_from((ADDRESS, HOST, DNS, ELSEWHERE, b"\xff" * 4, bytes(4), bytes((127, 0, 0, 1))))
addresses6 = st.sampled_from((ADDRESS6, HOST6, ELSEWHERE6, ALL_NODES, LINK_LOCAL, bytes(16)))
payloads = st.binary(max_size=40) | st.integers(0, 60_000).map(bytes)
ports = st.sampled_from((PORT, 53, 67, 68, 69, 547, 1)) | u16
states = st.sampled_from(Checksum)


def tcp(
    source: int,
    port: int,
    sequence: int,
    acknowledgment: int,
    flags: int,
    window: int,
    urgent: int,
    options: bytes,
    data: bytes,
    words: int | None,
) -> bytes:
    options += bytes(-len(options) % 4)
    size = 5 + len(options) // 4 if words is None else words
    header = b"".join(
        number.to_bytes(width, "big")
        for number, width in (
            (source, 2),
            (port, 2),
            (sequence, 4),
            (acknowledgment, 4),
            (size % 16 << 12 | flags, 2),
            (window, 2),
            (0, 2),
            (urgent, 2),
        )
    )
    return header + options + data


# few connections, and numbers that lie near each other: libslirp begins at 1 and adds 64,000 each
near = st.integers(0, 4) | st.integers(64_000, 64_004) | st.integers(128_000, 128_004) | u32
segments = st.builds(
    tcp,
    st.sampled_from((40000, 40001)),
    st.sampled_from((PORT, PORT, PORT, 9)),
    near,
    near,
    st.sampled_from((0x02, 0x02, 0x10, 0x10, 0x18, 0x11, 0x04, 0x14, 0x12, 0x30)) | u8,
    st.sampled_from((65535, 0, 1)) | u16,
    st.just(0) | u16,
    st.sampled_from((b"", MSS, b"\2\4\0\1", b"\2\4\0\0", b"\1\1\1")) | st.binary(max_size=40),
    payloads,
    st.none() | st.none() | st.integers(0, 15),
)


def datagram(source: int, port: int, data: bytes, length: int | None, checksum: int) -> bytes:
    size = UdpHeader.SIZE + len(data) if length is None else length
    return (
        UdpHeader(source_port=source, destination_port=port, length=size & 0xFFFF, checksum=checksum).pack()
        + data
    )


def dhcp(kind: int, mac: bytes, options: bytes) -> bytes:
    body = b"\1\1\6\0" + bytes(24) + mac + bytes(202) + bytes.fromhex("63825363") + bytes((53, 1, kind))
    return datagram(68, 67, body + options, None, 0)


datagrams = st.builds(
    datagram, st.sampled_from((40000, 546)), ports, payloads, st.none() | st.none() | u16, st.just(0) | u16
) | st.builds(dhcp, st.integers(0, 9), st.binary(min_size=6, max_size=6), st.binary(max_size=80))


def _ipv4(
    source: bytes, destination: bytes, packet: tuple[int, bytes], fragment: int, id: int, cut: int | None
) -> bytes:
    return ip_frame(source, destination, *packet, fragment=fragment, id=id)[:cut]


def _ipv6(source: bytes, destination: bytes, packet: tuple[int, bytes], cut: int | None) -> bytes:
    protocol, body = packet
    if protocol == IpProtocol.ICMPV6:
        body = icmpv6(body[0], body[1:], source, destination)
    return ip_frame(source, destination, protocol, body)[:cut]


echoes = st.builds(icmp, st.sampled_from((0, 3, 8, 11, 13)) | u8, payloads)
neighbours = st.builds(
    lambda kind, body: bytes((kind,)) + body, st.sampled_from((128, 133, 134, 135, 136, 137)) | u8, payloads
)
cuts = st.none() | st.none() | st.none() | st.integers(0, 90)
fragments = st.sampled_from((0, 0, 0, 0x2000, 0x2001, 0x0001, 0x00B9, 0x20B9, 0x1FFF, 0x4000)) | u16


def of(protocol: int, bodies: st.SearchStrategy[bytes]) -> st.SearchStrategy[tuple[int, bytes]]:
    return st.tuples(st.just(protocol), bodies)


packets = of(IpProtocol.TCP, segments) | of(IpProtocol.UDP, datagrams)
ipv4 = st.builds(
    _ipv4,
    st.just(ADDRESS) | addresses,
    st.just(HOST) | addresses,
    packets | of(IpProtocol.ICMP, echoes) | st.tuples(u8, payloads),
    st.just(0) | fragments,
    st.integers(1, 2),
    cuts,
)
ipv6 = st.builds(
    _ipv6,
    st.just(ADDRESS6) | addresses6,
    st.just(HOST6) | addresses6,
    packets | of(IpProtocol.ICMPV6, neighbours) | st.tuples(u8, payloads),
    cuts,
)


def arp_of(sender: bytes, target: bytes, operation: int = 1) -> bytes:
    head = b"\xff" * 6 + MAC + bytes.fromhex("0806000108000604") + operation.to_bytes(2, "big")
    return head + MAC + sender + bytes(6) + target


arp = st.builds(
    lambda sender, target, operation, cut: arp_of(sender, target, operation)[:cut],
    addresses,
    addresses,
    st.sampled_from((1, 2)) | u8,
    cuts,
)
anything = st.binary(max_size=200) | st.builds(
    lambda kind, rest: ROUTER + MAC + kind + rest,
    st.sampled_from((b"\x08\0", b"\x86\xdd", b"\x08\x06", b"\x88\xf8")),
    st.binary(max_size=200),
)


def _damaged(data: bytes, where: int, what: int) -> bytes:
    return data[: where % len(data)] + bytes((what,)) + data[where % len(data) + 1 :] if data else data


frames = ipv4 | ipv6 | arp
frames = frames | frames | frames | st.builds(_damaged, frames, st.integers(0, 100), u8) | anything
steps = st.builds(
    lambda data, state, size, tci: (data.hex(), int(state), size, tci),
    frames,
    st.just(Checksum.MISSING) | states,
    st.sampled_from((0, 0, 1, 8, 1460)) | u16,
    st.none() | st.none() | st.sampled_from((0, 0xE000, 5)),
)
pauses = st.sampled_from((2, 500, 60_000)).map(lambda milliseconds: ("", milliseconds, 0, None))
scripts = st.lists(steps | steps | steps | pauses, min_size=1, max_size=30)


@FULL
@given(script=scripts)
def test_no_frames_end_the_process(worker: Worker, script: list[Step]) -> None:
    worker.play(script)


PAUSE: Step = ("", 2, 0, None)


def missing(data: bytes) -> Step:
    return data.hex(), int(Checksum.MISSING), 0, None


def opened(source: bytes, destination: bytes) -> list[Step]:
    """It is known where the guest is, and there is a connection: libslirp's first number is 1."""
    here = arp_of(ADDRESS, HOST)
    if len(source) == 16:
        told = icmpv6(136, b"\x60\0\0\0" + source + b"\2\1" + MAC, source, destination)
        here = ip_frame(source, destination, IpProtocol.ICMPV6, told)
    syn = tcp(40000, PORT, 1, 0, 0x02, 65535, 0, MSS, b"", None)
    ack = tcp(40000, PORT, 2, 2, 0x10, 65535, 0, b"", b"", None)
    handshake = [ip_frame(source, destination, IpProtocol.TCP, segment) for segment in (syn, ack)]
    return [missing(here), missing(handshake[0]), PAUSE, missing(handshake[1])]


@FULL
@given(
    version=st.sampled_from((4, 6)),
    bodies=st.lists(
        st.builds(
            tcp,
            st.just(40000),
            st.just(PORT),
            st.integers(1, 5) | st.integers(0, 70_000),
            st.integers(1, 5) | st.integers(0, 200_000),
            st.sampled_from((0x10, 0x18, 0x12, 0x11, 0x38, 0x02)) | u8,
            st.sampled_from((65535, 0, 1, 500)),
            st.just(0) | u16,
            st.sampled_from((b"", MSS, b"\2\4\0\1")),
            payloads,
            st.none(),
        ),
        min_size=1,
        max_size=25,
    ),
)
def test_no_segments_of_a_connection_end_the_process(
    worker: Worker, version: int, bodies: list[bytes]
) -> None:
    ends = (ADDRESS, HOST) if version == 4 else (ADDRESS6, HOST6)
    script = opened(*ends)
    script += [missing(ip_frame(*ends, IpProtocol.TCP, body)) for body in bodies]
    worker.play(script)


def test_a_connection_of_the_scripts_is_one(worker: Worker) -> None:
    """What is sent on it comes back three times."""
    for ends in ((ADDRESS, HOST), (ADDRESS6, HOST6)):
        data = tcp(40000, PORT, 2, 2, 0x18, 65535, 0, b"", b"echo", None)
        script = [*opened(*ends), missing(ip_frame(*ends, IpProtocol.TCP, data)), PAUSE, PAUSE, PAUSE]
        assert worker.play(script)["tcp_bytes"] == 12
