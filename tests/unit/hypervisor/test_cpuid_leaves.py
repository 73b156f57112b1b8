"""CPUID as a guest reads it (TLFS, feature-discovery.md; AMD64 manual volume 3, appendix E)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ringminus.hypervisor.cpuid import PROFILES, SOFTWARE, Ecx1, Edx1, EdxPower
from ringminus.hypervisor.wire import Feature, Privilege, Recommendation
from support.hypervisor import Guest

TSC_INVARIANT_CONTROL = 0x40000118


def text(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


def test_the_hypervisor_bit_and_the_vendor_make_linux_detect_hyper_v() -> None:
    vp = Guest().vp
    assert vp.cpuid(1, 0)[2] & Ecx1.HYPERVISOR
    limit, *signature = vp.cpuid(0x40000000, 0)
    assert text(*signature) == b"Microsoft Hv"
    assert 0x40000005 <= limit <= 0x4000FFFF  # what Linux demands
    assert text(vp.cpuid(0x40000001, 0)[0]) == b"Hv#1"


def test_every_leaf_up_to_the_hypervisors_limit_is_declared() -> None:
    vp = Guest().vp
    limit = vp.cpuid(0x40000000, 0)[0]
    assert limit == 0x40000006
    assert all(any(vp.cpuid(leaf, 0)) for leaf in range(0x40000000, limit + 1))
    assert vp.cpuid(limit + 1, 0) == (0, 0, 0, 0)


def test_privileges_are_split_over_eax_and_ebx() -> None:
    low, high, _, features = Guest().vp.cpuid(0x40000003, 0)
    privileges = Privilege(low | high << 32)
    assert privileges == SOFTWARE.privileges
    assert Feature(features) == SOFTWARE.features
    # Linux takes a guest with this one for the root partition, and calls BUG() when the other fails
    assert Privilege.CPU_MANAGEMENT not in privileges
    assert Privilege.PARTITION_ID not in privileges


def test_the_version_is_build_then_major_and_minor() -> None:
    build, version, _, _ = Guest().vp.cpuid(0x40000002, 0)
    assert (build, version >> 16, version & 0xFFFF) == (20348, 10, 0)


def test_recommendations_ask_for_msrs_relaxed_timing_and_no_auto_eoi() -> None:
    hints, spins, physical_bits, _ = Guest().vp.cpuid(0x40000004, 0)
    assert Recommendation(hints) == (
        Recommendation.APIC_MSRS | Recommendation.RELAXED_TIMING | Recommendation.NO_AUTO_EOI
    )
    assert (spins, physical_bits) == (0xFFFFFFFF, 40)


def test_the_software_profile_is_an_amd_family_17h_processor() -> None:
    vp = Guest().vp
    maximum, ebx, ecx, edx = vp.cpuid(0, 0)
    assert (maximum, text(ebx, edx, ecx)) == (7, b"AuthenticAMD")
    assert vp.cpuid(1, 0)[0] == 0x00800F12
    assert vp.cpuid(0x80000000, 0)[0] == 0x80000021
    brand = text(*(word for leaf in range(0x80000002, 0x80000005) for word in vp.cpuid(leaf, 0)))
    assert brand.rstrip(b"\0") == SOFTWARE.brand


def test_the_structured_features_are_subleaf_0_only() -> None:
    vp = Guest().vp
    assert vp.cpuid(7, 0)[1] == 1 << 0 | 1 << 7 | 1 << 20  # FSGSBASE, SMEP, SMAP
    assert vp.cpuid(7, 1) == (0, 0, 0, 0)


def test_a_leaf_without_subleaves_ignores_ecx() -> None:
    vp = Guest().vp
    assert vp.cpuid(1, 0) == vp.cpuid(1, 12345)


@pytest.mark.parametrize("leaf", [2, 8, 0x40000100, 0x80000022, 0xFFFFFFFF])
def test_an_unknown_leaf_is_all_zeros(leaf: int) -> None:
    assert Guest().vp.cpuid(leaf, 0) == (0, 0, 0, 0)


def test_one_processor_has_no_hyper_threading_bit() -> None:
    _, ebx, _, edx = Guest().vp.cpuid(1, 0)
    assert not edx & Edx1.HTT
    assert (ebx >> 24, ebx >> 16 & 0xFF, ebx >> 8 & 0xFF) == (0, 1, 8)


def test_with_several_processors_each_has_its_apic_id_and_all_have_the_htt_bit() -> None:
    vps = Guest(vp_count=4).partition.vps
    assert [vp.cpuid(1, 0)[1] >> 24 for vp in vps] == [0, 1, 2, 3]
    assert all(vp.cpuid(1, 0)[3] & Edx1.HTT for vp in vps)
    assert [vp.cpuid(0x8000001E, 0)[0] for vp in vps] == [0, 1, 2, 3]
    assert vps[0].cpuid(0x80000008, 0)[2] & 0xFF == 3  # processors less one


def test_the_guest_asks_for_the_invariant_tsc_bit() -> None:
    offered = replace(SOFTWARE, privileges=SOFTWARE.privileges | Privilege.TSC_INVARIANT_CONTROL)
    guest = Guest(offered, vp_count=2)
    assert not guest.vp.cpuid(0x80000007, 0)[3] & EdxPower.INVARIANT_TSC
    guest.write(TSC_INVARIANT_CONTROL, 1)
    assert guest.read(TSC_INVARIANT_CONTROL) == 1
    assert all(vp.cpuid(0x80000007, 0)[3] & EdxPower.INVARIANT_TSC for vp in guest.partition.vps)


def test_without_the_control_the_invariant_tsc_bit_is_always_there() -> None:
    # and the guest keeps to the reference TSC page, as the control is what makes it trust its own counter
    assert Guest().vp.cpuid(0x80000007, 0)[3] & EdxPower.INVARIANT_TSC


def test_a_profile_cannot_offer_a_feature_without_its_privilege() -> None:
    with pytest.raises(ValueError, match="frequency MSRs"):
        replace(SOFTWARE, privileges=SOFTWARE.privileges & ~Privilege.FREQUENCIES)


def test_extra_leaves_override_the_table() -> None:
    profile = replace(SOFTWARE, extra={(0x16, 0): (3000, 0, 0, 0)})
    assert Guest(profile).vp.cpuid(0x16, 0) == (3000, 0, 0, 0)


def test_profiles_are_found_by_name() -> None:
    assert PROFILES["software"] is SOFTWARE
