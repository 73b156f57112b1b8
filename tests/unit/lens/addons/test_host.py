"""Addons at work on a bus without a guest: which hooks are called when, filters, injection, isolation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ringminus.cli.protocols  # noqa: F401
from ringminus.errors import ConfigError
from ringminus.lens.addons import Context, only
from ringminus.lens.addons.hooks import HOOKS
from ringminus.lens.addons.host import MOST_FAILURES, AddonHost
from ringminus.lens.addons.loading import Addon
from ringminus.tap import RingPacket
from support.bus_bed import Bed, echo
from support.hypervisor import EOM
from support.reach import BedReach

SECOND = 10_000_000
VP_INDEX = 0x40000002


class Stage:
    """A bed with addons: objects whose methods are hooks."""

    def __init__(self, *addons: object, options: dict[str, str] | None = None) -> None:
        self.bed = Bed()
        self.bed.device.answer = echo
        self.said: list[str] = []
        self.breaks = 0
        loaded = [self._loaded(one, options or {}) for one in addons]
        self.host = AddonHost(self.bed.guest.partition.tap, loaded, self.said.append, self._break)
        self.reach = BedReach(self.bed)
        self.host.attach(self.reach)

    @staticmethod
    def _loaded(one: object, options: dict[str, str]) -> Addon:
        hooks = {name: getattr(one, name) for name in HOOKS if hasattr(one, name)}
        return Addon(type(one).__name__, __file__, hooks, options, getattr(one, "tick_seconds", 1.0))

    def _break(self) -> None:
        self.breaks += 1

    def exchange(self, payload: bytes = b"hello", number: int = 7) -> list[bytes]:
        """A request to the device; gives the payloads of what comes back."""
        channel = self._channel()
        channel.send(payload, number, wants_completion=True)
        return [one.payload for one in channel.receive()]

    def _channel(self) -> Any:
        for channel in self.bed.driver.channels.values():
            return channel
        return self.bed.open()


class Recording:
    """Writes down which hooks are called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in HOOKS:
            raise AttributeError(name)
        return lambda *arguments: self.calls.append(name)


def test_each_event_goes_to_its_hook() -> None:
    recording = Recording()
    stage = Stage(recording)
    stage.exchange()
    guest = stage.bed.guest
    guest.read(VP_INDEX)
    guest.write(EOM, 0)
    guest.vp.port_in(0x80, 1)
    guest.vp.port_out(0x80, 1, 0)
    guest.vp.mmio_read(0xF0000000, 4)
    guest.vp.mmio_write(0xF0000000, 4, 0)
    guest.pass_time(2 * SECOND)
    stage.host.detach()
    calls = recording.calls
    assert calls[0] == "start" and calls[-1] == "stop" and calls.count("tick") == 2 - 1
    seen = set(calls)
    assert {"hypercall", "hypercall_result", "vmbus_message", "synic_message", "channel", "gpadl"} <= seen
    assert {"packet_from_guest", "packet_to_guest", "signal", "interrupt"} <= seen
    assert {"msr_read", "msr_write", "port_read", "port_write", "mmio_read", "mmio_write"} <= seen
    assert seen <= set(HOOKS)


def test_only_the_points_that_hooks_need_are_listened_to() -> None:
    class Signals:
        def signal(self, event: object, ctx: Context) -> None: ...

    tap = Stage(Signals()).bed.guest.partition.tap
    assert tap.signals is not None
    assert (tap.packets, tap.msrs, tap.hypercalls, tap.bus, tap.interrupts) == (None,) * 5


def test_addons_come_one_after_another_and_see_what_those_before_made() -> None:
    class Append:
        def __init__(self, text: bytes) -> None:
            self.text = text

        def packet_from_guest(self, event: RingPacket, ctx: Context) -> None:
            event.payload = event.payload.rstrip(b"\0") + self.text

    stage = Stage(Append(b" a"), Append(b" b"))
    stage.exchange()
    assert stage.bed.device.packets[0][2] == b"hello a b"


def test_a_hook_is_called_only_with_what_its_filter_wants() -> None:
    seen: list[int] = []

    class Some:
        @only("packet.transaction_id > 5 and not packet.to_guest")
        def packet_from_guest(self, event: RingPacket, ctx: Context) -> None:
            seen.append(event.transaction_id)

    stage = Stage(Some())
    for number in (4, 5, 6, 7):
        stage.exchange(number=number)
    assert seen == [6, 7]


def test_a_filter_may_ask_for_the_device_of_a_channel() -> None:
    seen: list[str] = []

    class Some:
        @only('vmbus.channel.device == "recorder"')
        def signal(self, event: Any, ctx: Context) -> None:
            seen.append("signal")

    stage = Stage(Some())
    stage.exchange()
    assert seen == ["signal"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scsi.nonsense == 1", r"the filter of packet_to_guest: there is no field scsi.nonsense"),
        ("bus", r"the filter of packet_to_guest is never true: it is about bus events"),
    ],
)
def test_a_wrong_filter_is_told_at_once(text: str, words: str) -> None:
    class Wrong:
        @only(text)
        def packet_to_guest(self, event: RingPacket, ctx: Context) -> None: ...

    with pytest.raises(ConfigError, match=words):
        Stage(Wrong())


def test_the_context_knows_the_guest_and_its_options() -> None:
    class Curious:
        def start(self, ctx: Context) -> None:
            ctx.write(0x5000, b"found")
            ctx.log(f"{ctx.guest} {ctx.seconds} {ctx.options['word']} {ctx.read(0x5000, 5).decode()}")
            ctx.log(f"{ctx.registers()['rip']}")
            ctx.after(1.5, lambda: ctx.log("later"))
            ctx.break_here()

    stage = Stage(Curious(), options={"word": "x"})
    assert stage.said == ["Curious: bed 0.0 x found", "Curious: 0"] and stage.breaks == 1
    stage.bed.guest.pass_time(SECOND * 3 // 2)
    assert stage.said[-1] == "Curious: later"


def test_addons_inject_by_names_of_devices() -> None:
    class Injecting:
        def start(self, ctx: Context) -> None:
            self.ctx = ctx

    addon = Injecting()
    stage = Stage(addon)
    channel = stage.bed.open()
    inject, answers = addon.ctx.inject, list[bytes]()
    inject.packet("recorder", b"for the guest", to_guest=True)
    inject.packet(channel.relid, b"for the device", to_guest=False, done=answers.append)
    inject.interrupt(0xFA)  # more urgent than the bus's
    assert stage.bed.guest.processor.accept() == 0xFA
    assert [one.payload.rstrip(b"\0") for one in channel.receive()] == [b"for the guest"]
    stage.bed.guest.pass_time(1)
    assert answers == [b"for the device"]
    inject.signal(40)
    assert 40 in stage.bed.driver.events()
    with pytest.raises(
        Exception, match="no device 'netvsc' has an open channel: those that have are recorder"
    ):
        inject.packet("netvsc", b"", to_guest=True)


# ---------------------------------------------------------------- isolation


class Failing:
    def __init__(self) -> None:
        self.calls = 0

    def packet_from_guest(self, event: RingPacket, ctx: Context) -> None:
        self.calls += 1
        event.payload = b"half a change"
        raise RuntimeError("no")


def test_what_an_addon_raises_is_told_with_its_event_and_place() -> None:
    stage = Stage(Failing())
    assert stage.exchange() == [b"hello\0\0\0"]
    first, event, place = stage.said
    assert first.startswith("addon Failing failed in packet_from_guest at event ")
    assert first.endswith(": RuntimeError: no")
    assert "recorder" in event
    assert 'raise RuntimeError("no")' in place and "test_host.py, line" in place


def test_one_that_goes_on_failing_is_switched_off_and_others_go_on() -> None:
    class Counting:
        packets = 0

        def packet_from_guest(self, event: RingPacket, ctx: Context) -> None:
            self.packets += 1

    failing, counting = Failing(), Counting()
    stage = Stage(failing, counting)
    for number in range(MOST_FAILURES + 5):
        stage.exchange(number=number)
    assert (failing.calls, counting.packets) == (MOST_FAILURES, MOST_FAILURES + 5)
    assert (
        stage.said[-1]
        == f"addon Failing has failed {MOST_FAILURES} times and is switched off; the guest goes on"
    )


def test_failures_of_start_stop_tick_and_later_functions_are_told_too() -> None:
    class Bad:
        tick_seconds = 0.5

        def start(self, ctx: Context) -> None:
            ctx.after(0.1, lambda: 1 / 0)
            raise RuntimeError("start")

        def stop(self, ctx: Context) -> None:
            raise RuntimeError("stop")

        def tick(self, ctx: Context) -> None:
            raise RuntimeError("tick")

    stage = Stage(Bad())
    for _ in range(3):
        stage.bed.guest.pass_time(SECOND // 2)
    stage.host.detach()
    told = [one for one in stage.said if one.startswith("addon")]
    assert [one.rpartition(": ")[2] for one in told] == [
        *("start", "division by zero", "tick", "tick", "tick", "stop")
    ]
    assert "a function that it gave" in told[1]


def test_setting_a_fact_is_told_and_changes_nothing() -> None:
    class Wrong:
        def packet_from_guest(self, event: RingPacket, ctx: Context) -> None:
            event.relid = 99

    stage = Stage(Wrong())
    assert stage.exchange() == [b"hello\0\0\0"]
    assert "RingPacket.relid tells a fact: setting it changes nothing" in stage.said[0]


def test_an_exception_that_is_no_error_passes() -> None:
    """Ctrl-C in an addon ends the run."""

    class Interrupted:
        def packet_from_guest(self, event: RingPacket, ctx: Context) -> None:
            raise KeyboardInterrupt

    stage = Stage(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        stage.exchange()


def test_a_restarted_guest_has_the_same_addons() -> None:
    recording = Recording()
    stage = Stage(recording)
    stage.host.detach()
    stage.host.attach(stage.reach)
    assert [one for one in recording.calls if one in ("start", "stop")] == ["start", "stop", "start"]
