"""What work on one frame costs, ours alone: microseconds of processor time, frames and megabits a second.

`python bench/frames.py`; as root also what a TAP device costs.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ringminus.errors import HostError
from ringminus.switch import checksum, wire
from ringminus.switch.capture import CaptureFile
from ringminus.switch.checksum import complete, verify
from ringminus.switch.frame import Checksum, Frame
from ringminus.switch.headers import parse
from ringminus.switch.reactor import Reactor
from ringminus.switch.segmentation import segments
from ringminus.switch.tap import TapDevice

SECONDS = 0.3
ROUNDS = 3
PAYLOADS = (64, 1448, 8948, 65160)
SEGMENT = 1448


def tcp_frame(payload: int) -> bytes:
    """TCP over IPv4, with time stamps; its checksum field holds nothing of use."""
    tcp = wire.TcpHeader(source_port=5201, destination_port=40000, sequence=1, offset_and_flags=0x8010)
    length = wire.Ipv4Header.SIZE + wire.TcpHeader.SIZE + 12 + payload
    ip = wire.Ipv4Header(
        version_and_length=0x45,
        total_length=length,
        protocol=wire.IpProtocol.TCP,
        source=bytes([10, 9, 0, 1]),
        destination=bytes([10, 9, 0, 2]),
    )
    ip.checksum = checksum.ipv4_header(ip.pack())
    ethernet = wire.EthernetHeader(
        destination=b"\2\0\0\0\0\1", source=b"\2\0\0\0\0\2", type=wire.EtherType.IPV4
    )
    return ethernet.pack() + ip.pack() + tcp.pack() + bytes(12) + os.urandom(payload)


def measure(work: Callable[[], object]) -> float:
    """Seconds of processor time that it takes, the kernel's included; the least of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        count = 0
        began = now = time.process_time()
        while now < began + SECONDS / ROUNDS:
            for _ in range(10):
                work()
            count += 10
            now = time.process_time()
        best = min(best, (now - began) / count)
    return best


def show(name: str, payload: int, work: Callable[[], object], frames: int = 1) -> None:
    """`frames` says for how many the work is."""
    seconds = measure(work) / frames
    line = f"{name:<34}{payload:>7}{seconds * 1e6:>9.2f}"
    print(f"{line}{1 / seconds:>13,.0f}{payload * 8 / seconds / 1e6:>10,.0f}")


def checksums() -> None:
    for payload in PAYLOADS:
        data = tcp_frame(payload)
        frame = Frame(data, None, Checksum.MISSING)
        right = complete(frame).data
        show("parse", payload, lambda data=data: parse(data))  # type: ignore[misc]
        show("complete a checksum", payload, lambda frame=frame: complete(frame))  # type: ignore[misc]
        show("verify a checksum", payload, lambda right=right: verify(right))  # type: ignore[misc]
        show("sum, in Python alone", payload, lambda data=data: checksum.sum_in_pieces(data))  # type: ignore[misc]


def cutting() -> None:
    large = Frame(tcp_frame(45 * SEGMENT), None, Checksum.MISSING, SEGMENT)
    show("cut a large frame, each segment", SEGMENT, lambda: list(segments(large)), 45)
    show("and complete it", SEGMENT, lambda: [complete(one) for one in segments(large)], 45)


def capturing() -> None:
    with tempfile.TemporaryDirectory() as directory:
        capture = CaptureFile(Path(directory) / "frames.pcap", bytes=1 << 30)
        for payload in PAYLOADS:
            frame = Frame(tcp_frame(payload), None, Checksum.VALID)
            show("capture", payload, lambda frame=frame: capture.deliver(frame))  # type: ignore[misc]
        capture.close()


def tapping() -> None:
    """The interface has no address, so that the kernel drops what it is given."""
    try:
        tap = TapDevice(None, Reactor())
    except HostError as error:
        print(f"no TAP device: {error}")
        return
    for payload in PAYLOADS:
        large = SEGMENT if payload > 9000 else 0
        frame = Frame(tcp_frame(payload), None, Checksum.MISSING, large)
        show("give to a TAP device", payload, lambda frame=frame: tap.deliver(frame))  # type: ignore[misc]
    tap.close()


def main() -> None:
    print(f"{'':<34}{'bytes':>7}{'µs':>9}{'frames/s':>13}{'Mbit/s':>10}")
    checksums()
    cutting()
    capturing()
    tapping()


if __name__ == "__main__":
    main()
