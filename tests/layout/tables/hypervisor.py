"""The hypervisor's interface and the kernel's."""

from __future__ import annotations

from types import ModuleType

from layout.comparison import Same, SameBits, SameNumbers
from ringminus.hypervisor import cpuid_protocol, wire
from ringminus.wire import Struct

_NESTED_CONTROL = ("nested_control.features", "nested_control.hypercallControls")

SAME = (
    Same(
        wire.PostMessageInput,
        "hv_input_post_message",
        renamed={"connection_id": "connectionid"},
    ),
    Same(wire.FlushInput, "hv_tlb_flush", "vmlinux"),
    Same(
        wire.FlushInputEx,
        "hv_tlb_flush_ex",
        "vmlinux",
        renamed={"set_format": "format", "valid_banks": "valid_bank_mask"},
    ),
    Same(
        wire.ClusterIpiInput,
        "hv_send_ipi",
        "vmlinux",
        renamed={"processor_mask": "cpu_mask"},
        split={"target_vtl": "reserved", "reserved": "reserved"},
    ),
    Same(
        wire.ClusterIpiInputEx,
        "hv_send_ipi_ex",
        "vmlinux",
        renamed={"set_format": "format", "valid_banks": "valid_bank_mask"},
        split={"target_vtl": "reserved", "reserved": "reserved"},
    ),
    Same(wire.PartitionIdOutput, "hv_get_partition_id", "vmlinux"),
    Same(
        wire.MessageHeader,
        "hv_message_header",
        "vmlinux",
        renamed={"flags": "message_flags", "origin": "sender"},
    ),
    Same(wire.Message, "hv_message", "vmlinux", renamed={"flags": "message_flags", "origin": "sender"}),
    Same(wire.TimerMessage, "hv_timer_message_payload", "kvm"),
    Same(
        wire.ReferenceTscPage,
        "ms_hyperv_tsc_page",
        "vmlinux",
        renamed={"sequence": "tsc_sequence", "scale": "tsc_scale", "offset": "tsc_offset"},
    ),
    Same(
        wire.VpAssistPage,
        "hv_vp_assist_page",
        "vmlinux",
        renamed={"enlighten_vm_entry": "enlighten_vmentry"},
        merged={"nested_control": _NESTED_CONTROL},
        beyond={"time_unhalted_timer_expired": "not in Linux 6.1", "reserved2": "not in Linux 6.1"},
    ),
    Same(
        wire.VpAssistPage,
        "hv_vp_assist_page",  # as Linux 6.12 has it
        "vmlinux",
        renamed={
            "enlighten_vm_entry": "enlighten_vmentry",
            "time_unhalted_timer_expired": "synthetic_time_unhalted_timer_expired",
        },
        merged={
            "vtl_control": ("vtl_entry_reason", "vtl_reserved", "vtl_ret_x64rax", "vtl_ret_x64rcx"),
            "nested_control": _NESTED_CONTROL,
        },
        until="virtualization_fault_information",
    ),
)

NUMBERS: tuple[SameNumbers, ...] = (
    SameNumbers(
        "MessageType",
        {m.name: m.value for m in wire.MessageType},
        "hv_message_type",
        "HVMSG_",
        renamed={"TIMER_EXPIRED": "HVMSG_TIMER_EXPIRED"},
        beyond={"VMBUS": "the bus's own, a macro"},
    ),
)

_PAGE = wire.PAGE_ENABLE, wire.PAGE_ADDRESS
_TIMER = wire.TimerConfig

BITS = (
    SameBits(
        "TimerConfig",
        {
            "enable": _TIMER.ENABLED,
            "periodic": _TIMER.PERIODIC,
            "lazy": _TIMER.LAZY,
            "auto_enable": _TIMER.AUTO_ENABLE,
            "apic_vector": _TIMER.VECTOR_MASK << _TIMER.VECTOR_SHIFT,
            "direct_mode": _TIMER.DIRECT,
            "sintx": _TIMER.SINT_MASK << _TIMER.SINT_SHIFT,
            "reserved_z0": _TIMER.RESERVED & 0xFFFF,
            "reserved_z1": _TIMER.RESERVED & ~0xFFFF,
        },
        "hv_stimer_config",
        "vmlinux",
    ),
    SameBits(
        "Sint",
        {
            "vector": wire.Sint.VECTOR,
            "masked": wire.Sint.MASKED,
            "auto_eoi": wire.Sint.AUTO_EOI,
            "polling": wire.Sint.POLLING,
        },
        "hv_synic_sint",
    ),
    SameBits("SCONTROL", {"enable": wire.SCONTROL_ENABLE}, "hv_synic_scontrol"),
    SameBits("SIMP", dict(zip(("simp_enabled", "base_simp_gpa"), _PAGE, strict=True)), "hv_synic_simp"),
    SameBits("SIEFP", dict(zip(("siefp_enabled", "base_siefp_gpa"), _PAGE, strict=True)), "hv_synic_siefp"),
    SameBits(
        "HYPERCALL",
        dict(zip(("enable", "guest_physical_address"), _PAGE, strict=True)),
        "hv_x64_msr_hypercall_contents",
        "vmlinux",
    ),
    SameBits(
        "REFERENCE_TSC", dict(zip(("enable", "pfn"), _PAGE, strict=True)), "hv_reference_tsc_msr", "vmlinux"
    ),
    SameBits(
        "VP_ASSIST_PAGE",
        dict(zip(("enable", "pfn"), _PAGE, strict=True)),
        "hv_vp_assist_msr_contents",
        "vmlinux",
    ),
    SameBits("message flags", {"msg_pending": wire.MESSAGE_PENDING}, "hv_message_flags", "vmlinux"),
)

_NO_TYPE = "Linux puts the input together in registers or reads the answer as a number"
_NOT_CALLED = "this kernel makes no such hypercall; source: TLFS"

NOT_IN_LINUX: dict[type[Struct] | ModuleType, str] = {
    cpuid_protocol: "registers, no memory",
    wire.RegisterBlock: "registers, no memory",
    wire.SignalEventInput: _NO_TYPE,
    wire.NotifyLongSpinWaitInput: _NOT_CALLED,
    wire.GvaRange: _NO_TYPE,
    wire.VpRegistersInput: _NOT_CALLED,
    wire.RegisterName: _NOT_CALLED,
    wire.RegisterAssociation: _NOT_CALLED,
    wire.RegisterValue: _NOT_CALLED,
    wire.QueryCapabilitiesOutput: _NO_TYPE,
}
