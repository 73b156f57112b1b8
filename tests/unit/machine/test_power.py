"""Switching off and the four ways to restart."""

from __future__ import annotations

import pytest

from ringminus.hypervisor.intercepts import PortSpace
from ringminus.machine.chipset.power import SLEEP_TYPE_S5, AcpiPower, LegacyPorts


class Board:
    def __init__(self) -> None:
        self.told: list[str | int] = []
        self.acpi = AcpiPower(self.told.append, self.told.append)
        self.legacy = LegacyPorts(self.told.append)
        self.ports = PortSpace()
        for device in (self.acpi, self.legacy):
            for first, count in device.ranges:
                self.ports.register(first, count, device)


@pytest.fixture
def board() -> Board:
    return Board()


def test_sleep_type_five_with_the_enable_bit_switches_off(board: Board) -> None:
    board.ports.port_out(0x600, 1, SLEEP_TYPE_S5 << 2)
    assert board.told == []
    board.ports.port_out(0x600, 1, SLEEP_TYPE_S5 << 2 | 0x20)
    assert board.told == [5]


def test_the_type_can_be_read_back_and_the_enable_bit_cannot(board: Board) -> None:
    board.ports.port_out(0x600, 1, 0xFF)
    assert board.ports.port_in(0x600, 1) == 0x1C
    assert board.ports.port_in(0x601, 1) == board.ports.port_in(0x602, 1) == 0


@pytest.mark.parametrize(
    ("port", "value", "how"),
    [
        (0x602, 1, "ACPI reset register"),
        (0x64, 0xFE, "keyboard controller"),
        (0xCF9, 0x06, "reset control register"),
        (0xCF9, 0x0E, "reset control register"),
    ],
)
def test_restart(board: Board, port: int, value: int, how: str) -> None:
    board.ports.port_out(port, 1, value)
    assert board.told == [how]


@pytest.mark.parametrize(
    ("port", "value"), [(0x602, 0), (0x64, 0xD1), (0xCF9, 0x02), (0x601, 0xFF), (0x80, 1)]
)
def test_writes_that_do_nothing(board: Board, port: int, value: int) -> None:
    board.ports.port_out(port, 1, value)
    assert board.told == []


def test_a_keyboard_controller_is_not_there(board: Board) -> None:
    assert board.ports.port_in(0x64, 1) == 0xFF
    assert board.ports.port_in(0x60, 1) == 0xFF


def test_no_nmi_is_pending_and_delay_loops_end(board: Board) -> None:
    first, second = board.ports.port_in(0x61, 1), board.ports.port_in(0x61, 1)
    assert first & 0xC0 == second & 0xC0 == 0
    assert (first ^ second) & 0x10 and first & 0x20
    board.ports.port_out(0x61, 1, 0xFF)
    assert board.ports.port_in(0x61, 1) & 0xCF == 0x0F


def test_pci_configuration_ports_are_not_the_reset_register(board: Board) -> None:
    board.ports.port_out(0xCF8, 4, 0x8000_0600)
    assert board.told == [] and board.ports.port_in(0xCF8, 4) == 0xFFFFFFFF


def test_a_wide_read_past_the_registers_finds_nothing(board: Board) -> None:
    assert board.ports.port_in(0x602, 2) == 0xFF00


def test_state_comes_back(board: Board) -> None:
    board.ports.port_out(0x600, 1, 0x08)
    board.ports.port_out(0xCF9, 1, 0x02)
    board.ports.port_in(0x61, 1)
    other = Board()
    other.acpi.restore(board.acpi.save())
    other.legacy.restore(board.legacy.save())
    assert other.acpi.save() == board.acpi.save() and other.legacy.save() == board.legacy.save()
    assert other.ports.port_in(0x600, 1) == 0x08 and other.ports.port_in(0xCF9, 1) == 0x02
