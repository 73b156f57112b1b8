"""CPUID: what a guest is told about its processor and its hypervisor, as a named profile.

A `Profile` is data; `leaves` turns it into the table of one virtual processor. Leaves that depend on the
virtual processor (its APIC id, how many there are) are computed there. Sources: AMD64 Architecture
Programmer's Manual volume 3 appendix E; TLFS, feature-discovery.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag

from ringminus.hypervisor.wire import Feature, HardwareFeature, Privilege, Recommendation

Leaf = tuple[int, int, int, int]
ZERO: Leaf = (0, 0, 0, 0)

SIGNATURE, VERSION_AND_FEATURES, STRUCTURED_FEATURES = 0, 1, 7
HYPERVISOR_VENDOR, HYPERVISOR_INTERFACE, HYPERVISOR_VERSION = 0x40000000, 0x40000001, 0x40000002
HYPERVISOR_FEATURES, RECOMMENDATIONS = 0x40000003, 0x40000004
IMPLEMENTATION_LIMITS, HARDWARE_FEATURES = 0x40000005, 0x40000006
EXTENDED_SIGNATURE, EXTENDED_FEATURES, BRAND = 0x80000000, 0x80000001, 0x80000002
POWER_MANAGEMENT, ADDRESS_SIZES = 0x80000007, 0x80000008
EXTENDED_TOPOLOGY, EXTENDED_FEATURES_2 = 0x8000001E, 0x80000021

HYPERVISOR_NAME = b"Microsoft Hv"
HYPERVISOR_INTERFACE_ID = b"Hv#1"


class Ecx1(IntFlag):
    """Leaf 1 ECX."""

    SSE3 = 1 << 0
    SSSE3 = 1 << 9
    CMPXCHG16B = 1 << 13
    SSE41 = 1 << 19
    SSE42 = 1 << 20
    X2APIC = 1 << 21
    MOVBE = 1 << 22
    POPCNT = 1 << 23
    HYPERVISOR = 1 << 31


class Edx1(IntFlag):
    """Leaf 1 EDX; most bits are repeated in leaf 0x80000001 EDX."""

    FPU = 1 << 0
    DE = 1 << 2
    PSE = 1 << 3
    TSC = 1 << 4
    MSR = 1 << 5
    PAE = 1 << 6
    CMPXCHG8B = 1 << 8
    APIC = 1 << 9
    SYSENTER = 1 << 11
    PGE = 1 << 13
    CMOV = 1 << 15
    PAT = 1 << 16
    PSE36 = 1 << 17
    CLFLUSH = 1 << 19
    MMX = 1 << 23
    FXSR = 1 << 24
    SSE = 1 << 25
    SSE2 = 1 << 26
    HTT = 1 << 28


SHARED_WITH_EXTENDED = 0x0183F3FF  # the bits of leaf 1 EDX that AMD repeats in 0x80000001 EDX


class Ebx7(IntFlag):
    """Leaf 7, subleaf 0, EBX."""

    FSGSBASE = 1 << 0
    SMEP = 1 << 7
    SMAP = 1 << 20


class EcxExtended(IntFlag):
    """Leaf 0x80000001 ECX."""

    LAHF = 1 << 0
    CMP_LEGACY = 1 << 1
    ABM = 1 << 5
    PREFETCHW = 1 << 8
    TOPOLOGY_EXTENSIONS = 1 << 22


class EdxExtended(IntFlag):
    """Leaf 0x80000001 EDX, beside what it repeats."""

    SYSCALL = 1 << 11
    NX = 1 << 20
    PAGES_1GIB = 1 << 26
    RDTSCP = 1 << 27
    LONG_MODE = 1 << 29


class EdxPower(IntFlag):
    """Leaf 0x80000007 EDX."""

    INVARIANT_TSC = 1 << 8


class EbxSizes(IntFlag):
    """Leaf 0x80000008 EBX."""

    BTC_NO = 1 << 29


class EaxExtended2(IntFlag):
    """Leaf 0x80000021 EAX."""

    LFENCE_SERIALIZES = 1 << 2
    SRSO_NO = 1 << 29


@dataclass(frozen=True, slots=True)
class Profile:
    """A processor and a hypervisor as CPUID shows them; change it with `dataclasses.replace`."""

    name: str
    vendor: bytes
    signature: int  # leaf 1 EAX: family, model, stepping
    brand: bytes
    ecx1: Ecx1
    edx1: Edx1
    ebx7: Ebx7
    ecx_extended: EcxExtended
    edx_extended: EdxExtended
    ebx_sizes: EbxSizes
    eax_extended2: EaxExtended2
    physical_bits: int
    virtual_bits: int
    cache_line: int
    privileges: Privilege
    features: Feature
    recommendations: Recommendation
    hardware: HardwareFeature
    build: int  # the hypervisor's version, leaf 0x40000002
    version: tuple[int, int]
    spin_retries: int
    max_vps: int
    extra: dict[tuple[int, int], Leaf] = field(default_factory=dict)  # (leaf, subleaf): as it is

    def __post_init__(self) -> None:
        missing = [
            name
            for feature, privilege, name in (
                (Feature.FREQUENCY_MSRS, Privilege.FREQUENCIES, "frequency MSRs"),
                (Feature.GUEST_IDLE, Privilege.GUEST_IDLE, "guest idle"),
            )
            if feature in self.features and privilege not in self.privileges
        ]
        if missing:
            raise ValueError(f"profile {self.name} offers {', '.join(missing)} without the privilege")


SOFTWARE = Profile(
    name="software",
    vendor=b"AuthenticAMD",
    signature=0x00800F12,  # family 17h
    brand=b"ringminus virtual processor",
    ecx1=Ecx1.SSE3
    | Ecx1.SSSE3
    | Ecx1.CMPXCHG16B
    | Ecx1.SSE41
    | Ecx1.SSE42
    | Ecx1.X2APIC
    | Ecx1.MOVBE
    | Ecx1.POPCNT
    | Ecx1.HYPERVISOR,
    edx1=Edx1.FPU
    | Edx1.DE
    | Edx1.PSE
    | Edx1.TSC
    | Edx1.MSR
    | Edx1.PAE
    | Edx1.CMPXCHG8B
    | Edx1.APIC
    | Edx1.SYSENTER
    | Edx1.PGE
    | Edx1.CMOV
    | Edx1.PAT
    | Edx1.PSE36
    | Edx1.CLFLUSH
    | Edx1.MMX
    | Edx1.FXSR
    | Edx1.SSE
    | Edx1.SSE2,
    # no AVX and no XSAVE: the software processor lacks them; no ERMS: REP MOVSB is done byte by byte there
    ebx7=Ebx7.FSGSBASE | Ebx7.SMEP | Ebx7.SMAP,
    ecx_extended=EcxExtended.LAHF | EcxExtended.ABM | EcxExtended.PREFETCHW,
    edx_extended=EdxExtended.SYSCALL
    | EdxExtended.NX
    | EdxExtended.PAGES_1GIB
    | EdxExtended.RDTSCP
    | EdxExtended.LONG_MODE,
    ebx_sizes=EbxSizes.BTC_NO,
    eax_extended2=EaxExtended2.LFENCE_SERIALIZES | EaxExtended2.SRSO_NO,
    physical_bits=40,  # what the translator checks page-table entries against
    virtual_bits=48,
    cache_line=64,
    privileges=Privilege.VP_RUNTIME
    | Privilege.REFERENCE_COUNTER
    | Privilege.SYNIC
    | Privilege.SYNTHETIC_TIMERS
    | Privilege.INTERRUPT_CONTROL
    | Privilege.HYPERCALL
    | Privilege.VP_INDEX
    | Privilege.RESET
    | Privilege.REFERENCE_TSC
    | Privilege.GUEST_IDLE
    | Privilege.FREQUENCIES
    | Privilege.POST_MESSAGES
    | Privilege.SIGNAL_EVENTS
    | Privilege.EXTENDED_HYPERCALLS,
    features=Feature.XMM_HYPERCALL_INPUT
    | Feature.GUEST_IDLE
    | Feature.FREQUENCY_MSRS
    | Feature.CRASH_MSRS
    | Feature.XMM_HYPERCALL_OUTPUT
    | Feature.SINT_POLLING
    | Feature.HYPERCALL_MSR_LOCK
    | Feature.DIRECT_SYNTHETIC_TIMERS,
    recommendations=Recommendation.APIC_MSRS | Recommendation.RELAXED_TIMING | Recommendation.NO_AUTO_EOI,
    hardware=HardwareFeature.MSR_BITMAPS | HardwareFeature.SECOND_LEVEL_TRANSLATION,
    build=20348,
    version=(10, 0),
    spin_retries=0xFFFFFFFF,
    max_vps=64,
)

PROFILES: dict[str, Profile] = {SOFTWARE.name: SOFTWARE}


def _word(text: bytes, index: int) -> int:
    return int.from_bytes(text[4 * index : 4 * index + 4], "little")


def _privilege_words(privileges: Privilege) -> tuple[int, int]:
    return int(privileges) & 0xFFFFFFFF, int(privileges) >> 32


def _processor_leaves(profile: Profile, apic_id: int, vp_count: int) -> dict[tuple[int, int], Leaf]:
    vendor = profile.vendor
    names = _word(vendor, 0), _word(vendor, 2), _word(vendor, 1)
    several = vp_count > 1
    edx1 = int(profile.edx1 | (Edx1.HTT if several else Edx1(0)))
    ebx1 = (apic_id & 0xFF) << 24 | (vp_count & 0xFF) << 16 | profile.cache_line // 8 << 8
    ecx_extended = profile.ecx_extended
    if several:
        ecx_extended |= EcxExtended.CMP_LEGACY | EcxExtended.TOPOLOGY_EXTENSIONS
    brand = profile.brand.ljust(48, b"\0")
    bits = profile.physical_bits | profile.virtual_bits << 8
    id_bits = (vp_count - 1).bit_length()
    leaves: dict[tuple[int, int], Leaf] = {
        (SIGNATURE, 0): (STRUCTURED_FEATURES, *names),
        (VERSION_AND_FEATURES, 0): (profile.signature, ebx1, int(profile.ecx1), edx1),
        (STRUCTURED_FEATURES, 0): (0, int(profile.ebx7), 0, 0),
        (EXTENDED_SIGNATURE, 0): (EXTENDED_FEATURES_2, *names),
        (EXTENDED_FEATURES, 0): (
            profile.signature,
            0,
            int(ecx_extended),
            edx1 & SHARED_WITH_EXTENDED | int(profile.edx_extended),
        ),
        (POWER_MANAGEMENT, 0): (0, 0, 0, int(EdxPower.INVARIANT_TSC)),
        (ADDRESS_SIZES, 0): (bits, int(profile.ebx_sizes), id_bits << 12 | vp_count - 1, 0),
        (EXTENDED_TOPOLOGY, 0): (apic_id, apic_id & 0xFF, 0, 0),  # one thread to a core, one node
        (EXTENDED_FEATURES_2, 0): (int(profile.eax_extended2), 0, 0, 0),
    }
    for part in range(3):
        a, b, c, d = (_word(brand, 4 * part + register) for register in range(4))
        leaves[BRAND + part, 0] = a, b, c, d
    return leaves


def _hypervisor_leaves(profile: Profile) -> dict[tuple[int, int], Leaf]:
    low, high = _privilege_words(profile.privileges)
    major, minor = profile.version
    a, b, c = (_word(HYPERVISOR_NAME, index) for index in range(3))
    return {
        (HYPERVISOR_VENDOR, 0): (HARDWARE_FEATURES, a, b, c),
        (HYPERVISOR_INTERFACE, 0): (_word(HYPERVISOR_INTERFACE_ID, 0), 0, 0, 0),
        (HYPERVISOR_VERSION, 0): (profile.build, major << 16 | minor, 0, 0),
        (HYPERVISOR_FEATURES, 0): (low, high, 0, int(profile.features)),
        (RECOMMENDATIONS, 0): (int(profile.recommendations), profile.spin_retries, profile.physical_bits, 0),
        (IMPLEMENTATION_LIMITS, 0): (profile.max_vps, profile.max_vps, 0, 0),
        (HARDWARE_FEATURES, 0): (int(profile.hardware), 0, 0, 0),
    }


def leaves(profile: Profile, apic_id: int, vp_count: int) -> dict[tuple[int, int], Leaf]:
    """All leaves of one virtual processor, by (leaf, subleaf). A leaf of which only subleaf 0 is here and
    that is not in `WITH_SUBLEAVES` gives the same for every subleaf; one that is absent is all zeros."""
    return {**_processor_leaves(profile, apic_id, vp_count), **_hypervisor_leaves(profile), **profile.extra}


WITH_SUBLEAVES = frozenset({STRUCTURED_FEATURES})


class Cpuid:
    """The leaves of one virtual processor, made for fast answers."""

    def __init__(self, profile: Profile, apic_id: int, vp_count: int) -> None:
        self._table = leaves(profile, apic_id, vp_count)
        self._plain = {
            leaf: values for (leaf, _), values in self._table.items() if leaf not in WITH_SUBLEAVES
        }
        # the guest has to ask for it, by TSC_INVARIANT_CONTROL, where it is offered that register
        self.show_invariant_tsc(Privilege.TSC_INVARIANT_CONTROL not in profile.privileges)

    def show_invariant_tsc(self, shown: bool) -> None:
        """Set or clear the bit of leaf 0x80000007."""
        self._plain[POWER_MANAGEMENT] = (0, 0, 0, int(EdxPower.INVARIANT_TSC) if shown else 0)

    def answer(self, leaf: int, subleaf: int) -> Leaf:
        """EAX, EBX, ECX, EDX; zeros for what does not exist, as on AMD."""
        values = self._plain.get(leaf)
        return values if values is not None else self._table.get((leaf, subleaf), ZERO)
