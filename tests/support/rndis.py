"""A guest that speaks RNDIS to an adapter's control channel, and reads the answers by our declarations."""

from __future__ import annotations

from typing import Any

from ringminus.devices.network.control import LARGEST_MESSAGE, RndisControl
from ringminus.devices.network.rndis_wire import (
    HEADER_SIZE,
    HaltRequest,
    IndicateStatus,
    InitializeComplete,
    InitializeRequest,
    KeepaliveComplete,
    MessageHeader,
    MessageType,
    QueryComplete,
    QueryRequest,
    ResetComplete,
    SetComplete,
    SetExComplete,
    SetRequest,
    Status,
)
from ringminus.wire import Struct

ADDRESS = bytes.fromhex("00155d010203")

ANSWERS: dict[int, type[Struct]] = {
    MessageType.INIT_C: InitializeComplete,
    MessageType.QUERY_C: QueryComplete,
    MessageType.SET_C: SetComplete,
    MessageType.SET_EX_C: SetExComplete,
    MessageType.RESET_C: ResetComplete,
    MessageType.INDICATE: IndicateStatus,
    MessageType.KEEPALIVE_C: KeepaliveComplete,
}
"""What an adapter may send, besides packets."""


def message(kind: int, body: bytes, length: int | None = None) -> bytes:
    """A message of the guest; `length` is what it says of itself."""
    told = HEADER_SIZE + len(body) if length is None else length
    return MessageHeader(ndis_msg_type=kind, msg_len=told).pack() + body


def decode(answer: bytes) -> tuple[MessageType, Any, bytes]:
    """A message of the adapter, checked as Linux checks it: type, body, information buffer."""
    header = MessageHeader.unpack(answer)
    assert header.msg_len == len(answer) <= LARGEST_MESSAGE
    kind = MessageType(header.ndis_msg_type)
    body = answer[HEADER_SIZE:]
    structure = ANSWERS[kind]
    found: Any = structure.unpack(body)
    assert found.status in Status.__members__.values()
    if isinstance(found, QueryComplete | SetExComplete):
        length, offset = found.info_buflen, found.info_buf_offset
    elif isinstance(found, IndicateStatus):
        length, offset = found.status_buflen, found.status_buf_offset
    else:
        length, offset = 0, 0
    if not length:
        assert len(body) == structure.SIZE
        return kind, found, b""
    assert offset >= structure.SIZE and offset + length == len(body)
    return kind, found, body[offset:]


class RndisGuest:
    """A guest of `control`, of one with `subchannels` if none is given."""

    def __init__(self, control: RndisControl | None = None, *, subchannels: int = 3) -> None:
        self.control = control or RndisControl(
            ADDRESS, "Network Adapter 1", largest_mtu=65521, subchannels=subchannels
        )
        self.request = 0
        self.indications: list[tuple[Status, bytes]] = []
        self.addresses: list[bytes] = []
        self.filters: list[int] = []
        self.control.on_address = self.addresses.append
        self.control.on_filter = self.filters.append

    def send(self, kind: int, body: bytes) -> list[tuple[MessageType, Any, bytes]]:
        """Send a message; returns the answers."""
        return [decode(answer) for answer in self.control.receive(memoryview(message(kind, body)))]

    def initialize(self, major: int = 1) -> InitializeComplete:
        self.request += 1
        request = InitializeRequest(req_id=self.request, major_ver=major, max_xfer_size=0x4000)
        ((kind, answer, _),) = self.send(MessageType.INIT, request.pack())
        assert kind is MessageType.INIT_C and answer.req_id == self.request
        assert isinstance(answer, InitializeComplete)
        return answer

    def halt(self) -> None:
        self.request += 1
        assert self.send(MessageType.HALT, HaltRequest(req_id=self.request).pack()) == []

    def query(self, oid: int, info: bytes = b"") -> tuple[Status, bytes]:
        """Status and answer."""
        self.request += 1
        request = QueryRequest(
            req_id=self.request, oid=oid, info_buflen=len(info), info_buf_offset=QueryRequest.SIZE
        )
        ((kind, answer, found),) = self.send(MessageType.QUERY, request.pack() + info)
        assert kind is MessageType.QUERY_C and answer.req_id == self.request
        return Status(answer.status), found

    def ask(self, oid: int, info: bytes = b"") -> bytes:
        """The answer to a query that must succeed."""
        status, found = self.query(oid, info)
        assert status is Status.SUCCESS
        return found

    def number(self, oid: int) -> int:
        """An answer that is a number of 32 bits."""
        found = self.ask(oid)
        assert len(found) == 4
        return int.from_bytes(found, "little")

    def set(self, oid: int, info: bytes) -> Status:
        """Status; indications that follow are kept."""
        self.request += 1
        request = SetRequest(
            req_id=self.request, oid=oid, info_buflen=len(info), info_buf_offset=SetRequest.SIZE
        )
        (kind, answer, _), *others = self.send(MessageType.SET, request.pack() + info)
        assert kind is MessageType.SET_C and answer.req_id == self.request
        for kind, indicated, payload in others:
            assert kind is MessageType.INDICATE
            self.indications.append((Status(indicated.status), payload))
        return Status(answer.status)
