"""NVSP as a state machine: a message in, what to answer and to do out.

    INIT --INIT, of a version that we speak--> SETUP
    SETUP --SEND_NDIS_CONFIG, SEND_NDIS_VER, SEND_RECV_BUF, SEND_SEND_BUF, once each--> READY
    READY --REVOKE_RECV_BUF, REVOKE_SEND_BUF--> SETUP

A version that we do not speak leaves the state as it is: the guest asks for the next. READY needs the NDIS
version and both buffers; the configuration is optional. The data path is open then, and sub-channels may be
asked for. The primary channel carries these messages; it is opened anew for every change of the MTU.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ringminus.devices.network import wire
from ringminus.devices.network.buffers import (
    SECTION_SIZE,
    ReceiveBuffer,
    SendBuffer,
    sub_allocation_size,
)
from ringminus.devices.network.rndis_wire import Status as NdisStatus
from ringminus.devices.network.wire import Capability, MessageType, Status, SubchannelOperation, Version
from ringminus.errors import GuestError
from ringminus.memory import GuestMemory
from ringminus.vmbus.gpa import GpaRange
from ringminus.wire import Struct

ETHERNET_HEADER = 14
DEFAULT_FRAME = 1500 + ETHERNET_HEADER
SMALLEST_FRAME, LARGEST_FRAME = 68 + ETHERNET_HEADER, 65535
"""What a guest may say of its largest frame: IPv4's least, and Linux's most."""


class BufferOwner(Protocol):
    """The channel on which a guest's buffers are (see `vmbus.device.Channel`)."""

    memory: GuestMemory

    def gpadl(self, handle: int) -> Sequence[GpaRange]:
        """Raises `GuestError`."""


class State(enum.Enum):
    """How far a guest is."""

    INIT = "init"
    SETUP = "setup"
    READY = "ready"


def name_of(kind: int) -> str:
    """A message's name."""
    return MessageType(kind).name if kind in set(MessageType) else f"message {kind}"


class OutOfOrder(GuestError):
    """A message that its state does not allow."""

    def __init__(self, state: State, kind: int, why: str = "") -> None:
        super().__init__(f"{name_of(kind)} in state {state.name}{why}")


@dataclass(frozen=True, slots=True)
class Reply:
    """The completion's payload, for guests that want one; `subchannels` are to be offered then."""

    payload: bytes = b""
    subchannels: int = 0


class Step(NamedTuple):
    """A message: the first version that has it, the states that allow it, what it does."""

    version: int
    states: frozenset[State]
    take: Callable[[Handshake, BufferOwner, memoryview], Reply]


class Handshake:
    """One guest's. `max_subchannels` is what we offer at most (0: one channel only).

    `version` is the negotiated one (0: none yet), `largest_frame` counts bytes with the Ethernet header,
    `capability` is what the guest said of itself."""

    def __init__(self, max_subchannels: int = 0) -> None:
        self.max_subchannels = max_subchannels
        self.reset()

    def reset(self) -> None:
        """Begin anew, and let go of the guest's memory."""
        self.state = State.INIT
        self.version = 0
        self.largest_frame = DEFAULT_FRAME
        self.capability = Capability(0)
        self.configured = False
        self.ndis_version: tuple[int, int] | None = None
        self.subchannels = 0
        self.receive_buffer: ReceiveBuffer | None = None
        self.send_buffer: SendBuffer | None = None

    def receive(self, owner: BufferOwner, payload: memoryview) -> Reply:
        """Take one message; raises `OutOfOrder`, and `GuestError` for what it may not say."""
        kind = wire.MessageHeader.unpack(payload).msg_type
        step = STEPS.get(kind)
        if step is None or self.state not in step.states:
            raise OutOfOrder(self.state, kind)
        if self.version < step.version:
            raise OutOfOrder(self.state, kind, f" of version {self.version:#x}")
        return step.take(self, owner, payload[wire.MessageHeader.SIZE :])

    def lose(self, handle: int) -> bool:
        """The guest takes a GPADL back; tells whether it was a buffer's."""
        found = False
        if self.receive_buffer is not None and self.receive_buffer.handle == handle:
            self.receive_buffer, found = None, True
        if self.send_buffer is not None and self.send_buffer.handle == handle:
            self.send_buffer, found = None, True
        self._judge()
        return found

    def _answer(self, kind: MessageType, body: Struct, subchannels: int = 0) -> Reply:
        return Reply(wire.message(kind, body, self.version), subchannels)

    def _judge(self) -> None:
        if self.state is not State.INIT:
            there = self.ndis_version and self.receive_buffer and self.send_buffer
            self.state = State.READY if there else State.SETUP

    # ------------------------------------------------------------ setting up

    def _init(self, owner: BufferOwner, body: memoryview) -> Reply:
        asked = wire.Init.unpack(body)
        known = [one for one in Version if asked.min_protocol_ver <= one <= asked.max_protocol_ver]
        if known:
            self.version = max(known)
            self.state = State.SETUP
            status = Status.SUCCESS
        elif asked.min_protocol_ver > max(Version):
            status = Status.PROTOCOL_TOO_NEW
        elif asked.max_protocol_ver < min(Version):
            status = Status.PROTOCOL_TOO_OLD
        else:
            status = Status.PROTOCOL_UNSUPPORTED
        answer = wire.InitComplete(negotiated_protocol_ver=self.version, status=status)
        return self._answer(MessageType.INIT_COMPLETE, answer)

    def _config(self, owner: BufferOwner, body: memoryview) -> Reply:
        config = wire.SendNdisConfig.unpack(body)
        if self.configured or self.receive_buffer is not None:
            raise OutOfOrder(self.state, MessageType.SEND_NDIS_CONFIG, ": too late")
        if not SMALLEST_FRAME <= config.mtu <= LARGEST_FRAME:
            raise GuestError(f"SEND_NDIS_CONFIG with frames of {config.mtu} bytes")
        self.configured = True
        self.largest_frame = config.mtu
        self.capability = Capability(config.capability)
        return Reply()

    def _ndis_version(self, owner: BufferOwner, body: memoryview) -> Reply:
        if self.ndis_version is not None:
            raise OutOfOrder(self.state, MessageType.SEND_NDIS_VER, ": a second time")
        said = wire.SendNdisVersion.unpack(body)
        self.ndis_version = said.ndis_major_ver, said.ndis_minor_ver
        self._judge()
        return Reply()

    def _receive_buffer(self, owner: BufferOwner, body: memoryview) -> Reply:
        if self.receive_buffer is not None:
            raise OutOfOrder(self.state, MessageType.SEND_RECV_BUF, ": a second time")
        given = wire.SendReceiveBuffer.unpack(body)
        buffer = self._make_receive_buffer(owner, given.gpadl_handle, given.id)
        answer = wire.SendReceiveBufferComplete(
            status=Status.SUCCESS if buffer.count else Status.FAIL,
            num_sections=1 if buffer.count else 0,
            sections=buffer.section().pack(),
        )
        if buffer.count:
            self.receive_buffer = buffer
            self._judge()
        return self._answer(MessageType.SEND_RECV_BUF_COMPLETE, answer)

    def _send_buffer(self, owner: BufferOwner, body: memoryview) -> Reply:
        if self.send_buffer is not None:
            raise OutOfOrder(self.state, MessageType.SEND_SEND_BUF, ": a second time")
        given = wire.SendSendBuffer.unpack(body)
        self.send_buffer = _make_send_buffer(owner, given.gpadl_handle, given.id)
        self._judge()
        answer = wire.SendSendBufferComplete(status=Status.SUCCESS, section_size=SECTION_SIZE)
        return self._answer(MessageType.SEND_SEND_BUF_COMPLETE, answer)

    def _make_receive_buffer(self, owner: BufferOwner, handle: int, id: int) -> ReceiveBuffer:
        size = sub_allocation_size(self.largest_frame)
        return ReceiveBuffer(handle, id, owner.gpadl(handle), owner.memory, size)

    def _revoke_receive_buffer(self, owner: BufferOwner, body: memoryview) -> Reply:
        id = wire.RevokeReceiveBuffer.unpack(body).id
        if self.receive_buffer is None or self.receive_buffer.id != id:
            raise GuestError(f"REVOKE_RECV_BUF of {id:#x}, which is none")
        self.receive_buffer = None
        self._judge()
        return Reply()

    def _revoke_send_buffer(self, owner: BufferOwner, body: memoryview) -> Reply:
        id = wire.RevokeSendBuffer.unpack(body).id
        if self.send_buffer is None or self.send_buffer.id != id:
            raise GuestError(f"REVOKE_SEND_BUF of {id:#x}, which is none")
        self.send_buffer = None
        self._judge()
        return Reply()

    # ------------------------------------------------------------ when ready

    def _subchannel(self, owner: BufferOwner, body: memoryview) -> Reply:
        asked = wire.SubchannelRequest.unpack(body)
        wrong = asked.op != SubchannelOperation.ALLOCATE or self.subchannels or not asked.num_subchannels
        granted = 0 if wrong else min(asked.num_subchannels, self.max_subchannels)
        self.subchannels = self.subchannels or granted
        status = Status.SUCCESS if granted else Status.FAIL
        answer = wire.SubchannelComplete(status=status, num_subchannels=granted)
        return self._answer(MessageType.SUBCHANNEL, answer, granted)

    def indirection_table(self) -> bytes:
        """The message that spreads what the guest sends over all channels."""
        size = wire.message_size(self.version)
        table = wire.SendTable(
            channels=tuple(index % (self.subchannels + 1) for index in range(wire.SEND_TABLE_SIZE))
        )
        body = wire.SendIndirectionTable(count=wire.SEND_TABLE_SIZE, offset=size)
        return wire.message(MessageType.SEND_INDIRECTION_TABLE, body, self.version) + table.pack()

    def _switch_data_path(self, owner: BufferOwner, body: memoryview) -> Reply:
        """There is no other path. The answer has no body, whatever was asked: guests wait for that."""
        wire.SwitchDataPath.unpack(body)
        return Reply()

    def _oid_query_ex(self, owner: BufferOwner, body: memoryview) -> Reply:
        answer = wire.OidQueryExComplete(status=NdisStatus.NOT_SUPPORTED)
        return self._answer(MessageType.OID_QUERY_EX_COMP, answer)

    def _pd_api(self, owner: BufferOwner, body: memoryview) -> Reply:
        """Packet direct."""
        asked = wire.PdApiRequest.unpack(body)
        answer = wire.PdApiComplete(op=asked.op, status=NdisStatus.NOT_SUPPORTED)
        return self._answer(MessageType.PD_API, answer)

    # ------------------------------------------------------------ state

    def save(self) -> dict[str, Any]:
        """The state as plain data."""
        buffers = (self.receive_buffer, self.send_buffer)
        return {
            "state": self.state.name,
            "version": self.version,
            "largest_frame": self.largest_frame,
            "capability": int(self.capability),
            "configured": self.configured,
            "ndis_version": self.ndis_version and list(self.ndis_version),
            "subchannels": self.subchannels,
            "buffers": [buffer and [buffer.handle, buffer.id] for buffer in buffers],
        }

    def restore(self, state: dict[str, Any], owner: BufferOwner) -> None:
        """The state that `save` gave, whose buffers are on the channel `owner`; raises `GuestError`."""
        self.state = State[state["state"]]
        self.version = state["version"]
        self.largest_frame = state["largest_frame"]
        self.capability = Capability(state["capability"])
        self.configured = state["configured"]
        version = state["ndis_version"]
        self.ndis_version = version and (version[0], version[1])
        self.subchannels = state["subchannels"]
        receive, send = state["buffers"]
        self.receive_buffer = receive and self._make_receive_buffer(owner, *receive)
        self.send_buffer = send and _make_send_buffer(owner, *send)


def _make_send_buffer(owner: BufferOwner, handle: int, id: int) -> SendBuffer:
    return SendBuffer(handle, id, owner.gpadl(handle), owner.memory, SECTION_SIZE)


_INIT, _SETUP, _READY = (frozenset({state}) for state in State)
STEPS: dict[int, Step] = {
    MessageType.INIT: Step(0, _INIT, Handshake._init),
    MessageType.SEND_NDIS_CONFIG: Step(Version.V2, _SETUP, Handshake._config),
    MessageType.SEND_NDIS_VER: Step(Version.V1, _SETUP, Handshake._ndis_version),
    MessageType.SEND_RECV_BUF: Step(Version.V1, _SETUP, Handshake._receive_buffer),
    MessageType.REVOKE_RECV_BUF: Step(Version.V1, _SETUP | _READY, Handshake._revoke_receive_buffer),
    MessageType.SEND_SEND_BUF: Step(Version.V1, _SETUP, Handshake._send_buffer),
    MessageType.REVOKE_SEND_BUF: Step(Version.V1, _SETUP | _READY, Handshake._revoke_send_buffer),
    MessageType.SWITCH_DATA_PATH: Step(Version.V4, _SETUP | _READY, Handshake._switch_data_path),
    MessageType.OID_QUERY_EX: Step(Version.V5, _READY, Handshake._oid_query_ex),
    MessageType.SUBCHANNEL: Step(Version.V5, _READY, Handshake._subchannel),
    MessageType.PD_API: Step(Version.V61, _READY, Handshake._pd_api),
}
