"""GPADLs: memory that the guest describes, in any number of messages and ranges. See `support.bus_script`."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable

import pytest

from ringminus.vmbus.control.gpadl import BUDGET
from ringminus.vmbus.control.plane import VmBusError
from ringminus.vmbus.gpa import GpaRange
from support.bus_script import RAM, Script, connected, opened

LAST_PAGE = RAM // 4096 - 1


def test_a_small_one_fits_in_its_header() -> None:
    script = connected().play(
        """
        >> GPADL_HEADER child_relid=1 gpadl=0xe1e10 pages=5,9,7
        << GpadlCreated disk handle=0xe1e10
        << GPADL_CREATED child_relid=1 gpadl=0xe1e10 creation_status=0
        """
    )
    gpadl = script.control.gpadl(script.keys["disk"], 0xE1E10)
    assert gpadl.ranges == (GpaRange(3 * 4096, 0, (5, 9, 7)),)


@pytest.mark.parametrize(
    ("pages", "messages"), [(26, 1), (27, 2), (54, 2), (55, 3), (4096, 147), (8190, 293)]
)
def test_a_large_one_comes_in_a_header_of_26_pages_and_bodies_of_28(pages: int, messages: int) -> None:
    script = connected()
    fields = {"child_relid": "1", "gpadl": "16", "pages": f"0-{pages - 1}"}
    payloads = script.payloads("GPADL", fields)
    assert len(payloads) == messages
    for payload in payloads[:-1]:
        assert script.control.receive(payload) == []
    assert len(script.control.receive(payloads[-1])) == 2
    (only,) = script.control.gpadl(script.keys["disk"], 16).ranges
    assert only == GpaRange(pages * 4096, 0, range(pages))


def test_bodies_may_come_in_pieces_of_any_size() -> None:
    connected().play(
        """
        >> GPADL_HEADER child_relid=1 gpadl=1 range_buflen=40    # nothing of the ranges yet
        !! bad ranges
        << GPADL_CREATED creation_status=UNSUCCESSFUL
        >> GPADL_HEADER child_relid=1 gpadl=1 range_buflen=40 ranges=16384@0:1
        >> GPADL_BODY gpadl=1
        >> GPADL_BODY gpadl=1 pages=2
        >> GPADL_BODY gpadl=1 pages=3-4
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        >> GPADL_BODY gpadl=1 pages=5
        !! unknown GPADL
        """
    )


def test_two_may_be_built_at_once() -> None:
    script = connected(offers=("disk", "net")).play(
        """
        >> GPADL_HEADER child_relid=1 gpadl=1 range_buflen=24 ranges=8192@0:1
        >> GPADL_HEADER child_relid=2 gpadl=2 range_buflen=24 ranges=8192@0:11
        >> GPADL_BODY gpadl=2 pages=12
        << GpadlCreated net handle=2
        << GPADL_CREATED child_relid=2 gpadl=2 creation_status=0
        >> GPADL_BODY gpadl=1 pages=2
        << GpadlCreated disk handle=1
        << GPADL_CREATED child_relid=1 gpadl=1 creation_status=0
        """
    )
    assert script.control.gpadl(script.keys["net"], 2).ranges[0].pfns[1] == 12


def test_ranges_may_be_many_and_need_no_alignment() -> None:
    script = connected().play(
        """
        >> GPADL child_relid=1 gpadl=1 ranges=1@4095:7;4096@1:20-21;100@0:3
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        """
    )
    ranges = script.control.gpadl(script.keys["disk"], 1).ranges
    assert ranges == (GpaRange(1, 4095, (7,)), GpaRange(4096, 1, (20, 21)), GpaRange(100, 0, (3,)))


def test_a_range_may_be_cut_between_messages_anywhere() -> None:
    spans = ";".join(f"8192@0:{page},{page + 1}" for page in range(0, 200, 2))
    script = connected().play(
        f"""
        >> GPADL child_relid=1 gpadl=1 ranges={spans}
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        """
    )
    assert len(script.control.gpadl(script.keys["disk"], 1).ranges) == 100


def test_firmware_sends_messages_of_full_length_and_means_less() -> None:
    script = connected()
    (header,) = script.payloads("GPADL_HEADER", {"child_relid": "1", "gpadl": "1", "pages": "5"})
    assert len(script.control.receive(header.ljust(240, b"\xff"))) == 2
    assert script.control.gpadl(script.keys["disk"], 1).ranges == (GpaRange(4096, 0, (5,)),)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("child_relid=2 pages=1", "unknown relid"),
        ("child_relid=1", "bad ranges"),
        ("child_relid=1 count=0 pages=1", "bad ranges"),
        ("child_relid=1 count=2 pages=1", "bad ranges"),
        ("child_relid=1 count=2 pages=1-3", "bad ranges"),
        ("child_relid=1 count=65535 range_buflen=65535 pages=1", "bad ranges"),
        ("child_relid=1 ranges=0@0:1", "bad ranges"),
        ("child_relid=1 ranges=4096@1:1", "bad ranges"),
        ("child_relid=1 ranges=16@4096:1,2", "bad ranges"),
        ("child_relid=1 ranges=0xffffffff@0xfff:1", "bad ranges"),
        (f"child_relid=1 pages={LAST_PAGE + 1}", "not RAM"),
        (f"child_relid=1 pages=1-2,{LAST_PAGE + 1}", "not RAM"),
        (f"child_relid=1 pages={LAST_PAGE},{LAST_PAGE + 1}", "not RAM"),
        ("child_relid=1 pages=0xfffffffffffff", "not RAM"),
        ("child_relid=1 pages=0xffffffffffffffff", "not RAM"),
        ("child_relid=1 pages=0x10000000000000", "not RAM"),
    ],
)
def test_what_is_wrong_is_answered_with_failure(fields: str, reason: str) -> None:
    relid = fields.split()[0]
    script = connected().play(
        f"""
        >> GPADL_HEADER gpadl=3 {fields}
        !! {reason}
        << GPADL_CREATED {relid} gpadl=3 creation_status=UNSUCCESSFUL
        >> GPADL_HEADER child_relid=1 gpadl=3 pages=1    # the handle is free
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        """
    )
    assert script.control.save()["gpadls"]["half_built"] == []


def test_the_last_page_of_ram_is_ram() -> None:
    connected().play(
        f"""
        >> GPADL child_relid=1 gpadl=1 pages={LAST_PAGE},0
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        """
    )


def test_a_failure_in_a_body_ends_the_whole() -> None:
    connected().play(
        f"""
        >> GPADL_HEADER child_relid=1 gpadl=1 range_buflen=24 ranges=8192@0:1
        >> GPADL_BODY gpadl=1 pages={LAST_PAGE + 1}
        !! not RAM
        << GPADL_CREATED child_relid=1 gpadl=1 creation_status=UNSUCCESSFUL
        >> GPADL_BODY gpadl=1 pages=1
        !! unknown GPADL
        """
    )


def test_a_handle_names_one_gpadl_of_a_connection() -> None:
    connected(offers=("disk", "net")).play(
        """
        >> GPADL_HEADER child_relid=1 gpadl=1 pages=1
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        >> GPADL_HEADER child_relid=1 gpadl=1 pages=2
        !! duplicate GPADL
        << GPADL_CREATED child_relid=1 creation_status=UNSUCCESSFUL
        >> GPADL_HEADER child_relid=2 gpadl=1 pages=2
        !! duplicate GPADL
        << GPADL_CREATED child_relid=2 creation_status=UNSUCCESSFUL
        >> GPADL_HEADER child_relid=1 gpadl=2 range_buflen=24 ranges=8192@0:1
        >> GPADL_HEADER child_relid=2 gpadl=2 pages=2
        !! duplicate GPADL
        << GPADL_CREATED child_relid=2 creation_status=UNSUCCESSFUL
        >> GPADL_BODY gpadl=2 pages=2
        << GpadlCreated disk
        << GPADL_CREATED child_relid=1 creation_status=0
        """
    )


def test_the_same_page_may_be_in_several() -> None:
    """The protocol has no rule against it, and the guest harms only itself."""
    connected().play(
        """
        >> GPADL_HEADER child_relid=1 gpadl=1 pages=1,1,1
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        >> GPADL_HEADER child_relid=1 gpadl=2 pages=1
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        """
    )


# ------------------------------------------------------------ teardown


def test_a_gpadl_is_let_go_of_before_the_guest_is_told() -> None:
    script = opened().play(
        """
        >> GPADL child_relid=1 gpadl=0x20 pages=0-99
        << GpadlCreated disk handle=0x20
        << GPADL_CREATED creation_status=0
        >> GPADL_TEARDOWN child_relid=1 gpadl=0x20
        << GpadlTornDown disk handle=0x20
        << GPADL_TORNDOWN gpadl=0x20
        >> GPADL_TEARDOWN child_relid=1 gpadl=0x20
        !! unknown GPADL
        """
    )
    with pytest.raises(VmBusError, match="no GPADL 0x20"):
        script.control.gpadl(script.keys["disk"], 0x20)


def test_the_ring_of_an_open_channel_is_given_back_when_it_is_closed() -> None:
    opened().play(
        """
        >> GPADL_TEARDOWN child_relid=1 gpadl=0x10
        !! GPADL in use
        >> GPADL_TEARDOWN child_relid=1 gpadl=0x10
        !! teardown pending
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        << GpadlTornDown disk handle=0x10
        << GPADL_TORNDOWN gpadl=0x10
        """
    )


def test_the_ring_of_an_opening_channel_is_given_back_when_the_device_refuses() -> None:
    opened().play(
        """
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        >> OPEN_CHANNEL child_relid=1 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
        << OpenRequested disk
        >> GPADL_TEARDOWN child_relid=1 gpadl=0x10
        !! GPADL in use
        -- refuse disk
        !! refused by the device
        << OPEN_CHANNEL_RESULT status=UNSUCCESSFUL
        << GpadlTornDown disk handle=0x10
        << GPADL_TORNDOWN gpadl=0x10
        """
    )


def test_the_ring_of_a_rescinded_channel_is_given_back_when_it_is_closed() -> None:
    opened().play(
        """
        -- rescind disk
        << RESCIND_OFFER
        >> GPADL_TEARDOWN child_relid=1 gpadl=0x10
        !! GPADL in use
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        << GpadlTornDown disk handle=0x10
        << GPADL_TORNDOWN gpadl=0x10
        """
    )


def test_a_half_built_one_may_be_taken_back() -> None:
    connected(offers=("disk", "net")).play(
        """
        >> GPADL_HEADER child_relid=1 gpadl=1 range_buflen=24 ranges=8192@0:1
        >> GPADL_TEARDOWN child_relid=2 gpadl=1    # another's
        !! unknown GPADL
        >> GPADL_TEARDOWN child_relid=1 gpadl=1
        << GPADL_TORNDOWN gpadl=1
        >> GPADL_BODY gpadl=1 pages=2
        !! unknown GPADL
        >> GPADL_TEARDOWN child_relid=3 gpadl=1
        !! unknown relid
        """
    )


def test_a_released_channel_takes_its_half_built_ones_with_it() -> None:
    connected().play(
        """
        >> GPADL_HEADER child_relid=1 gpadl=1 range_buflen=24 ranges=8192@0:1
        >> GPADL_HEADER child_relid=1 gpadl=2 pages=2
        << GpadlCreated disk handle=2
        << GPADL_CREATED creation_status=0
        >> RELID_RELEASED child_relid=1
        << GpadlTornDown disk handle=2
        >> GPADL_BODY gpadl=1 pages=2
        !! unknown GPADL
        """
    )


# ------------------------------------------------------------ the budget


def header(handle: int, size: int, count: int, words: bytes = b"") -> bytes:
    return struct.pack("<IIIIHH", 8, 0, 1, handle, size, count) + words


@pytest.mark.parametrize(
    "payload",
    [
        lambda handle: header(handle, 65528, 1),
        lambda handle: header(handle, 65528, 4095),
        lambda handle: header(handle, 16, 1, struct.pack("<IIQ", 4096, 0, 1)),
        lambda handle: header(handle, 208, 13, struct.pack("<IIQ", 4096, 0, 1) * 13),
    ],
    ids=["never finished", "never finished, many ranges", "many small ones", "many ranges"],
)
def test_a_guest_cannot_make_the_host_hold_more_than_the_budget(
    payload: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = BUDGET // 16
    monkeypatch.setattr("ringminus.vmbus.control.gpadl.BUDGET", budget)
    control = connected().control
    tracemalloc.start()
    try:
        for handle in range(budget):
            control.receive(payload(handle))
            if control.refusals["too much memory in GPADLs"]:
                break
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < budget * 8 * 1.25
    control.receive(struct.pack("<II", 16, 0))
    assert control.save()["gpadls"] == {"complete": [], "half_built": []}
    again = Script(control)
    again.keys["disk"] = 1
    again.play(
        """
        >> INITIATE_CONTACT version=5.3
        << Connected
        << VERSION_RESPONSE
        >> REQUEST_OFFERS
        << OFFER_CHANNEL child_relid=1
        << ALL_OFFERS_DELIVERED
        >> GPADL_HEADER child_relid=1 gpadl=1 pages=1
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        """
    )


@pytest.mark.parametrize(
    "messages",
    [
        [header(1, 65528, 1), struct.pack("<IIII", 11, 0, 1, 1)],
        [header(1, 16, 1, struct.pack("<IIQ", 4096, 0, 1)), struct.pack("<IIII", 11, 0, 1, 1)],
        [header(1, 16, 1, struct.pack("<IIQ", 4096, 0, 1 << 40))],
        [header(1, 24, 1, struct.pack("<II", 0, 0)), struct.pack("<IIIIQQ", 9, 0, 0, 1, 0, 0)],
    ],
    ids=["half-built", "complete", "not RAM", "bad in its body"],
)
def test_what_is_gone_costs_nothing(messages: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringminus.vmbus.control.gpadl.BUDGET", 10_000)
    control = connected().control
    for _ in range(200):
        for message in messages:
            control.receive(message)
    Script(control).play(
        """
        >> GPADL_HEADER child_relid=1 gpadl=1 range_buflen=65528 ranges=0x1ffe000@0:1
        """
    )


def test_the_budget_is_enough_for_a_large_network_adapter_on_every_slot() -> None:
    """Sixteen adapters with 31 MiB to receive, 16 MiB to send, and 64 rings of 1 MiB each."""
    pages = (31 + 16) * 256 + 64 * 256
    assert 16 * (pages + 66 * 88) < BUDGET
