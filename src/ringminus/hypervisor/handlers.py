"""What each hypercall does. A handler gets a checked `Request` and gives a status (TLFS, hypercalls/)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ringminus.cpu.engine import GuestException
from ringminus.hypervisor import wire
from ringminus.hypervisor.registers import INFORMATION_LEAVES, REGISTER_MSRS
from ringminus.hypervisor.status import HvStatus
from ringminus.hypervisor.wire import Feature, Flush, VpSetFormat

if TYPE_CHECKING:
    from ringminus.hypervisor.vp import VirtualProcessor

BANK_SIZE = 8
BANK_BITS = 64
LAST_VECTOR = 255
USE_TARGET_VTL = 1 << 4  # HV_INPUT_VTL: bits 3:0 are the VTL, 0 is the only one here
CONNECTION_MASK, SIGNAL_RESERVED = wire.SignalEventRegister.CONNECTION_MASK, wire.SignalEventRegister.RESERVED
FLAG_SHIFT, FLAG_MASK = wire.SignalEventRegister.FLAG_SHIFT, wire.SignalEventRegister.FLAG_MASK
EXTENDED_CAPABILITIES = 0  # no extended call beside the query is offered


@dataclass(slots=True)
class Request:
    """A hypercall's input: the fixed header, the variable one, and the list from its first element on.

    A handler of a rep call works on elements `start` to `count`, counts them in `completed`, and appends
    each one's output to `output`.
    """

    header: bytes
    variable: bytes
    elements: bytes
    start: int
    count: int
    completed: int = 0
    output: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.completed = self.start


class Handlers:
    """The handlers of one virtual processor's calls."""

    def __init__(self, vp: VirtualProcessor) -> None:
        self._vp = vp
        self._partition = vp.partition
        self._connections = vp.partition.connections
        self._signal = vp.partition.connections.signal
        self._extended_ranges = Feature.EXTENDED_GVA_RANGES in vp.partition.profile.features

    def table(self) -> dict[int, Callable[[Request], HvStatus]]:
        """By call code. Flushes are there when the partition can flush."""
        calls: dict[int, Callable[[Request], HvStatus]] = {
            0x0008: self.notify_long_spin_wait,
            0x000B: self.send_cluster_ipi,
            0x0015: self.send_cluster_ipi_ex,
            0x0046: self.get_partition_id,
            0x0050: self.get_vp_registers,
            0x0051: self.set_vp_registers,
            0x005C: self.post_message,
            0x005D: self.signal_event,
            0x8001: self.query_capabilities,
        }
        if self._partition.flush_tlb is not None:
            calls[0x0002] = calls[0x0003] = self.flush
            calls[0x0013] = calls[0x0014] = self.flush_ex
        return calls

    # ------------------------------------------------------------ messages and events

    def post_message(self, request: Request) -> HvStatus:
        """HvCallPostMessage."""
        message = wire.PostMessageInput.unpack(request.header)
        if message.payload_size > wire.MESSAGE_PAYLOAD_LIMIT:
            return HvStatus.INVALID_PARAMETER
        payload = message.payload[: message.payload_size]
        return self._connections.post(message.connection_id, message.message_type, payload)

    def signal_event(self, request: Request) -> HvStatus:
        """HvCallSignalEvent with its input in memory."""
        event = wire.SignalEventInput.unpack(request.header)
        if event.reserved:
            return HvStatus.INVALID_PARAMETER
        return self._connections.signal(event.connection_id, event.flag_number)

    def signal_event_fast(self, rdx: int) -> HvStatus:
        """HvCallSignalEvent with its input in RDX: the doorbell of every ring, so it is made short."""
        if rdx & SIGNAL_RESERVED:
            return HvStatus.INVALID_PARAMETER
        return self._signal(rdx & CONNECTION_MASK, rdx >> FLAG_SHIFT & FLAG_MASK)

    # ------------------------------------------------------------ translations

    def flush(self, request: Request) -> HvStatus:
        """HvCallFlushVirtualAddressSpace and …List; a processor's translations are flushed all together."""
        header = wire.FlushInput.unpack(request.header)
        return self._flush(request, header.flags, _members(header.processor_mask, 0))

    def flush_ex(self, request: Request) -> HvStatus:
        """The same with a sparse set of processors."""
        header = wire.FlushInputEx.unpack(request.header)
        targets, status = self._vp_set(header.set_format, header.valid_banks, request.variable)
        return status if targets is None else self._flush(request, header.flags, targets)

    def _flush(self, request: Request, flags: int, targets: Iterable[int]) -> HvStatus:
        known = Flush.ALL_PROCESSORS | Flush.ALL_ADDRESS_SPACES
        known |= (
            (Flush.EXTENDED_RANGES if self._extended_ranges else 0)
            if request.count
            else Flush.NON_GLOBAL_ONLY
        )
        if flags & ~int(known):
            return HvStatus.INVALID_PARAMETER
        flush = self._partition.flush_tlb
        chosen = range(self._partition.vp_count) if flags & Flush.ALL_PROCESSORS else targets
        for index in chosen:
            if index < self._partition.vp_count and flush is not None:
                flush(index)
        request.completed = request.count
        return HvStatus.SUCCESS

    def _vp_set(
        self, set_format: int, valid_banks: int, contents: bytes
    ) -> tuple[Iterable[int] | None, HvStatus]:
        """HV_VP_SET: the processors' indices, or None and why there are none."""
        if set_format == VpSetFormat.ALL:
            return range(self._partition.vp_count), HvStatus.SUCCESS
        if set_format != VpSetFormat.SPARSE:
            return None, HvStatus.INVALID_PARAMETER
        banks = list(_members(valid_banks, 0))
        if len(contents) != len(banks) * BANK_SIZE:
            return None, HvStatus.INVALID_HYPERCALL_INPUT
        members: list[int] = []
        for place, bank in enumerate(banks):
            mask = int.from_bytes(contents[place * BANK_SIZE : (place + 1) * BANK_SIZE], "little")
            members.extend(_members(mask, bank * BANK_BITS))
        return members, HvStatus.SUCCESS

    # ------------------------------------------------------------ processors

    def notify_long_spin_wait(self, request: Request) -> HvStatus:
        """HvCallNotifyLongSpinWait: a hint that cannot fail."""
        return HvStatus.SUCCESS

    def send_cluster_ipi(self, request: Request) -> HvStatus:
        """HvCallSendSyntheticClusterIpi."""
        header = wire.ClusterIpiInput.unpack(request.header)
        return self._interrupt(header.vector, header.target_vtl, _members(header.processor_mask, 0))

    def send_cluster_ipi_ex(self, request: Request) -> HvStatus:
        """HvCallSendSyntheticClusterIpiEx."""
        header = wire.ClusterIpiInputEx.unpack(request.header)
        targets, status = self._vp_set(header.set_format, header.valid_banks, request.variable)
        return status if targets is None else self._interrupt(header.vector, header.target_vtl, targets)

    def _interrupt(self, vector: int, vtl: int, targets: Iterable[int]) -> HvStatus:
        if not wire.FIRST_VECTOR <= vector <= LAST_VECTOR or vtl & ~USE_TARGET_VTL:
            return HvStatus.INVALID_PARAMETER
        for index in targets:
            if index < self._partition.vp_count:
                self._partition.vps[index].apic.raise_vector(vector, "cluster ipi")
        return HvStatus.SUCCESS

    # ------------------------------------------------------------ registers and identity

    def _own(self, header: wire.VpRegistersInput) -> HvStatus:
        """Whether the call is about the caller itself."""
        if header.partition_id not in (wire.PARTITION_ID_SELF, self._partition.partition_id):
            return HvStatus.INVALID_PARTITION_ID
        if header.vp_index not in (wire.VP_INDEX_SELF, self._vp.index):
            return HvStatus.INVALID_VP_INDEX
        return HvStatus.INVALID_PARAMETER if header.target_vtl & ~USE_TARGET_VTL else HvStatus.SUCCESS

    def get_vp_registers(self, request: Request) -> HvStatus:
        """HvCallGetVpRegisters, for the synthetic registers of the caller."""
        status = self._own(wire.VpRegistersInput.unpack(request.header))
        if status:
            return status
        for index in range(request.start, request.count):
            name = wire.RegisterName.unpack(request.elements, index * wire.RegisterName.SIZE).name
            value = self._register(name)
            if value is None:
                return HvStatus.INVALID_PARAMETER
            request.output += value.pack()
            request.completed += 1
        return HvStatus.SUCCESS

    def _register(self, name: int) -> wire.RegisterValue | None:
        leaf = INFORMATION_LEAVES.get(name)
        if leaf is not None:
            eax, ebx, ecx, edx = self._vp.cpuid(leaf, 0)
            return wire.RegisterValue(low=eax | ebx << 32, high=ecx | edx << 32)
        msr = REGISTER_MSRS.get(name)
        if msr is None:
            return None
        try:
            return wire.RegisterValue(low=self._vp.read_msr(msr))
        except GuestException:
            return None

    def set_vp_registers(self, request: Request) -> HvStatus:
        """HvCallSetVpRegisters, for the synthetic registers of the caller."""
        status = self._own(wire.VpRegistersInput.unpack(request.header))
        if status:
            return status
        for index in range(request.start, request.count):
            one = wire.RegisterAssociation.unpack(request.elements, index * wire.RegisterAssociation.SIZE)
            msr = REGISTER_MSRS.get(one.name)
            if msr is None or one.high:
                return HvStatus.INVALID_PARAMETER
            try:
                self._vp.write_msr(msr, one.low)
            except GuestException:
                return HvStatus.INVALID_PARAMETER
            request.completed += 1
        return HvStatus.SUCCESS

    def get_partition_id(self, request: Request) -> HvStatus:
        """HvCallGetPartitionId."""
        request.output += wire.PartitionIdOutput(partition_id=self._partition.partition_id).pack()
        return HvStatus.SUCCESS

    def query_capabilities(self, request: Request) -> HvStatus:
        """HvExtCallQueryCapabilities."""
        request.output += wire.QueryCapabilitiesOutput(capabilities=EXTENDED_CAPABILITIES).pack()
        return HvStatus.SUCCESS


def _members(mask: int, first: int) -> Iterable[int]:
    """The numbers of the bits that are set, counted from `first`."""
    while mask:
        low = mask & -mask
        yield first + low.bit_length() - 1
        mask ^= low
