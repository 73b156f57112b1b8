"""The bus and a real guest's hv_vmbus: every version, disconnecting and connecting again, and devices that
come and go while the guest runs."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ringminus.guest.build import GuestImage
from ringminus.hypervisor.cpuid import SOFTWARE
from ringminus.hypervisor.partition import Partition
from ringminus.hypervisor.wire import Feature
from ringminus.machine import machine
from ringminus.machine.config import DiskConfig
from ringminus.tap import BusMessage, Tap
from ringminus.vmbus.device import Channel
from ringminus.vmbus.wire import Version
from support.exchange import Exchange, Other
from support.live_guest import LiveGuest, RunLive

DRIVER = "/sys/bus/vmbus/drivers/uio_hv_generic"
BIND = f"echo {Exchange.interface} > {DRIVER}/new_id"
UNBIND = f"echo {Exchange.interface} > {DRIVER}/remove_id"
TROUBLE = "dmesg | grep -E 'WARNING|BUG|Call Trace'"
VERSIONS = [version for version in Version if version <= Version.WIN10_V5_3]


def wait_for(condition: str) -> str:
    """A shell command that waits until a test holds, some seconds at most."""
    return f"n=0; until [ {condition} ]; do n=$((n + 1)); [ $n -lt 200 ] || exit 9; usleep 25000; done"


class Bus:
    """Listens to the control messages; `take` gives the names of those since it was last called."""

    def __init__(self) -> None:
        self.tap = Tap()
        self._names: list[str] = []
        self.tap.listen(BusMessage, lambda event: self._names.append(event.name))

    def take(self) -> list[str]:
        names, self._names = self._names, []
        return names


@pytest.fixture
def bus() -> Bus:
    return Bus()


# ---------------------------------------------------------------- versions; the module unloaded and loaded


@pytest.fixture
def legacy_timers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hypervisor without direct-mode timers: with them Linux (6.1) frees the clock event device that it
    runs on when hv_vmbus is removed, and stands still. (`hv_stimer_global_cleanup` in
    drivers/clocksource/hyperv_timer.c; on Hyper-V it does the same.)"""
    features = SOFTWARE.features & ~Feature.DIRECT_SYNTHETIC_TIMERS
    partition = functools.partial(Partition, profile=replace(SOFTWARE, features=features))
    monkeypatch.setattr(machine, "Partition", partition)
    yield


# without ARAT the local APIC's timer is not taken for broadcasts, and is free to take over
RELOADABLE = "quiet ringminus.modules=no clearcpuid=arat"
LOAD = "cd /lib/modules; insmod hv_vmbus.ko max_version={}; insmod uio.ko; insmod uio_hv_generic.ko"
UNLOAD = "rmmod uio_hv_generic; rmmod uio; rmmod hv_vmbus"


def test_every_version_and_from_each_to_the_next(live_guest: RunLive, bus: Bus, legacy_timers: None) -> None:
    device = Exchange()

    async def scenario(guest: LiveGuest) -> None:
        for version in reversed(VERSIONS):
            await guest.run(f"{LOAD.format(int(version))} && {BIND}")
            text = f"{version >> 16}.{version & 0xFFFF}"
            assert f"Vmbus version:{text}" in await guest.run("dmesg | grep 'Vmbus version' | tail -n 1")
            printed = await guest.run("uio_ring /dev/uio0 echo 500 0 3000")
            assert f"hello: VMBus {int(version):#x}" in printed and "echo: 500 done" in printed
            await guest.run("uio_ring /dev/uio0 transfer 200 0 20000; uio_ring /dev/uio0 direct 200 0 9000")
            assert guest.machine.vmbus.control.version == version
            before = bus.take()
            assert (before.count("INITIATE_CONTACT"), before.count("OPEN_CHANNEL")) == (1, 3)
            await guest.run(UNLOAD)
            after = bus.take()
            # guests of 2.4 take their leave without a word
            assert ("UNLOAD" in after) == ("UNLOAD_RESPONSE" in after) == (version > Version.WIN8)
            assert guest.machine.vmbus.control.version == (version if version == Version.WIN8 else None)
        assert not await guest.run(TROUBLE, status=1)

    live_guest(scenario, devices=[device], words=RELOADABLE, tap=bus.tap)
    assert device.verified > len(VERSIONS) * 500 * 1000


# ---------------------------------------------------------------- another kernel


def disk_of(path: Path, content: bytes) -> DiskConfig:
    path.write_bytes(content + bytes(-len(content) % 512))
    return DiskConfig(path, read_only=True, format="raw")


def test_another_kernel_takes_over_while_channels_are_open(
    live_guest: RunLive, program_guest: GuestImage, bus: Bus, tmp_path: Path
) -> None:
    """kexec, with disks and a device open; the second kernel's files come from those disks."""
    kernel, initrd = program_guest.kernel.read_bytes(), program_guest.initrd.read_bytes()
    disks = [disk_of(tmp_path / "kernel", kernel), disk_of(tmp_path / "initrd", initrd)]
    devices = [Exchange(), Other()]
    check = f"{BIND}; uio_ring /dev/uio0 echo 500 0 3000; uio_ring /dev/uio1 direct 200 0 9000"

    async def scenario(guest: LiveGuest) -> None:
        await guest.run(f"{check}; sleep 1000 </dev/uio0 &")
        # Linux looks at its disks all at once, and names them as they answer
        for lun, name, size in ((0, "kernel", len(kernel)), (1, "initrd", len(initrd))):
            disk = f"/dev/$(ls /sys/bus/scsi/devices/0:0:0:{lun}/block)"
            await guest.run(f"head -c {size} {disk} > /tmp/{name}")
        assert bus.take().count("INITIATE_CONTACT") == 1
        await guest.start('kexec /tmp/kernel /tmp/initrd "$(cat /proc/cmdline)"')
        await guest.ready()
        messages = bus.take()
        first = messages.index("INITIATE_CONTACT")
        assert "UNLOAD" in messages[:first]
        assert messages[first:].count("OFFER_CHANNEL") == 3
        assert "echo: 500 done" in await guest.run(check)
        assert (await guest.run("ls /sys/block")).split() == ["sda", "sdb"]
        assert not await guest.run(TROUBLE, status=1)

    live_guest(scenario, devices=devices, disks=disks, tap=bus.tap)
    assert [device.verified > 0 for device in devices] == [True, True]


# ---------------------------------------------------------------- devices come and go


class Watched(Exchange):
    """Tells what it was told."""

    closings, ended = 0, False

    def closed(self, channel: Channel) -> None:
        super().closed(channel)
        self.closings += 1

    def close(self) -> None:
        self.ended = True


def test_a_device_is_taken_out_during_traffic_and_another_put_in(live_guest: RunLive, bus: Bus) -> None:
    first, other = Watched(), Other()

    async def scenario(guest: LiveGuest) -> None:
        vmbus = guest.machine.vmbus
        device = first
        await guest.run(BIND)
        for _ in range(3):
            there = f"/sys/bus/vmbus/devices/{device.instance}"
            assert await guest.run(f"cat {there}/class_id") == f"{{{device.interface}}}\n"
            # bound when it is all there: this Linux complains when uio_hv_generic finds it at once
            await guest.start("uio_ring /dev/uio0 until-rescinded")
            await guest.expect("begun\n")
            while device.verified < 1 << 20:
                await guest.sleep(0.01)
            bus.take()
            device.closings = 0
            vmbus.rescind(device)
            printed = await guest.finish()
            assert int(printed.split()[-2]) > 500
            await guest.run(wait_for(f"! -e {there}"))
            while not device.ended:  # the guest tells so when it has removed the files
                await guest.sleep(0.01)
            assert not await guest.run("ls /dev/uio0 2>/dev/null", status=1)
            # and it tears down nothing that it has described on a rescinded channel; it closes it only if the
            # program that had it open ends before the driver has let go of it
            said = bus.take()
            assert said in (closed := ["RESCIND_OFFER", "CLOSE_CHANNEL", "RELID_RELEASED"], closed[::2])
            assert (device.closings, device.ended) == (1, True)
            assert vmbus.devices() == [other]
            assert "echo: 200 done" in await guest.run("uio_ring /dev/uio1 echo 200 0 1000")
            device = Watched()
            await guest.run(UNBIND)
            guest.machine.attach(device)
            await guest.run(f"{wait_for(f'-e {there}')}; {BIND}; {wait_for('-e /dev/uio0')}")
            assert "echo: 200 done" in await guest.run("uio_ring /dev/uio0 echo 200 0 1000")
        assert not await guest.run(TROUBLE, status=1)

    live_guest(scenario, devices=[first, other], tap=bus.tap)


def test_sub_channels_are_channels_of_their_own_and_go_with_the_primary(
    live_guest: RunLive, bus: Bus
) -> None:
    device = Exchange()
    channels = "/sys/class/uio/uio0/device/channels"

    async def scenario(guest: LiveGuest) -> None:
        vmbus = guest.machine.vmbus
        await guest.run(f"{BIND}; (sleep 1000 < /dev/uio0) & {wait_for(f'-e {channels}/1')}; usleep 100000")
        vmbus.offer_subchannels(device, 3)
        # all have the time to be opened by the driver
        await guest.run(wait_for(f"$(cat {channels}/*/write_avail | grep -c -v '^0') = 4"))
        assert await guest.run(f"cat {channels}/*/subchannel_id") == "0\n1\n2\n3\n"
        assert await guest.run(f"cat {channels}/*/monitor_id") == "0\n1\n2\n3\n"
        for number in (3, 1, 0, 2):
            for traffic in ("echo 1000 0 3000", "direct 200 0 9000", "receive 1000 0 2000"):
                assert "done" in await guest.run(f"uio_ring /dev/uio0:{number} {traffic}")
        packets = {slot.index: slot.counters().packets_in for slot in vmbus.slots()}
        assert packets == dict.fromkeys(range(4), 1000 + 200 + 1 + 3)
        assert "type_zero: dead" in await guest.run("uio_ring /dev/uio0:1 hostile type_zero")
        assert [slot.failed for slot in vmbus.slots()] == [0, 1, 0, 0]
        assert "echo: 100 done" in await guest.run("uio_ring /dev/uio0:2 echo 100 0 3000")
        bus.take()
        await guest.run(f"kill %1; {wait_for(f'$(ls {channels} | wc -l) = 1')}")
        messages = bus.take()
        assert messages.count("RESCIND_OFFER") == messages.count("RELID_RELEASED") == 3
        assert [slot.index for slot in vmbus.slots()] == [0]
        assert "echo: 100 done" in await guest.run("uio_ring /dev/uio0 echo 100 0 3000")
        assert not await guest.run(TROUBLE, status=1)

    live_guest(scenario, devices=[device], tap=bus.tap)


# ---------------------------------------------------------------- both sides count the same


def test_linuxs_own_driver_and_we_count_the_same_signals(live_guest: RunLive, tmp_path: Path) -> None:
    """hv_storvsc signals by hypercall, and Linux counts why it signalled and was interrupted."""
    disks = [disk_of(tmp_path / "disk", bytes(range(256)) * (64 << 12))]

    async def scenario(guest: LiveGuest) -> None:
        await guest.run("for i in 1 2 3 4; do cat /dev/sda > /dev/null & done; wait; sync")
        (slot,) = guest.machine.vmbus.slots()
        printed = await guest.run(
            "cd /sys/bus/vmbus/drivers/hv_storvsc/*/channels/*; for name in interrupts events intr_in_full"
            " intr_out_empty out_full_first out_full_total in_mask out_mask read_avail write_avail;"
            " do echo $name $(cat $name); done"
        )
        sysfs = {name: int(value) for name, value in map(str.split, printed.splitlines())}
        counts = slot.counters()
        assert counts.packets_in == counts.packets_out > 100
        assert sysfs["events"] == counts.signals_in == sysfs["intr_out_empty"] + sysfs["intr_in_full"]
        assert sysfs["interrupts"] <= counts.signals_out <= counts.packets_out
        assert (sysfs["out_full_first"], sysfs["out_full_total"]) == (0, 0)
        assert (sysfs["in_mask"], sysfs["out_mask"], sysfs["read_avail"]) == (0, 0, 0)
        assert sysfs["write_avail"] == (128 << 10) - 4096

    live_guest(scenario, disks=disks)
