"""Every hypercall by code: its name, its shape, and the privilege that it needs.

The shape of a call (sizes of its headers and list elements) is known for those that are answered; of the
others only whether they are simple or rep. Source: TLFS, hypercall reference; names of calls that only a
root partition makes also from the TLFS's earlier editions and Linux's headers.
"""

from __future__ import annotations

from dataclasses import dataclass

from ringminus.hypervisor import wire
from ringminus.hypervisor.wire import Privilege
from ringminus.wire import Struct

NONE = Privilege(0)
CREATE, POOL, CPU = Privilege.CREATE_PARTITIONS, Privilege.MEMORY_POOL, Privilege.CPU_MANAGEMENT
VSM, REGISTERS, DEBUG = Privilege.VSM, Privilege.VP_REGISTERS, Privilege.DEBUGGING
STATS, EXTENDED = Privilege.ACCESS_STATS, Privilege.EXTENDED_HYPERCALLS


@dataclass(frozen=True, slots=True)
class Call:
    """A hypercall. `header`, `element`, `output` and `output_element` are the declared structures of its
    fixed input header, one input list element, its output and one output list element; `variable` tells
    that a variable header may follow the fixed one. Calls whose shape is known may also come in registers."""

    code: int
    name: str
    rep: bool = False
    privilege: Privilege = NONE
    header: type[Struct] | None = None
    element: type[Struct] | None = None
    output: type[Struct] | None = None
    output_element: type[Struct] | None = None
    variable: bool = False


def _flush(code: int, name: str, *, rep: bool = False, sparse: bool = False) -> Call:
    header = wire.FlushInputEx if sparse else wire.FlushInput
    return Call(code, name, rep, NONE, header, wire.GvaRange if rep else None, variable=sparse)


SHAPED: tuple[Call, ...] = (
    _flush(0x0002, "HvCallFlushVirtualAddressSpace"),
    _flush(0x0003, "HvCallFlushVirtualAddressList", rep=True),
    Call(0x0008, "HvCallNotifyLongSpinWait", header=wire.NotifyLongSpinWaitInput),
    Call(0x000B, "HvCallSendSyntheticClusterIpi", header=wire.ClusterIpiInput),
    _flush(0x0013, "HvCallFlushVirtualAddressSpaceEx", sparse=True),
    _flush(0x0014, "HvCallFlushVirtualAddressListEx", rep=True, sparse=True),
    Call(0x0015, "HvCallSendSyntheticClusterIpiEx", header=wire.ClusterIpiInputEx, variable=True),
    Call(0x0046, "HvCallGetPartitionId", privilege=Privilege.PARTITION_ID, output=wire.PartitionIdOutput),
    Call(
        0x0050,
        "HvCallGetVpRegisters",
        True,
        REGISTERS,
        wire.VpRegistersInput,
        wire.RegisterName,
        output_element=wire.RegisterValue,
    ),
    Call(0x0051, "HvCallSetVpRegisters", True, REGISTERS, wire.VpRegistersInput, wire.RegisterAssociation),
    Call(0x005C, "HvCallPostMessage", False, Privilege.POST_MESSAGES, wire.PostMessageInput),
    Call(0x005D, "HvCallSignalEvent", False, Privilege.SIGNAL_EVENTS, wire.SignalEventInput),
    Call(
        0x8001,
        "HvExtCallQueryCapabilities",
        privilege=EXTENDED,
        output=wire.QueryCapabilitiesOutput,
    ),
)

S, R = False, True
_NAMED: tuple[tuple[int, str, bool, Privilege], ...] = (
    (0x0001, "HvCallSwitchVirtualAddressSpace", S, NONE),
    (0x0004, "HvCallGetLogicalProcessorRunTime", S, CPU),
    (0x0009, "HvCallParkLogicalProcessors", S, CPU),
    (0x000A, "HvCallInvokeHypervisorDebugger", S, DEBUG),
    (0x000C, "HvCallModifyVtlProtectionMask", R, VSM),
    (0x000D, "HvCallEnablePartitionVtl", S, VSM),
    (0x000E, "HvCallDisablePartitionVtl", S, VSM),
    (0x000F, "HvCallEnableVpVtl", S, VSM),
    (0x0010, "HvCallDisableVpVtl", S, VSM),
    (0x0011, "HvCallVtlCall", S, VSM),
    (0x0012, "HvCallVtlReturn", S, VSM),
    (0x0040, "HvCallCreatePartition", S, CREATE),
    (0x0041, "HvCallInitializePartition", S, CREATE),
    (0x0042, "HvCallFinalizePartition", S, CREATE),
    (0x0043, "HvCallDeletePartition", S, CREATE),
    (0x0044, "HvCallGetPartitionProperty", S, CREATE),
    (0x0045, "HvCallSetPartitionProperty", S, CREATE),
    (0x0047, "HvCallGetNextChildPartition", S, CREATE),
    (0x0048, "HvCallDepositMemory", R, POOL),
    (0x0049, "HvCallWithdrawMemory", R, POOL),
    (0x004A, "HvCallGetMemoryBalance", S, POOL),
    (0x004B, "HvCallMapGpaPages", R, CREATE),
    (0x004C, "HvCallUnmapGpaPages", R, CREATE),
    (0x004D, "HvCallInstallIntercept", S, CREATE),
    (0x004E, "HvCallCreateVp", S, CREATE),
    (0x004F, "HvCallDeleteVp", S, CREATE),
    (0x0052, "HvCallTranslateVirtualAddress", S, REGISTERS),
    (0x0053, "HvCallReadGpa", S, CREATE),
    (0x0054, "HvCallWriteGpa", S, CREATE),
    (0x0056, "HvCallClearVirtualInterrupt", S, CREATE),
    (0x0058, "HvCallDeletePort", S, Privilege.CREATE_PORT),
    (0x005A, "HvCallGetPortProperty", S, Privilege.CREATE_PORT),
    (0x005B, "HvCallDisconnectPort", S, Privilege.CONNECT_PORT),
    (0x005E, "HvCallSavePartitionState", S, CREATE),
    (0x005F, "HvCallRestorePartitionState", S, CREATE),
    (0x0060, "HvCallInitializeEventLogBufferGroup", S, STATS),
    (0x0061, "HvCallFinalizeEventLogBufferGroup", S, STATS),
    (0x0062, "HvCallCreateEventLogBuffer", S, STATS),
    (0x0063, "HvCallDeleteEventLogBuffer", S, STATS),
    (0x0064, "HvCallMapEventLogBuffer", S, STATS),
    (0x0065, "HvCallUnmapEventLogBuffer", S, STATS),
    (0x0066, "HvCallSetEventLogGroupSources", S, STATS),
    (0x0067, "HvCallReleaseEventLogBuffer", S, STATS),
    (0x0068, "HvCallFlushEventLogBuffer", S, STATS),
    (0x0069, "HvCallPostDebugData", S, DEBUG),
    (0x006A, "HvCallRetrieveDebugData", S, DEBUG),
    (0x006B, "HvCallResetDebugSession", S, DEBUG),
    (0x006C, "HvCallMapStatsPage", S, STATS),
    (0x006D, "HvCallUnmapStatsPage", S, STATS),
    (0x006E, "HvCallMapSparseGpaPages", R, CREATE),
    (0x006F, "HvCallSetSystemProperty", S, CPU),
    (0x0070, "HvCallSetPortProperty", S, Privilege.CREATE_PORT),
    (0x0071, "HvCallOutputDebugCharacter", S, DEBUG),
    (0x0072, "HvCallEchoIncrement", S, DEBUG),
    (0x0076, "HvCallAddLogicalProcessor", S, CPU),
    (0x0077, "HvCallRemoveLogicalProcessor", S, CPU),
    (0x0078, "HvCallQueryNumaDistance", S, CPU),
    (0x0079, "HvCallSetLogicalProcessorProperty", S, CPU),
    (0x007A, "HvCallGetLogicalProcessorProperty", S, CPU),
    (0x007B, "HvCallGetSystemProperty", S, CPU),
    (0x007C, "HvCallMapDeviceInterrupt", S, CPU),
    (0x007D, "HvCallUnmapDeviceInterrupt", S, CPU),
    (0x007E, "HvCallRetargetDeviceInterrupt", S, NONE),
    (0x0082, "HvCallAttachDevice", S, CPU),
    (0x0083, "HvCallDetachDevice", S, CPU),
    (0x0084, "HvCallEnterSleepState", S, CPU),
    (0x0085, "HvCallPrepareForSleep", S, CPU),
    (0x0086, "HvCallPrepareForHibernate", S, CPU),
    (0x0087, "HvCallNotifyPartitionEvent", S, CPU),
    (0x0088, "HvCallGetLogicalProcessorRegisters", R, CPU),
    (0x0089, "HvCallSetLogicalProcessorRegisters", R, CPU),
    (0x008A, "HvCallQueryAssociatedLpsForMca", S, CPU),
    (0x008B, "HvCallNotifyPortRingEmpty", S, NONE),
    (0x008C, "HvCallInjectSyntheticMachineCheck", S, CREATE),
    (0x008D, "HvCallScrubPartition", S, CREATE),
    (0x008E, "HvCallCollectLivedump", S, CPU),
    (0x008F, "HvCallDisableHypervisor", S, CPU),
    (0x0090, "HvCallModifySparseGpaPages", R, CREATE),
    (0x0091, "HvCallRegisterInterceptResult", S, CREATE),
    (0x0092, "HvCallUnregisterInterceptResult", S, CREATE),
    (0x0094, "HvCallAssertVirtualInterrupt", S, CREATE),
    (0x0095, "HvCallCreatePort", S, Privilege.CREATE_PORT),
    (0x0096, "HvCallConnectPort", S, Privilege.CONNECT_PORT),
    (0x0097, "HvCallGetSpaPageList", R, CREATE),
    (0x0099, "HvCallStartVirtualProcessor", S, Privilege.START_VIRTUAL_PROCESSOR),
    (0x009A, "HvCallGetVpIndexFromApicId", R, Privilege.START_VIRTUAL_PROCESSOR),
    (0x00AC, "HvCallTranslateVirtualAddressEx", S, REGISTERS),
    (0x00AD, "HvCallCheckForIoIntercept", S, CREATE),
    (0x00AF, "HvCallFlushGuestPhysicalAddressSpace", S, NONE),
    (0x00B0, "HvCallFlushGuestPhysicalAddressList", R, NONE),
    (0x00C0, "HvCallSignalEventDirect", S, CREATE),
    (0x00C1, "HvCallPostMessageDirect", S, CREATE),
    (0x00C2, "HvCallDispatchVp", S, CREATE),
    (0x00C9, "HvCallGetGpaPagesAccessState", R, CREATE),
    (0x00D4, "HvCallCheckSparseGpaPageVtlAccess", R, VSM),
    (0x00D7, "HvCallAcquireSparseSpaPageHostAccess", R, CREATE),
    (0x00D8, "HvCallReleaseSparseSpaPageHostAccess", R, CREATE),
    (0x00D9, "HvCallAcceptGpaPages", R, Privilege.ISOLATION),
    (0x00DB, "HvCallModifySparseGpaPageHostVisibility", R, Privilege.ISOLATION),
    (0x00E1, "HvCallMapVpStatePage", S, CREATE),
    (0x00E2, "HvCallUnmapVpStatePage", S, CREATE),
    (0x00E3, "HvCallGetVpState", R, CREATE),
    (0x00E4, "HvCallSetVpState", R, CREATE),
    (0x00E5, "HvCallGetVpSetFromMda", S, CREATE),
    (0x00F4, "HvCallGetVpCpuidValues", R, CREATE),
    (0x0101, "HvCallGetPartitionPropertyEx", S, CREATE),
    (0x0106, "HvCallMemoryMappedIoRead", S, NONE),
    (0x0107, "HvCallMemoryMappedIoWrite", S, NONE),
    (0x010A, "HvCallSetPartitionPropertyEx", S, CREATE),
    (0x010F, "HvCallDisableHypervisorEx", S, CPU),
    (0x0110, "HvCallInstallInterceptEx", R, CREATE),
    (0x0112, "HvCallPinGpaPageRanges", R, VSM),
    (0x0113, "HvCallUnpinGpaPageRanges", R, VSM),
    (0x011C, "HvCallQuerySparseGpaPageHostVisibility", R, Privilege.ISOLATION),
    (0x011F, "HvCallSetVirtualInterruptTarget", S, CREATE),
    (0x0131, "HvCallMapStatsPage2", S, STATS),
    (0x8002, "HvExtCallGetBootZeroedMemory", S, EXTENDED),
    (0x8003, "HvExtCallMemoryHeatHint", S, EXTENDED),
    (0x8004, "HvExtCallEpfSetup", S, EXTENDED),
    (0x8005, "HvExtCallSchedulerAssistSetup", S, EXTENDED),
    (0x8006, "HvExtCallMemoryHeatHintAsync", S, EXTENDED),
)

CALLS: dict[int, Call] = {
    call.code: call for call in (*SHAPED, *(Call(code, name, rep, need) for code, name, rep, need in _NAMED))
}
