"""IP packets in Ethernet frames, and what is right of them, said a second time: slowly, and byte by byte."""

from __future__ import annotations

from dataclasses import dataclass

TCP, UDP, ICMP = 6, 17, 1
FIN, SYN, RST, PSH, ACK, CWR = 1, 2, 4, 8, 16, 128
ETHERNET = 14
ADDRESSES = {4: (bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])), 6: (b"\xfd" + bytes(14) + b"\1", b"\xfe" * 16)}


def number(value: int, size: int = 2) -> bytes:
    return value.to_bytes(size, "big")


def ones_complement_sum(data: bytes) -> int:
    """RFC 1071, word by word, with the carry brought round after each."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


@dataclass(frozen=True)
class Packet:
    """A packet of TCP, UDP or something else over IPv4 or IPv6, and where its parts are.

    `ip_options` are those of IPv4, a multiple of 4 bytes; `extensions` IPv6's extension headers, each its
    number and its bytes whose first is replaced by what follows. `field` is what stands in the checksum."""

    version: int = 4
    protocol: int = TCP
    payload: bytes = b""
    flags: int = ACK
    sequence: int = 1000
    options: bytes = b""
    ip_options: bytes = b""
    extensions: tuple[tuple[int, bytes], ...] = ()
    identification: int = 7
    fragment: int = 0
    field: bytes = b"\xde\xad"
    padding: bytes = b""

    @property
    def transport_header(self) -> bytes:
        ports = number(40000) + number(80)
        if self.protocol == TCP:
            words = 5 + len(self.options) // 4
            return (
                ports
                + number(self.sequence, 4)
                + number(77, 4)
                + bytes([words << 4, self.flags])
                + number(512)
                + self.field
                + number(0)
                + self.options
            )
        if self.protocol == UDP:
            return ports + number(8 + len(self.payload)) + self.field
        return b""

    @property
    def transport(self) -> int:
        between = len(self.ip_options) if self.version == 4 else sum(len(one) for _, one in self.extensions)
        return ETHERNET + (20 if self.version == 4 else 40) + between

    @property
    def payload_at(self) -> int:
        return self.transport + len(self.transport_header)

    @property
    def end(self) -> int:
        return self.payload_at + len(self.payload)

    @property
    def field_at(self) -> int:
        return self.transport + (16 if self.protocol == TCP else 6)

    @property
    def ip_header(self) -> bytes:
        source, destination = ADDRESSES[self.version]
        rest = self.end - self.transport
        if self.version == 4:
            words = 5 + len(self.ip_options) // 4
            length = number(words * 4 + rest)
            ip_id = number(self.identification) + number(self.fragment)
            begin = bytes([0x40 | words, 0]) + length + ip_id + bytes([64, self.protocol])
            end = source + destination + self.ip_options
            return begin + number(0xFFFF - ones_complement_sum(begin + end)) + end
        chain = [kind for kind, _ in self.extensions] + [self.protocol]
        extensions = b"".join(
            bytes([following]) + one[1:]
            for following, (_, one) in zip(chain[1:], self.extensions, strict=True)
        )
        length = number(len(extensions) + rest)
        return b"\x60\0\0\0" + length + bytes([chain[0], 64]) + source + destination + extensions

    @property
    def checksum(self) -> bytes:
        """The right one."""
        source, destination = ADDRESSES[self.version]
        whole = self.transport_header + self.payload
        whole = (
            whole[: self.field_at - self.transport] + b"\0\0" + whole[self.field_at - self.transport + 2 :]
        )
        if self.version == 4:
            pseudo = source + destination + bytes([0, self.protocol]) + number(len(whole))
        else:
            pseudo = source + destination + number(len(whole), 4) + bytes([0, 0, 0, self.protocol])
        value = 0xFFFF - ones_complement_sum(pseudo + whole)
        return number(0xFFFF if self.protocol == UDP and value == 0 else value)

    @property
    def data(self) -> bytes:
        """The frame, with `field` for a checksum."""
        kind = number(0x0800 if self.version == 4 else 0x86DD)
        ethernet = b"\x02\0\0\0\0\2" + b"\x02\0\0\0\0\1" + kind
        return ethernet + self.ip_header + self.transport_header + self.payload + self.padding

    @property
    def right(self) -> bytes:
        """The frame, with the right checksum."""
        data = self.data
        return data[: self.field_at] + self.checksum + data[self.field_at + 2 :]
