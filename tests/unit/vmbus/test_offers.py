"""Offers: delivery, hot add, rescind, relids, sub-channels. See `support.bus_script`."""

from __future__ import annotations

import pytest

from ringminus.errors import ConfigError
from ringminus.vmbus.control.actions import Send
from ringminus.vmbus.control.offers import Offer
from ringminus.vmbus.control.plane import ControlPlane, State, VmBusError
from ringminus.vmbus.wire import ChannelFlag, Feature, OfferChannel, PipeMode
from support.bus_script import MEMORY, Script, connected, guid, opened

OFFER = Offer(guid("interface"), guid("disk"))


def test_offers_wait_until_the_guest_asks_and_come_in_the_hosts_order() -> None:
    script = Script().play(
        """
        -- offer disk
        -- offer net
        >> INITIATE_CONTACT version=5.3
        << Connected
        << VERSION_RESPONSE
        -- offer keyboard
        >> REQUEST_OFFERS
        << OFFER_CHANNEL if_instance=disk child_relid=1 connection_id=0x2001 is_dedicated_interrupt=1
        << OFFER_CHANNEL if_instance=net child_relid=2 connection_id=0x2002 is_dedicated_interrupt=1
        << OFFER_CHANNEL if_instance=keyboard child_relid=3
        << ALL_OFFERS_DELIVERED
        """
    )
    assert script.control.state is State.OFFERED


def test_offers_are_asked_for_once_and_only_when_connected() -> None:
    Script().play(
        """
        >> REQUEST_OFFERS
        !! not connected
        >> INITIATE_CONTACT version=5.3
        << Connected
        << VERSION_RESPONSE
        >> REQUEST_OFFERS
        << ALL_OFFERS_DELIVERED
        >> REQUEST_OFFERS
        !! offers sent already
        """
    )


def test_what_is_offered_later_is_sent_at_once() -> None:
    connected().play(
        """
        -- offer net
        << OFFER_CHANNEL if_instance=net child_relid=2
        """
    )


def test_what_an_offer_says() -> None:
    offer = Offer(
        guid("interface"),
        guid("disk"),
        flags=ChannelFlag.ENUMERATE_DEVICE_INTERFACE,
        pipe_mode=PipeMode.MESSAGE,
        user_defined=b"mine",
        mmio_megabytes=8,
    )
    message = OfferChannel.unpack(offer.message(7, 0x2007, 0, monitored=False))
    assert message.offer.if_type == guid("interface").bytes_le
    assert message.offer.if_instance == guid("disk").bytes_le
    assert message.offer.chn_flags == 0x11
    assert message.offer.mmio_megabytes == 8
    assert message.offer.user_def == b"\x04\0\0\0mine".ljust(120, b"\0")
    assert (message.child_relid, message.connection_id, message.is_dedicated_interrupt) == (7, 0x2007, 1)
    assert (message.monitorid, message.monitor_allocated) == (0xFF, 0)


@pytest.mark.parametrize(
    ("features", "flags"),
    [
        (0, 0x2001),
        (Feature.CONFIDENTIAL_CHANNELS, 0x2007),
        (Feature.GPA_PINNING, 0x2009),
        (Feature.CONFIDENTIAL_CHANNELS | Feature.GPA_PINNING, 0x200F),
    ],
)
def test_confidential_and_pinned_flags_go_only_to_guests_that_know_them(features: int, flags: int) -> None:
    offer = Offer(guid("interface"), guid("disk"), flags=ChannelFlag(0x200F))
    message = OfferChannel.unpack(offer.message(1, 1, features, monitored=False))
    assert message.offer.chn_flags == flags


@pytest.mark.parametrize(("pages", "monitored"), [("", 0), ("monitor_page1=4096 monitor_page2=8192", 1)])
def test_a_monitor_id_is_told_only_to_guests_with_monitor_pages(pages: str, monitored: int) -> None:
    script = Script()
    script.play("-- offer disk monitor_id=5")
    contact = {"version": "5.3", **dict(part.split("=") for part in pages.split())}
    script.control.receive(script.payloads("INITIATE_CONTACT", contact)[0])
    script.play(
        f"""
        >> REQUEST_OFFERS
        << OFFER_CHANNEL monitor_allocated={monitored} monitorid={5 if monitored else 255}
        << ALL_OFFERS_DELIVERED
        """
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"user_defined": bytes(121)},
        {"user_defined": bytes(117), "pipe_mode": PipeMode.BYTE},
        {"mmio_megabytes": 1 << 16},
        {"subchannel_index": -1},
        {"monitor_id": 128},
    ],
)
def test_what_the_wire_cannot_say_is_the_persons_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Offer(guid("interface"), guid("disk"), **wrong)  # type: ignore[arg-type]


def test_the_same_device_is_not_offered_twice() -> None:
    control = ControlPlane(MEMORY.is_ram, 1)
    control.offer(OFFER)
    with pytest.raises(ConfigError, match="offered already"):
        control.offer(OFFER)


def test_there_are_as_many_channels_as_relids() -> None:
    script = Script()
    for number in range(2047):
        script.control.offer(Offer(guid("interface"), guid(str(number))))
    with pytest.raises(ConfigError, match="2047"):
        script.control.offer(OFFER)
    script.control.receive(script.payloads("INITIATE_CONTACT", {"version": "5.3"})[0])
    sent = script.control.receive(script.payloads("REQUEST_OFFERS", {})[0])
    relids = [OfferChannel.unpack(one.payload).child_relid for one in sent[:-1] if isinstance(one, Send)]
    assert relids == list(range(1, 2048))


# ------------------------------------------------------------ rescind


def test_a_relid_is_used_again_only_when_the_guest_has_released_it() -> None:
    connected(offers=("disk", "net")).play(
        """
        -- rescind disk
        << RESCIND_OFFER child_relid=1
        -- rescind disk
        -- offer sound
        << OFFER_CHANNEL if_instance=sound child_relid=3
        >> RELID_RELEASED child_relid=1
        << Released disk
        -- offer video
        << OFFER_CHANNEL if_instance=video child_relid=1
        """
    )


def test_what_the_guest_never_heard_of_is_gone_at_once() -> None:
    Script().play(
        """
        -- offer disk
        -- rescind disk
        << Released disk
        -- rescind disk
        """
    )


def test_an_open_channel_that_is_rescinded_is_open_until_the_guest_closes_it() -> None:
    opened().play(
        """
        -- rescind disk
        << RESCIND_OFFER child_relid=1
        >> MODIFY_CHANNEL child_relid=1
        !! rescinded
        << MODIFY_CHANNEL_RESPONSE child_relid=1 status=UNSUCCESSFUL
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        >> CLOSE_CHANNEL child_relid=1
        !! rescinded
        >> GPADL_TEARDOWN child_relid=1 gpadl=0x10
        << GpadlTornDown disk handle=0x10
        << GPADL_TORNDOWN gpadl=0x10
        >> RELID_RELEASED child_relid=1
        << Released disk
        """
    )


def test_linux_releases_a_rescinded_channel_without_tearing_down_its_gpadl() -> None:
    opened().play(
        """
        -- rescind disk
        << RESCIND_OFFER child_relid=1
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        >> RELID_RELEASED child_relid=1
        << GpadlTornDown disk handle=0x10
        << Released disk
        """
    )


def test_a_guest_may_release_what_is_rescinded_and_still_open() -> None:
    opened().play(
        """
        -- rescind disk
        << RESCIND_OFFER child_relid=1
        >> RELID_RELEASED child_relid=1
        << Closed disk
        << GpadlTornDown disk handle=0x10
        << Released disk
        """
    )


def test_opening_a_rescinded_channel_gets_no_answer() -> None:
    connected().play(
        """
        -- rescind disk
        << RESCIND_OFFER child_relid=1
        >> GPADL child_relid=1 gpadl=0x10 pages=0-7    # it may not have heard of it yet
        << GpadlCreated disk handle=0x10
        << GPADL_CREATED creation_status=0
        >> OPEN_CHANNEL child_relid=1 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
        !! rescinded
        """
    )


def test_a_channel_that_is_opening_when_it_is_rescinded_never_opens() -> None:
    connected().play(
        """
        >> GPADL child_relid=1 gpadl=0x10 pages=0-7
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        >> OPEN_CHANNEL child_relid=1 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
        << OpenRequested disk
        -- rescind disk
        << Closed disk
        << RESCIND_OFFER child_relid=1
        -- accept disk
        """
    )


def test_the_same_device_again_waits_until_the_guest_has_released_the_old_one() -> None:
    script = connected()
    old = script.keys["disk"]
    script.play(
        """
        -- rescind disk
        << RESCIND_OFFER child_relid=1
        """
    )
    script.keys["old"] = old
    script.play(
        """
        -- offer disk
        >> RELID_RELEASED child_relid=1
        << Released old
        << OFFER_CHANNEL if_instance=disk child_relid=1
        """
    )
    assert script.keys["disk"] != old


def test_an_offer_that_the_guest_does_not_want_is_offered_again_to_the_next_kernel() -> None:
    connected().play(
        """
        >> RELID_RELEASED child_relid=1
        >> GPADL child_relid=1 gpadl=1 pages=1
        !! unknown relid
        << GPADL_CREATED child_relid=1 creation_status=UNSUCCESSFUL
        -- offer net
        << OFFER_CHANNEL if_instance=net child_relid=1
        >> INITIATE_CONTACT version=5.3
        << Connected
        << VERSION_RESPONSE
        >> REQUEST_OFFERS
        << OFFER_CHANNEL if_instance=disk child_relid=1
        << OFFER_CHANNEL if_instance=net child_relid=2
        << ALL_OFFERS_DELIVERED
        """
    )


def test_what_is_open_or_unknown_is_not_released() -> None:
    opened().play(
        """
        >> RELID_RELEASED child_relid=1
        !! still open
        >> RELID_RELEASED child_relid=2
        !! unknown relid
        >> RELID_RELEASED child_relid=0
        !! unknown relid
        >> RELID_RELEASED child_relid=0xffffffff
        !! unknown relid
        """
    )


# ------------------------------------------------------------ sub-channels


def test_sub_channels_are_offered_by_an_open_primary_and_go_when_it_is_closed() -> None:
    opened().play(
        """
        -- subchannel disk 1
        << OFFER_CHANNEL if_instance=disk sub_channel_index=1 child_relid=2 connection_id=0x2002
        -- subchannel disk 2
        << OFFER_CHANNEL sub_channel_index=2 child_relid=3
        >> GPADL child_relid=2 gpadl=0x20 pages=0-3
        << GpadlCreated disk.1 handle=0x20
        << GPADL_CREATED child_relid=2 creation_status=0
        >> OPEN_CHANNEL child_relid=2 ringbuffer_gpadlhandle=0x20 downstream_ringbuffer_pageoffset=2
        << OpenRequested disk.1 relid=2
        -- accept disk.1
        << OPEN_CHANNEL_RESULT child_relid=2 status=0
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk.1
        << Closed disk
        << RESCIND_OFFER child_relid=2
        << RESCIND_OFFER child_relid=3
        >> RELID_RELEASED child_relid=2
        << GpadlTornDown disk.1 handle=0x20
        << Released disk.1
        >> RELID_RELEASED child_relid=3
        << Released disk.2
        """
    )


def test_sub_channels_are_rescinded_before_their_primary() -> None:
    opened().play(
        """
        -- subchannel disk 1
        << OFFER_CHANNEL child_relid=2
        -- rescind disk
        << RESCIND_OFFER child_relid=2
        << RESCIND_OFFER child_relid=1
        """
    )


def test_sub_channels_are_forgotten_when_the_guest_goes() -> None:
    opened().play(
        """
        -- subchannel disk 1
        << OFFER_CHANNEL child_relid=2
        >> UNLOAD
        << Released disk.1
        << Closed disk
        << GpadlTornDown disk handle=0x10
        << Unloaded
        << UNLOAD_RESPONSE
        """
    )


def test_a_sub_channel_that_comes_again_waits_for_the_release_of_the_old_one() -> None:
    script = opened().play(
        """
        -- subchannel disk 1
        << OFFER_CHANNEL child_relid=2
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        << RESCIND_OFFER child_relid=2
        >> OPEN_CHANNEL child_relid=1 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
        << OpenRequested disk
        -- accept disk
        << OPEN_CHANNEL_RESULT status=0
        """
    )
    script.keys["old"] = script.keys["disk.1"]
    script.play(
        """
        -- subchannel disk 1
        >> RELID_RELEASED child_relid=2
        << Released old
        << OFFER_CHANNEL sub_channel_index=1 child_relid=2
        """
    )


def test_a_sub_channel_that_the_guest_does_not_want_is_forgotten() -> None:
    opened().play(
        """
        -- subchannel disk 1
        << OFFER_CHANNEL child_relid=2
        >> RELID_RELEASED child_relid=2
        << Released disk.1
        """
    )


def test_only_an_open_primary_has_sub_channels() -> None:
    script = connected()
    with pytest.raises(VmBusError, match="open primary"):
        script.control.offer_subchannel(script.keys["disk"], 1)
    script = opened().play(
        """
        -- subchannel disk 1
        << OFFER_CHANNEL child_relid=2
        """
    )
    with pytest.raises(VmBusError, match="sub-channel 1 is offered already"):
        script.control.offer_subchannel(script.keys["disk"], 1)
    with pytest.raises(VmBusError):
        script.control.offer_subchannel(script.keys["disk"], 0)
    script.control.rescind(script.keys["disk"])
    with pytest.raises(VmBusError, match="open primary"):
        script.control.offer_subchannel(script.keys["disk"], 2)
