"""One virtual machine: memory, processor, partition, chipset and a loaded guest, put together."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ringminus.cpu.software.engine import SoftwareEngine
from ringminus.hypervisor.partition import Partition
from ringminus.machine.acpi.tables import build_tables
from ringminus.machine.chipset.power import RESET_CODE, RESET_VECTOR, AcpiPower, LegacyPorts
from ringminus.machine.chipset.rtc import Rtc
from ringminus.machine.chipset.serial import COM1, COM1_IRQ, Serial
from ringminus.machine.config import MachineConfig
from ringminus.machine.loader.image import KernelImage, load_kernel
from ringminus.machine.loader.linux import load_linux
from ringminus.machine.memory_map import MemoryMap
from ringminus.machine.services import DeviceServices, HostThreads
from ringminus.machine.storage import build_storage
from ringminus.memory import PAGE_SIZE, GuestMemory
from ringminus.tap import SerialData, Tap
from ringminus.vmbus.bus import VmBus
from ringminus.vmbus.device import Device

if TYPE_CHECKING:
    from ringminus.machine.network import Network


class Machine:
    """Built from a configuration, ready to run; raises `ConfigError` and `HostError`.

    `console` takes what the guest writes to its first serial port; `type` gives it input. `on_power_off` and
    `on_reset(how)` tell what the guest asked for. It belongs to one thread.
    """

    def __init__(
        self, config: MachineConfig, console: Callable[[bytes], None], tap: Tap | None = None
    ) -> None:
        self.config = config
        image = load_kernel(config.kernel)
        self.storage = build_storage(config.disks)
        self.network: Network | None = None
        try:
            self._build(image, console, tap)
        except BaseException:
            if self.network is not None:
                self.network.close()
            self.storage.close()
            raise

    def _build(self, image: KernelImage, console: Callable[[bytes], None], tap: Tap | None) -> None:
        config = self.config
        self.memory = GuestMemory(config.memory)
        self.tap = Tap() if tap is None else tap
        self.engine = SoftwareEngine(self.memory, self.tap)
        self.partition = Partition(self.engine, tap=self.tap, flush_tlb=self.engine.flush_tlb)
        self.on_power_off: Callable[[], None] = _nothing
        self.on_reset: Callable[[str], None] = _nothing
        self.partition.on_reset = lambda: self.on_reset("reset MSR")
        self._attach_chipset(console)
        memory_map = MemoryMap(self.memory.regions)
        self.threads = HostThreads()
        pages = memory_map.monitor_pages
        self.vmbus = VmBus(self.partition, (pages.gpa, pages.gpa + PAGE_SIZE))
        if config.nics:
            from ringminus.machine.network import build_network

            self.network = build_network(config.nics, self.partition.clock, self.partition.timers)
        nics = self.network.adapters if self.network is not None else ()
        for device in (*self.storage.devices, *nics, *(make() for make in config.devices)):
            self.attach(device)
        tables = build_tables(memory_map, self.partition.vp_count)
        for gpa, table in tables.tables:
            self.memory.write(gpa, table)
        self.memory.write(RESET_VECTOR, RESET_CODE)
        boot = load_linux(
            self.memory,
            image,
            config.initrd,
            config.command_line,
            memory_map.e820(),
            tables.rsdp,
            memory_map.boot,
        )
        self.partition.vps[0].processor.set_registers(boot.registers)

    def _attach_chipset(self, console: Callable[[bytes], None]) -> None:
        ioapic, ports = self.partition.ioapic, self.partition.ports
        self.serial = Serial(COM1, lambda level: ioapic.set_irq(COM1_IRQ, level), console, self._tell_serial)
        self.rtc = Rtc(time.time)
        self.power = AcpiPower(lambda _sleep_type: self.on_power_off(), lambda how: self.on_reset(how))
        self.legacy = LegacyPorts(lambda how: self.on_reset(how))
        for device in (self.serial, self.rtc, self.power, self.legacy):
            for first, count in device.ranges:
                ports.register(first, count, device)

    def _tell_serial(self, data: bytes, to_guest: bool) -> None:
        if self.tap.serial is not None:
            now = self.partition.clock.reference_time()
            self.tap.serial(SerialData(now, 0, self.serial.base, to_guest, data))

    def attach(self, device: Device) -> None:
        """Put a synthetic device on the bus; a guest that is connected finds it at once."""
        self.vmbus.add(device, DeviceServices(self.partition, self.threads))

    def type(self, data: bytes) -> int:
        """Console input; gives how many bytes were taken."""
        return self.serial.receive(data)

    def flush(self) -> None:
        """Pass on console output that waits for company."""
        self.serial.flush()

    def close(self) -> None:
        """Give everything back; what the guest has written is on its disks then."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.engine.close)
            stack.callback(self.storage.close)
            stack.callback(self.threads.close)
            if self.network is not None:
                stack.callback(self.network.close)
            stack.callback(self.vmbus.close)


def _nothing(*_: object) -> None:
    """Until a worker listens."""
