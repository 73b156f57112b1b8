"""A machine's adapters are plugged into what was asked for, and all of it is given back."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringminus.clock import MockClock, TimerQueue
from ringminus.errors import ConfigError, HostError
from ringminus.machine.config import MachineConfig
from ringminus.machine.machine import Machine
from ringminus.machine.network import Network, build_network
from ringminus.machine.nics import MICROSOFT, NicConfig, parse_nic
from ringminus.memory import MIB
from ringminus.switch.frame import Frame
from ringminus.switch.port import BROADCAST
from ringminus.vmbus.device import Device
from support.command import POWER_OFF, write_kernel
from support.links import own_runtime_directory
from support.net_guests import free_port


def build(*texts: str) -> Network:
    return build_network([parse_nic(text) for text in texts], MockClock(), TimerQueue())


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def frame(source: bytes, destination: bytes = BROADCAST) -> Frame:
    return Frame(destination + source + b"\x88\xb5" + bytes(46))


# ---------------------------------------------------------------- adapters


def test_an_adapter_is_the_same_in_every_run() -> None:
    first, again = build("nat", "none", "nat"), build("nat", "none", "nat")
    try:
        for one, other in zip(first.adapters, again.adapters, strict=True):
            assert one.permanent_address == other.permanent_address
            assert one.instance == other.instance
            assert one.permanent_address.startswith(MICROSOFT)
        assert len({one.permanent_address for one in first.adapters}) == 3
        assert len({one.instance for one in first.adapters}) == 3
        assert [one.title for one in first.adapters] == ["NIC 0", "NIC 1", "NIC 2"]
    finally:
        first.close()
        again.close()


def test_an_adapter_that_is_connected_to_nothing_has_no_link() -> None:
    network = build("none", "nat", "nat,link=down")
    assert [one.sender.link for one in network.adapters] == [False, True, False]
    network.close()
    assert [one.sender.link for one in network.adapters] == [False, False, False]


def test_settings_are_those_of_the_port() -> None:
    network = build("nat,mac=02-00-00-00-00-09,vlan=7,limit=1M,dhcp-guard,speed=1G")
    try:
        port = network.connections[0].port
        assert port is not None
        assert port.settings.address == network.adapters[0].permanent_address == b"\2\0\0\0\0\x09"
        assert (port.settings.vlan.access, port.settings.limit) == (7, 1_000_000)
        assert port.settings.dhcp_guard
        assert network.adapters[0].megabits == 1000
    finally:
        network.close()


def test_what_is_lost_on_the_way_is_counted_with_the_adapter() -> None:
    network = build("nat")
    try:
        connection = network.connections[0]
        port = connection.port
        assert port is not None
        port.send(frame(b"\2\0\0\0\0\1"))  # not its own address
        port.send(frame(connection.adapter.permanent_address))  # NAT knows nothing of that protocol
        port.endpoint.deliver(frame(b"\2\0\0\0\0\1"))  # no guest has set up the adapter
        assert connection.dropped() == {"spoofed address": 1, "not IP or ARP": 1, "not ready": 1}
    finally:
        network.close()


@pytest.fixture
def runtime() -> Iterator[Path]:
    with own_runtime_directory() as directory:
        yield directory


def test_two_adapters_on_a_named_switch_reach_each_other(runtime: Path) -> None:
    network = build("switch:lab", "switch:lab,mac=02:00:00:00:00:02")
    try:
        for _ in range(200):
            if all(one.sender.link for one in network.adapters):
                break
            network.reactor.dispatch(0.05)
        assert [one.sender.link for one in network.adapters] == [True, True]
        sender, receiver = network.adapters
        assert sender.sender.port is not None
        sender.sender.port.send(frame(sender.permanent_address, receiver.permanent_address))
        sender.sender.port.flush()
        for _ in range(200):
            if receiver.counters.receiving_dropped:
                break
            network.reactor.dispatch(0.05)
        assert receiver.counters.receiving_dropped == {"not ready": 1}
    finally:
        network.close()


# ---------------------------------------------------------------- captures


def packets(path: Path) -> list[bytes]:
    """The frames of a pcap file."""
    data, at, found = path.read_bytes(), 24, []
    while at < len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        found.append(data[at + 16 : at + 16 + length])
        at += 16 + length
    return found


def test_a_capture_has_both_directions_and_goes_on_when_the_guest_restarts(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(b"something older")
    for number in range(2):
        config = NicConfig("nat", capture=path, restarted=number > 0)
        network = build_network([config], MockClock(), TimerQueue())
        connection = network.connections[0]
        assert connection.port is not None and connection.adapter.sender.port is not None
        to = bytes([2, 0, 0, 0, 0, number])
        connection.adapter.sender.port.send(frame(connection.adapter.permanent_address, to))
        connection.port.endpoint.deliver(frame(bytes([2, 0, 0, 0, 1, number])))
        network.close()
    assert [one[5] for one in packets(path)] == [0, 0xFF, 1, 0xFF]


def test_a_pipe_without_a_reader_does_not_end_a_restarted_guest(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(HostError, match="nobody reads"):
        build_network([NicConfig("nat", capture=path)], MockClock(), TimerQueue())
    build_network([NicConfig("nat", capture=path, restarted=True)], MockClock(), TimerQueue()).close()


# ---------------------------------------------------------------- giving back


def test_forwards_can_be_bound_again_at_once() -> None:
    port = free_port()
    for _ in range(3):
        network = build(f"nat,forward=tcp:{port}:22")
        assert not is_free(port)
        network.close()
    assert is_free(port)


def test_a_network_that_cannot_be_built_leaves_nothing() -> None:
    port = free_port()
    with pytest.raises(HostError, match=str(port)):
        build(f"nat,forward=tcp:{port}:22", f"nat,forward=tcp:{port}:23")
    assert is_free(port)


def machine(tmp_path: Path, *texts: str, devices: tuple[type[Device], ...] = ()) -> Machine:
    nics = tuple(map(parse_nic, texts))
    kernel = write_kernel(tmp_path, POWER_OFF)
    return Machine(MachineConfig(kernel, memory=64 * MIB, nics=nics, devices=devices), lambda _: None)


def test_a_machine_gives_its_network_back(tmp_path: Path) -> None:
    port = free_port()
    built = machine(tmp_path, f"nat,forward=tcp:{port}:22", "none")
    assert [device.title for device in built.vmbus.devices()] == ["NIC 0", "NIC 1"]
    assert not is_free(port)
    built.close()
    assert is_free(port)


def test_a_machine_that_cannot_be_built_gives_it_back_too(tmp_path: Path) -> None:
    class Impossible(Device):
        def __init__(self) -> None:
            raise ConfigError("there is no such device")

    port = free_port()
    with pytest.raises(ConfigError, match="no such device"):
        machine(tmp_path, f"nat,forward=tcp:{port}:22", devices=(Impossible,))
    assert is_free(port)


def test_a_guest_without_adapters_does_not_pay_for_them(tmp_path: Path) -> None:
    kernel = write_kernel(tmp_path, POWER_OFF)
    program = f"""
import sys
from pathlib import Path
from ringminus.machine.config import MachineConfig
from ringminus.machine.machine import Machine
from ringminus.machine.worker import run_machine
machine = Machine(MachineConfig(Path({str(kernel)!r}), memory=64 << 20), lambda _: None)
run_machine(machine)
machine.close()
print([name for name in sys.modules if name.startswith(("ringminus.switch", "ringminus.devices.network"))])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
