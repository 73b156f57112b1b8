"""Wire formats and constants of the hypervisor's interface to a guest.

Source: Hypervisor Top Level Functional Specification (TLFS), chapters and data types named at each part.
Message and page layouts agree with the `hv_*` structures of Linux.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated

from ringminus.wire import I64, U8, U16, U32, U64, Array, Bytes, Struct

# ---------------------------------------------------------------- partition privileges (CPUID 0x40000003)


class Privilege(IntFlag):
    """HV_PARTITION_PRIVILEGE_MASK: EAX holds bits 0–31, EBX bits 32–63 of leaf 0x40000003."""

    VP_RUNTIME = 1 << 0
    REFERENCE_COUNTER = 1 << 1
    SYNIC = 1 << 2
    SYNTHETIC_TIMERS = 1 << 3
    INTERRUPT_CONTROL = 1 << 4
    HYPERCALL = 1 << 5
    VP_INDEX = 1 << 6
    RESET = 1 << 7
    STATS_PAGES = 1 << 8
    REFERENCE_TSC = 1 << 9
    GUEST_IDLE = 1 << 10
    FREQUENCIES = 1 << 11
    DEBUG_MSRS = 1 << 12
    REENLIGHTENMENT = 1 << 13
    TSC_INVARIANT_CONTROL = 1 << 15
    CREATE_PARTITIONS = 1 << 32
    PARTITION_ID = 1 << 33
    MEMORY_POOL = 1 << 34
    POST_MESSAGES = 1 << 36
    SIGNAL_EVENTS = 1 << 37
    CREATE_PORT = 1 << 38
    CONNECT_PORT = 1 << 39
    ACCESS_STATS = 1 << 40
    DEBUGGING = 1 << 43
    CPU_MANAGEMENT = 1 << 44
    VSM = 1 << 48
    VP_REGISTERS = 1 << 49
    EXTENDED_HYPERCALLS = 1 << 52
    START_VIRTUAL_PROCESSOR = 1 << 53
    ISOLATION = 1 << 54


class Feature(IntFlag):
    """Leaf 0x40000003 EDX: what is available beside the privileges."""

    XMM_HYPERCALL_INPUT = 1 << 4
    GUEST_IDLE = 1 << 5
    FREQUENCY_MSRS = 1 << 8
    CRASH_MSRS = 1 << 10
    DEBUG_MSRS = 1 << 11
    NPIEP = 1 << 12
    EXTENDED_GVA_RANGES = 1 << 14
    XMM_HYPERCALL_OUTPUT = 1 << 15
    SINT_POLLING = 1 << 17
    HYPERCALL_MSR_LOCK = 1 << 18
    DIRECT_SYNTHETIC_TIMERS = 1 << 19
    TIME_UNHALTED_TIMER = 1 << 23


class Recommendation(IntFlag):
    """Leaf 0x40000004 EAX: what the guest had better do."""

    ADDRESS_SPACE_SWITCH = 1 << 0
    LOCAL_FLUSH = 1 << 1
    REMOTE_FLUSH = 1 << 2
    APIC_MSRS = 1 << 3
    RESET_MSR = 1 << 4
    RELAXED_TIMING = 1 << 5
    X2APIC_MSRS = 1 << 8
    NO_AUTO_EOI = 1 << 9
    CLUSTER_IPI = 1 << 10
    EX_PROCESSOR_MASKS = 1 << 11
    NESTED = 1 << 12


class HardwareFeature(IntFlag):
    """Leaf 0x40000006 EAX: what the hypervisor uses of the processor."""

    MSR_BITMAPS = 1 << 1
    SECOND_LEVEL_TRANSLATION = 1 << 3


# ---------------------------------------------------------------- control registers with a page


PAGE_ENABLE = 1  # bit 0 of HYPERCALL, REFERENCE_TSC, VP_ASSIST_PAGE, SIEFP, SIMP
PAGE_ADDRESS = ~0xFFF & (1 << 64) - 1  # bits 63:12: the page's address
HYPERCALL_LOCKED = 1 << 1

SCONTROL_ENABLE = 1
SYNIC_VERSION = 1
RESET_NOW = 1
TSC_INVARIANT = 1


class Crash(IntFlag):
    """HV_CRASH_CTL_REG_CONTENTS: what CRASH_CTL offers when read and asks for when written."""

    NO_CRASH_DUMP = 1 << 61
    MESSAGE = 1 << 62
    NOTIFY = 1 << 63


CRASH_MESSAGE_LIMIT = 4096
CRASH_PARAMETERS = 5

# ---------------------------------------------------------------- hypercalls (hypercall-interface.md)

# ENDBR64 (a guest with indirect branch tracking calls the page), VMMCALL, RET
HYPERCALL_CODE = bytes.fromhex("f30f1efa 0f01d9 c3")


class Control:
    """The hypercall input value: shifts and masks of its fields."""

    CODE_MASK = 0xFFFF
    FAST = 1 << 16
    VARIABLE_HEADER_SHIFT, VARIABLE_HEADER_MASK = 17, 0x3FF  # in units of 8 bytes
    REP_COUNT_SHIFT, REP_COUNT_MASK = 32, 0xFFF
    REP_START_SHIFT, REP_START_MASK = 48, 0xFFF
    RESERVED = 0xF << 60 | 0xF << 44 | 0x1F << 27  # bit 31, nested, too: there is no level below us


RESULT_REPS_SHIFT = 32
FAST_INPUT_SIZE = 16  # RDX and R8
XMM_INPUT_SIZE = 112  # and XMM0–XMM5
XMM_REGISTERS = 6
PARTITION_ID_SELF = (1 << 64) - 1
VP_INDEX_SELF = (1 << 32) - 2


class RegisterBlock(Struct):
    """RDX and R8 of a fast hypercall."""

    rdx: U64
    r8: U64


class SignalEventInput(Struct):
    """HvCallSignalEvent."""

    connection_id: U32
    flag_number: U16
    reserved: U16


class SignalEventRegister:
    """The same in RDX of a fast call, the only form that has to be quick: shifts and masks."""

    CONNECTION_MASK = 0xFFFFFFFF
    FLAG_SHIFT, FLAG_MASK = 32, 0xFFFF
    RESERVED = 0xFFFF << 48


class PostMessageInput(Struct):
    """HvCallPostMessage."""

    connection_id: U32
    reserved: U32
    message_type: U32
    payload_size: U32
    payload: Annotated[bytes, Bytes(240)]


class NotifyLongSpinWaitInput(Struct):
    """HvCallNotifyLongSpinWait."""

    spin_count: U32
    reserved: U32


class Flush(IntFlag):
    """HV_FLUSH_FLAGS."""

    ALL_PROCESSORS = 1
    ALL_ADDRESS_SPACES = 2
    NON_GLOBAL_ONLY = 4
    EXTENDED_RANGES = 8


class FlushInput(Struct):
    """HvCallFlushVirtualAddressSpace and, before its list, HvCallFlushVirtualAddressList."""

    address_space: U64
    flags: U64
    processor_mask: U64


class FlushInputEx(Struct):
    """The Ex variants: a sparse VP set follows, its banks as variable header."""

    address_space: U64
    flags: U64
    set_format: U64
    valid_banks: U64


class ClusterIpiInput(Struct):
    """HvCallSendSyntheticClusterIpi."""

    vector: U32
    target_vtl: U8
    reserved: Annotated[bytes, Bytes(3)]
    processor_mask: U64


class ClusterIpiInputEx(Struct):
    """HvCallSendSyntheticClusterIpiEx; the banks follow as variable header."""

    vector: U32
    target_vtl: U8
    reserved: Annotated[bytes, Bytes(3)]
    set_format: U64
    valid_banks: U64


class GvaRange(Struct):
    """HV_GVA_RANGE: a page address; bits 11:0 count the pages that follow it."""

    value: U64


class VpSetFormat(IntEnum):
    """HV_VP_SET: how `format` is meant."""

    SPARSE = 0
    ALL = 1


class VpRegistersInput(Struct):
    """HvCallGetVpRegisters and HvCallSetVpRegisters, before their lists."""

    partition_id: U64
    vp_index: U32
    target_vtl: U8
    reserved: Annotated[bytes, Bytes(3)]


class RegisterName(Struct):
    """One register to read."""

    name: U32


class RegisterAssociation(Struct):
    """One register to write: HV_REGISTER_VALUE is always 128 bits."""

    name: U32
    reserved: Annotated[bytes, Bytes(12)]
    low: U64
    high: U64


class RegisterValue(Struct):
    """HV_REGISTER_VALUE."""

    low: U64
    high: U64 = 0


class QueryCapabilitiesOutput(Struct):
    """HvExtCallQueryCapabilities: one bit for each extended call that is offered."""

    capabilities: U64


class PartitionIdOutput(Struct):
    """HvCallGetPartitionId."""

    partition_id: U64


# ---------------------------------------------------------------- SynIC (inter-partition-communication.md)

SINTS = 16
MESSAGE_SIZE = 256
MESSAGE_PAYLOAD_LIMIT = 240
EVENT_FLAGS_SIZE = 256
EVENT_FLAGS = 2048
FIRST_VECTOR = 16


class Sint:
    """The SINTx registers: masks of their fields."""

    VECTOR = 0xFF
    MASKED = 1 << 16
    AUTO_EOI = 1 << 17
    POLLING = 1 << 18


class MessageType(IntEnum):
    """HV_MESSAGE_TYPE: those that are sent; the sign bit marks the hypervisor's own."""

    NONE = 0
    VMBUS = 1
    TIMER_EXPIRED = 0x80000010


HYPERVISOR_MESSAGE = 0x80000000
MESSAGE_PENDING = 1  # HV_MESSAGE_FLAGS


class MessageHeader(Struct):
    """HV_MESSAGE_HEADER."""

    message_type: U32
    payload_size: U8
    flags: U8 = 0
    reserved: U16 = 0
    origin: U64 = 0


class Message(Struct):
    """HV_MESSAGE: one slot of the SIM page."""

    header: MessageHeader
    payload: Annotated[bytes, Bytes(MESSAGE_PAYLOAD_LIMIT)]


class TimerMessage(Struct):
    """HV_TIMER_MESSAGE_PAYLOAD; times in units of 100 ns."""

    timer_index: U32
    reserved: U32 = 0
    expiration_time: U64
    delivery_time: U64


# ---------------------------------------------------------------- timers and time (timers.md)

SYNTHETIC_TIMERS = 4


class TimerConfig:
    """STIMERn_CONFIG: masks and shifts of its fields."""

    ENABLED = 1 << 0
    PERIODIC = 1 << 1
    LAZY = 1 << 2
    AUTO_ENABLE = 1 << 3
    VECTOR_SHIFT, VECTOR_MASK = 4, 0xFF
    DIRECT = 1 << 12
    SINT_SHIFT, SINT_MASK = 16, 0xF
    RESERVED = ~0xF1FFF & (1 << 64) - 1


class ReferenceTscPage(Struct):
    """HV_REFERENCE_TSC_PAGE: time = ((tsc × scale) >> 64) + offset, while sequence is not 0."""

    sequence: U32
    reserved: U32 = 0
    scale: U64
    offset: I64 = 0


class VpAssistPage(Struct):
    """HV_VP_ASSIST_PAGE, as far as it is defined. `apic_assist` bit 0: no EOI is required."""

    apic_assist: U32 = 0
    reserved0: U32 = 0
    vtl_control: Annotated[tuple[int, ...], Array("Q", 3)] = (0, 0, 0)
    nested_control: U64 = 0
    enlighten_vm_entry: U8 = 0
    reserved1: Annotated[bytes, Bytes(7)] = bytes(7)
    current_nested_vmcs: U64 = 0
    time_unhalted_timer_expired: U8 = 0
    reserved2: Annotated[bytes, Bytes(7)] = bytes(7)
