"""A storage adapter: what SCSI controllers and IDE disks have in common.

Packets of the guest come in here. The handshake is the state machine's (`handshake`), SCSI commands are
the units' (`commands`); what those leave to be done on a host thread is kept as a `Task` until it has ended.
Every packet gets one completion, in whatever order they end.

Reads and writes of a few blocks are most of what a guest sends. `packet` recognizes them and does them at
once if the host can; all else, and all that is not as it should be, goes the long way through `_serve`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from struct import error as StructError
from typing import Any
from uuid import UUID

from ringminus.devices.storage import commands, identify
from ringminus.devices.storage.cdb_wire import Inquiry, ReportLuns
from ringminus.devices.storage.handshake import Handshake, OutOfOrder, State
from ringminus.devices.storage.request import (
    Answer,
    Later,
    Overrun,
    Request,
    check_condition,
    invalid_lun,
    invalid_request,
    overrun,
    success,
)
from ringminus.devices.storage.scsi_wire import LunEntry, ReportLunsHeader
from ringminus.devices.storage.sense import (
    INVALID_FIELD_IN_CDB,
    LBA_OUT_OF_RANGE,
    LUNS_CHANGED,
    CheckCondition,
    Sense,
    sense_of,
)
from ringminus.devices.storage.task import Reset, Task
from ringminus.devices.storage.unit import Unit
from ringminus.devices.storage.wire import (
    CDB_OFFSET,
    CDB_SIZE,
    HEADER_SIZE,
    HOT_REQUEST,
    MAX_TRANSFER,
    Direction,
    NtStatus,
    Operation,
    SrbFlags,
    VmscsiRequest,
    VmscsiRequestWin7,
    VstorPacket,
)
from ringminus.disks.disk import DiskError
from ringminus.errors import ConfigError, GuestError
from ringminus.memory import BadGuestAddress
from ringminus.vmbus.device import Channel, Device, Packet
from ringminus.vmbus.gpa import BadRange
from ringminus.vmbus.wire import PacketType

log = logging.getLogger(__name__)

EXECUTE_SRB = int(Operation.EXECUTE_SRB)
AFTER_OPCODE = CDB_OFFSET + 1
MAX_UNITS = 64
RESETS = frozenset({Operation.RESET_LUN, Operation.RESET_ADAPTER, Operation.RESET_BUS})
PACKETS = frozenset({PacketType.DATA_INBAND, PacketType.DATA_USING_GPA_DIRECT})
MINIMUM_SRB = HEADER_SIZE + VmscsiRequestWin7.SIZE


class StorageAdapter(Device):
    """Units by LUN behind a vstor channel. `refused` counts requests that their state did not allow, by
    the operation's name."""

    moderated = True

    address = 0
    """path_id | target_id << 8 of the units …"""
    address_mask = 0xFFFF
    """… as far as these bits say."""

    def __init__(self, instance: UUID | None = None, subchannels: int = 0) -> None:
        super().__init__(instance)
        self.handshake = Handshake(subchannels)
        self.refused: Counter[str] = Counter()
        self._units: list[Unit | None] = [None] * 256
        self._ready = False
        self._resuming = False
        self._channels: dict[int, Channel] = {}
        self._tasks: set[Task] = set()
        self._resets: list[Reset] = []

    @property
    def units(self) -> dict[int, Unit]:
        """The units by LUN."""
        return {unit.lun: unit for unit in self._units if unit is not None}

    # ------------------------------------------------------------ channels

    def opened(self, channel: Channel) -> None:
        if channel.index == 0:
            if not self._resuming:
                self.handshake.reset()
            self._resuming = False
            self._ready = self.handshake.state is State.READY
        elif not self._ready or channel.index > self.handshake.subchannels:
            raise GuestError(f"sub-channel {channel.index} was not asked for")
        self._channels[channel.index] = channel

    def closed(self, channel: Channel) -> None:
        if self._channels.get(channel.index) is not channel:
            return
        del self._channels[channel.index]
        self._resets = [reset for reset in self._resets if reset.channel is not channel]
        if channel.index == 0:
            self._ready = False
            self.handshake.reset()
        self.services.drain()

    # ------------------------------------------------------------ packets

    def packet(self, channel: Channel, packet: Packet) -> None:
        payload = packet.payload
        try:
            operation, address, lun, direction, length, opcode = HOT_REQUEST.unpack_from(payload)
        except StructError:
            return self._serve(channel, packet)
        unit = self._units[lun]
        if (
            unit is None
            or operation != EXECUTE_SRB
            or not self._ready
            or address & self.address_mask != self.address
            or (hot := unit.hot.get(opcode)) is None
            or (attempt := unit.attempts[hot.writes]) is None
            or len(payload) < MINIMUM_SRB
            or not packet.wants_completion
            or len(packet.ranges) != 1
        ):
            return self._serve(channel, packet)
        flags, lba, blocks = hot.decode(payload, AFTER_OPCODE)
        if (
            blocks << unit.shift != length
            or lba + blocks > unit.blocks
            or not 0 < length <= MAX_TRANSFER
            or direction != hot.direction
            or flags & hot.unusual
        ):
            return self._serve(channel, packet)
        try:
            extents = packet.ranges[0].extents(0, length)
            memory = channel.memory
            view = memory.view
            if not attempt(lba << unit.shift, [view(gpa, size) for gpa, size in extents]):
                return self._serve(channel, packet)
        except (GuestError, DiskError, ValueError):
            # the long way meets it again and finds the words
            return self._serve(channel, packet)
        counters = unit.counters
        if hot.writes:
            unit.changes += 1
            counters.writes += 1
            counters.written_bytes += length
        else:
            for gpa, size in extents:
                memory.written(gpa, size)
            counters.reads += 1
            counters.read_bytes += length
        channel.complete(packet.transaction_id, success(length)[: len(payload)])

    def brings_data(self, packet: Packet) -> bool:
        """All but what is only to be read."""
        try:
            operation, _, _, direction, *_ = HOT_REQUEST.unpack_from(packet.payload)
        except StructError:
            return True
        return bool(operation != EXECUTE_SRB or direction != Direction.IN)

    def _serve(self, channel: Channel, packet: Packet) -> None:
        if packet.kind not in PACKETS:
            raise GuestError(f"a storage request in a packet of type {packet.kind}")
        if not packet.wants_completion:
            raise GuestError("a storage request that wants no completion")
        size = min(len(packet.payload), VstorPacket.SIZE)
        if size < HEADER_SIZE:
            raise GuestError(f"a storage request of {size} bytes")
        request = VstorPacket.unpack(bytes(packet.payload[:size]).ljust(VstorPacket.SIZE, b"\0"))
        try:
            if request.operation == EXECUTE_SRB and self._ready:
                self._execute(channel, packet, request, size)
            elif request.operation in RESETS and self._ready:
                self._reset(channel, packet.transaction_id, request, size)
            elif channel.index:
                raise OutOfOrder(self.handshake.state, request.operation)
            else:
                self._shake_hands(channel, packet.transaction_id, request, size)
        except OutOfOrder as error:
            self.refused[error.operation] += 1
            log.info("%s: %s", self.title, error)
            self._answer(channel, packet.transaction_id, size, NtStatus.INVALID_DEVICE_STATE)

    def _answer(
        self,
        channel: Channel,
        transaction_id: int,
        size: int,
        status: int = NtStatus.SUCCESS,
        body: bytes = b"",
    ) -> None:
        answer = VstorPacket(operation=Operation.COMPLETE_IO, status=status, body=body)
        channel.complete(transaction_id, answer.pack()[:size])

    def _shake_hands(self, channel: Channel, transaction_id: int, request: VstorPacket, size: int) -> None:
        reply = self.handshake.receive(request)
        self._ready = self.handshake.state is State.READY
        self._answer(channel, transaction_id, size, reply.status, reply.body)
        if reply.subchannels:
            self.bus.offer_subchannels(self, reply.subchannels)

    # ------------------------------------------------------------ SCSI commands

    def _execute(self, channel: Channel, packet: Packet, vstor: VstorPacket, size: int) -> None:
        if size < MINIMUM_SRB:
            return self._answer(channel, packet.transaction_id, size, NtStatus.INVALID_PARAMETER)
        srb = VmscsiRequest.unpack(vstor.body)
        here = (srb.path_id | srb.target_id << 8) & self.address_mask == self.address
        unit = self._units[srb.lun] if here else None
        try:
            if len(packet.ranges) > 1:
                raise BadRange(f"a request with {len(packet.ranges)} ranges")
            request = Request(
                channel.memory,
                srb.lun,
                srb.cdb[:CDB_SIZE],
                srb.data_in,
                srb.data_transfer_length,
                packet.ranges[0] if packet.ranges else None,
                not srb.srb_flags & SrbFlags.DISABLE_AUTOSENSE,
            )
        except BadRange:
            return channel.complete(packet.transaction_id, invalid_request()[:size])
        answer: bytes | Later
        if request.cdb[0] == commands.REPORT_LUNS:
            answer = self._outcome(None, request, lambda: self._report_luns(request.cdb, here))
        elif unit is not None:
            answer = self._outcome(unit, request, lambda: commands.execute(unit, request))
        elif request.cdb[0] == commands.INQUIRY:
            answer = self._outcome(
                None, request, lambda: identify.absent(srb.lun, Inquiry.unpack(request.cdb))
            )
        else:
            answer = invalid_lun()
        if isinstance(answer, bytes):
            channel.complete(packet.transaction_id, answer[:size])
        elif unit is not None:
            task = Task(channel, packet.transaction_id, size, unit, request, answer)
            self._tasks.add(task)
            self.services.run(answer.work, lambda result: self._ended(task, result))

    def _report_luns(self, cdb: bytes, here: bool) -> bytes:
        """The units of this target; elsewhere there are none, so that a scan ends there."""
        command = ReportLuns.unpack(cdb)
        if command.select_report > 2:
            raise CheckCondition(INVALID_FIELD_IN_CDB)
        # 1 asks for well-known units only
        luns = sorted(self.units) if here and command.select_report != 1 else []
        for unit in self.units.values():
            unit.forget_attention(LUNS_CHANGED)
        entries = b"".join(LunEntry(lun=lun).pack() for lun in luns)
        return (ReportLunsHeader(lun_list_length=len(entries)).pack() + entries)[: command.allocation_length]

    def _outcome(self, unit: Unit | None, request: Request, produce: Callable[[], Answer]) -> bytes | Later:
        """The completion of a command, or what has to be done before there is one."""
        try:
            answer = produce()
            if isinstance(answer, Later):
                return answer
            return success(request.give(answer) if isinstance(answer, bytes) else answer)
        except Overrun as error:
            return overrun(error.moved)
        except CheckCondition as error:
            return self._failed(unit, request, error.sense)
        except (BadRange, BadGuestAddress) as error:
            log.info("%s: %s", self.title, error)
            return invalid_request()
        except (DiskError, ValueError) as error:
            assert unit is not None
            return self._host_failed(unit, request, error, request.direction == Direction.OUT)

    def _failed(self, unit: Unit | None, request: Request, sense: Sense) -> bytes:
        if unit is not None and not request.autosense:
            unit.last_sense = sense
        return check_condition(sense, request.autosense)

    def _host_failed(
        self, unit: Unit, request: Request, error: Exception, writing: bool, lba: int | None = None
    ) -> bytes:
        if isinstance(error, DiskError):
            unit.complain(self.title, error, writing, self.services.clock.reference_time())
            return self._failed(unit, request, sense_of(error, writing, lba))
        if isinstance(error, ValueError):
            # the disk shrank after the command was checked
            return self._failed(unit, request, LBA_OUT_OF_RANGE)
        raise error

    def _ended(self, task: Task, result: Any) -> None:
        """On the machine's thread: the work of a task has ended. After its channel was closed there is nobody
        to answer, but memory that was read into has changed all the same."""
        self._tasks.discard(task)
        unit, request, later = task.unit, task.request, task.later
        answer: bytes | Later
        if isinstance(result, Exception):
            answer = self._host_failed(unit, request, result, later.writing, later.lba)
        else:
            answer = self._outcome(unit, request, lambda: later.then(result))
        assert isinstance(answer, bytes)
        if self._channels.get(task.channel.index) is task.channel:
            task.channel.complete(task.transaction_id, answer[: task.size])
        if self._resets:
            self._resume_resets(task)

    # ------------------------------------------------------------ resets

    def _reset(self, channel: Channel, transaction_id: int, request: VstorPacket, size: int) -> None:
        """Requests on their way are not aborted: what a host was asked to do ends by itself, soon."""
        units: Iterable[Unit] = self.units.values()
        if request.operation == Operation.RESET_LUN:
            lun = VmscsiRequest.unpack(request.body).lun
            units = [unit for unit in units if unit.lun == lun]
        for unit in units:
            unit.reset()
        before = {task for task in self._tasks if task.unit in units}
        if before:
            self._resets.append(Reset(channel, transaction_id, size, before))
        else:
            self._answer(channel, transaction_id, size)

    def _resume_resets(self, ended: Task) -> None:
        for reset in list(self._resets):
            reset.before.discard(ended)
            if not reset.before and reset in self._resets:
                self._resets.remove(reset)
                self._answer(reset.channel, reset.transaction_id, reset.size)

    # ------------------------------------------------------------ what changes while a guest runs

    def resized(self, lun: int = 0) -> None:
        """Tell the guest that the disk at `lun` has another size now."""
        unit = self.unit(lun)
        unit.measure()
        unit.attend(unit.size_changed)
        self._notify(Operation.ENUMERATE_BUS)

    def unit(self, lun: int) -> Unit:
        """What is at `lun`; raises `ConfigError`."""
        unit = self._units[lun] if 0 <= lun < MAX_UNITS else None
        if unit is None:
            raise ConfigError(f"there is nothing at LUN {lun}")
        return unit

    def _place(self, unit: Unit) -> None:
        unit.hot = commands.HOT[unit.type]
        self._units[unit.lun] = unit

    def _notify(self, operation: Operation) -> None:
        """Make the guest look at the bus; before it is ready it will look anyway. Linux asks each unit that
        it knows whether it is ready, and so hears of unit attentions, too."""
        if self._ready:
            self._channels[0].send(VstorPacket(operation=operation).pack())

    # ------------------------------------------------------------ saving

    def save(self) -> dict[str, Any]:
        """State as plain data; work that runs is waited for, so that its completions are in the rings."""
        self._drain()
        return {
            "handshake": self.handshake.save(),
            "units": {str(lun): unit.save() for lun, unit in self.units.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The state that `save` gave, to a device with the same disks, before its channels are opened."""
        self.handshake.restore(state["handshake"])
        self._resuming = self.handshake.state is not State.BEGIN
        for lun, unit in self.units.items():
            if str(lun) in state["units"]:
                unit.restore(state["units"][str(lun)])

    def _drain(self) -> None:
        if self._tasks:
            self.services.drain()
