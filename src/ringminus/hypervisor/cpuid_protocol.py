"""CPUID's leaves, declared for who shows them: what a leaf is called, and what its registers say.

The message is EAX, EBX, ECX, EDX, 16 bytes; its number is the leaf. Names of leaves as in the AMD64
Architecture Programmer's Manual volume 3 appendix E, in Intel's SDM, and in the TLFS.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Annotated

from ringminus.hypervisor import cpuid
from ringminus.hypervisor.wire import Feature, HardwareFeature, Privilege, Recommendation
from ringminus.protocol import NAMES, Bits, Form, Protocol, Show, declare, word
from ringminus.wire import U16, U32, U64, Bytes, Struct


class Registers(Struct):
    """EAX, EBX, ECX and EDX."""

    eax: U32
    ebx: U32
    ecx: U32
    edx: U32


class Vendor(Struct):
    """A leaf that begins a range; the vendor's letters are in EBX, EDX, ECX in Intel's and AMD's."""

    highest_leaf: U32
    vendor_1: Annotated[bytes, Bytes(4)]
    vendor_3: Annotated[bytes, Bytes(4)]
    vendor_2: Annotated[bytes, Bytes(4)]


class HypervisorVendor(Struct):
    """Leaf 0x40000000."""

    highest_leaf: U32
    hypervisor: Annotated[bytes, Bytes(12)]


class HypervisorInterface(Struct):
    """Leaf 0x40000001."""

    interface: Annotated[bytes, Bytes(4)]
    reserved: Annotated[bytes, Bytes(12)]


class HypervisorVersion(Struct):
    """Leaf 0x40000002."""

    build: U32
    minor: U16
    major: U16
    service_pack: U32
    service: U32


class HypervisorFeatures(Struct):
    """Leaf 0x40000003."""

    privileges: U64
    power: U32
    features: U32


class Recommendations(Struct):
    """Leaf 0x40000004."""

    recommendations: U32
    spin_retries: U32
    physical_bits: U32
    reserved: U32


class Limits(Struct):
    """Leaf 0x40000005."""

    most_vps: U32
    most_lps: U32
    most_vectors: U32
    reserved: U32


class Hardware(Struct):
    """Leaf 0x40000006."""

    hardware: U32
    reserved: Annotated[bytes, Bytes(12)]


class VersionAndFeatures(Struct):
    """Leaf 1."""

    signature: U32
    limits: U32
    features_ecx: U32
    features_edx: U32


class StructuredFeatures(Struct):
    """Leaf 7."""

    highest_subleaf: U32
    structured_ebx: U32
    structured_ecx: U32
    structured_edx: U32


class ExtendedFeatures(Struct):
    """Leaf 0x80000001."""

    signature: U32
    reserved: U32
    extended_ecx: U32
    extended_edx: U32


class AddressSizes(Struct):
    """Leaf 0x80000008."""

    sizes: U32
    sizes_ebx: U32
    cores: U32
    reserved: U32


class ExtendedFeatures2(Struct):
    """Leaf 0x80000021."""

    extended2_eax: U32
    reserved: Annotated[bytes, Bytes(12)]


EdxExtended = IntFlag(  # type: ignore[misc]
    "EdxExtended",
    {
        **{one.name: one.value for one in cpuid.Edx1 if one.name and one & cpuid.SHARED_WITH_EXTENDED},
        **{one.name: one.value for one in cpuid.EdxExtended if one.name},
    },
)

_SHAPED: dict[int, type[Struct]] = {
    cpuid.SIGNATURE: Vendor,
    cpuid.VERSION_AND_FEATURES: VersionAndFeatures,
    cpuid.STRUCTURED_FEATURES: StructuredFeatures,
    cpuid.HYPERVISOR_VENDOR: HypervisorVendor,
    cpuid.HYPERVISOR_INTERFACE: HypervisorInterface,
    cpuid.HYPERVISOR_VERSION: HypervisorVersion,
    cpuid.HYPERVISOR_FEATURES: HypervisorFeatures,
    cpuid.RECOMMENDATIONS: Recommendations,
    cpuid.IMPLEMENTATION_LIMITS: Limits,
    cpuid.HARDWARE_FEATURES: Hardware,
    cpuid.EXTENDED_SIGNATURE: Vendor,
    cpuid.EXTENDED_FEATURES: ExtendedFeatures,
    **{cpuid.BRAND + part: word("brand", Bytes(16)) for part in range(3)},
    cpuid.ADDRESS_SIZES: AddressSizes,
    cpuid.EXTENDED_FEATURES_2: ExtendedFeatures2,
}

LEAVES: dict[int, str] = {
    cpuid.SIGNATURE: "VENDOR",
    cpuid.VERSION_AND_FEATURES: "VERSION_AND_FEATURES",
    0x00000002: "CACHE_DESCRIPTORS",
    0x00000003: "SERIAL_NUMBER",
    0x00000004: "CACHE_PARAMETERS",
    0x00000005: "MONITOR",
    0x00000006: "POWER_AND_THERMAL",
    cpuid.STRUCTURED_FEATURES: "STRUCTURED_FEATURES",
    0x00000009: "DIRECT_CACHE_ACCESS",
    0x0000000A: "PERFORMANCE_MONITORING",
    0x0000000B: "TOPOLOGY",
    0x0000000D: "EXTENDED_STATE",
    0x0000000F: "QOS_MONITORING",
    0x00000010: "QOS_ALLOCATION",
    0x00000012: "SGX",
    0x00000014: "PROCESSOR_TRACE",
    0x00000015: "TSC_FREQUENCY",
    0x00000016: "FREQUENCIES",
    0x00000018: "ADDRESS_TRANSLATION",
    0x00000019: "KEY_LOCKER",
    0x0000001A: "HYBRID",
    0x0000001B: "PCONFIG",
    0x0000001C: "LAST_BRANCH_RECORDS",
    0x0000001D: "TILES",
    0x0000001F: "TOPOLOGY_2",
    0x00000021: "TDX",
    cpuid.HYPERVISOR_VENDOR: "HYPERVISOR_VENDOR",
    cpuid.HYPERVISOR_INTERFACE: "HYPERVISOR_INTERFACE",
    cpuid.HYPERVISOR_VERSION: "HYPERVISOR_VERSION",
    cpuid.HYPERVISOR_FEATURES: "HYPERVISOR_FEATURES",
    cpuid.RECOMMENDATIONS: "RECOMMENDATIONS",
    cpuid.IMPLEMENTATION_LIMITS: "IMPLEMENTATION_LIMITS",
    cpuid.HARDWARE_FEATURES: "HARDWARE_FEATURES",
    0x40000007: "ROOT_CPU_MANAGEMENT",
    0x40000008: "SHARED_VIRTUAL_MEMORY",
    0x40000009: "NESTED_FEATURES",
    0x4000000A: "NESTED_OPTIMIZATIONS",
    0x4000000C: "ISOLATION",
    0x40000080: "STACK_VENDOR",
    0x40000081: "STACK_INTERFACE",
    0x40000082: "STACK_PROPERTIES",
    cpuid.EXTENDED_SIGNATURE: "EXTENDED_VENDOR",
    cpuid.EXTENDED_FEATURES: "EXTENDED_FEATURES",
    cpuid.BRAND: "BRAND_1",
    cpuid.BRAND + 1: "BRAND_2",
    cpuid.BRAND + 2: "BRAND_3",
    0x80000005: "L1_CACHES",
    0x80000006: "L2_AND_L3_CACHES",
    cpuid.POWER_MANAGEMENT: "POWER_MANAGEMENT",
    cpuid.ADDRESS_SIZES: "ADDRESS_SIZES",
    0x8000000A: "SVM",
    0x80000019: "TLB_1GB",
    0x8000001A: "PERFORMANCE_HINTS",
    0x8000001B: "INSTRUCTION_SAMPLING",
    0x8000001C: "LIGHTWEIGHT_PROFILING",
    0x8000001D: "CACHE_TOPOLOGY",
    cpuid.EXTENDED_TOPOLOGY: "EXTENDED_TOPOLOGY",
    0x8000001F: "MEMORY_ENCRYPTION",
    0x80000020: "QOS_EXTENDED",
    cpuid.EXTENDED_FEATURES_2: "EXTENDED_FEATURES_2",
    0x80000022: "PERFORMANCE_MONITORING_2",
    0x80000026: "EXTENDED_TOPOLOGY_2",
}

CPUID = declare(
    Protocol(
        "cpuid_leaf",
        "Leaf of CPUID",
        None,
        "leaf",
        {leaf: Form(name, _SHAPED.get(leaf, Registers)) for leaf, name in LEAVES.items()},
        {
            "features_ecx": cpuid.Ecx1,
            "features_edx": cpuid.Edx1,
            "structured_ebx": cpuid.Ebx7,
            "extended_ecx": cpuid.EcxExtended,
            "extended_edx": EdxExtended,
            "sizes_ebx": cpuid.EbxSizes,
            "extended2_eax": cpuid.EaxExtended2,
            "privileges": Privilege,
            "features": Feature,
            "recommendations": Recommendation,
            "hardware": HardwareFeature,
        },
        words={
            "signature": (
                Bits("stepping", 0, 4),
                Bits("model", 4, 4),
                Bits("family", 8, 4),
                Bits("extended_model", 16, 4),
                Bits("extended_family", 20, 8),
            ),
            "limits": (
                Bits("brand_id", 0, 8),
                Bits("clflush_units", 8, 8),
                Bits("processors", 16, 8),
                Bits("apic_id", 24, 8),
            ),
            "sizes": (Bits("physical_bits", 0, 8), Bits("linear_bits", 8, 8)),
        },
        shows={
            **dict.fromkeys(
                ("vendor_1", "vendor_2", "vendor_3", "hypervisor", "interface", "brand"), Show.TEXT
            ),
            **dict.fromkeys(("eax", "ebx", "ecx", "edx", "highest_leaf", "signature"), Show.HEX),
        },
        otherwise=Form("", Registers),
    )
)

NAMES["cpuid.leaf"] = LEAVES
