"""The table of addresses: bounded per port, ageing without a timer for each."""

from __future__ import annotations

import pytest

from ringminus.clock import NEVER, MockClock, TimerQueue
from ringminus.switch.addresses import AGEING, PER_PORT, SWEEP, AddressTable
from support.endpoints import mac


class Table(AddressTable[str]):
    """With ports that are words, and a clock."""

    def __init__(self, per_port: int = PER_PORT) -> None:
        self.clock = MockClock()
        self.timers = TimerQueue()
        super().__init__(self.clock, self.timers, per_port)

    def advance(self, units: int) -> None:
        for _ in range(units // SWEEP):
            self.clock.advance(SWEEP)
            self.timers.fire(self.clock.reference_time())
        self.clock.advance(units % SWEEP)
        self.timers.fire(self.clock.reference_time())

    def known(self, vlan: int = 0) -> dict[int, str]:
        """Numbers of addresses, and their ports."""
        return {address[-1]: entry.port for address, entry in self.vlan(vlan).items()}


@pytest.fixture
def table() -> Table:
    return Table()


def test_vlans_learn_independently(table: Table) -> None:
    table.learn(1, mac(1), "a")
    table.learn(2, mac(1), "b")
    assert (table.known(1), table.known(2)) == ({1: "a"}, {1: "b"})


def test_an_address_moves(table: Table) -> None:
    table.learn(0, mac(1), "a")
    table.learn(0, mac(1), "b")
    assert table.known() == {1: "b"}
    table.forget("a")
    assert table.known() == {1: "b"}


@pytest.mark.parametrize("silent, there", [(AGEING - 1, True), (AGEING + SWEEP, False)])
def test_what_is_silent_for_the_ageing_time_goes(table: Table, silent: int, there: bool) -> None:
    table.learn(0, mac(1), "a")
    table.advance(silent)
    assert (table.known() == {1: "a"}) is there


def test_what_sends_stays(table: Table) -> None:
    entry = table.learn(0, mac(1), "a")
    for _ in range(100):
        entry.active = True
        table.advance(AGEING // 2)
    assert table.known() == {1: "a"}
    assert table.age(entry) <= AGEING // 2
    table.advance(AGEING + 2 * SWEEP)
    assert table.known() == {}


def test_one_alarm_serves_all_and_none_is_left_over_nothing(table: Table) -> None:
    assert table.timers.next_deadline() == NEVER
    for number in range(500):
        table.learn(number % 3, mac(number), "a")
    assert table.timers.fire(table.timers.next_deadline()) == 1
    table.advance(AGEING + 2 * SWEEP)
    assert list(table) == []
    assert table.timers.next_deadline() == NEVER
    table.learn(0, mac(1), "a")
    assert table.timers.next_deadline() == table.clock.reference_time() + SWEEP


def test_a_port_that_floods_addresses_loses_only_its_own() -> None:
    table = Table(per_port=4)
    table.learn(0, mac(100), "victim")
    for number in range(50):
        table.learn(number % 2, mac(number), "flood")
    assert table.known(0) | table.known(1) == {
        100: "victim",
        46: "flood",
        47: "flood",
        48: "flood",
        49: "flood",
    }


def test_an_address_in_use_outlives_a_flood_of_others() -> None:
    table = Table(per_port=4)
    busy = table.learn(0, mac(200), "a")
    for number in range(50):
        busy.active = True
        table.learn(0, mac(number), "a")
    assert table.known() == {200: "a", 47: "a", 48: "a", 49: "a"}


def test_a_flood_of_addresses_that_are_all_in_use_is_bounded_too() -> None:
    table = Table(per_port=16)
    for number in range(100):
        table.learn(0, mac(number), "a").active = True
    assert len(table.known()) == 16


def test_addresses_taken_from_another_port_count_for_the_taker() -> None:
    table = Table(per_port=2)
    for number in (1, 2):
        table.learn(0, mac(number), "a")
    table.learn(0, mac(3), "b")
    for number in (1, 2):
        table.learn(0, mac(number), "b")
    assert table.known() == {1: "b", 2: "b"}
    table.learn(0, mac(4), "a")
    assert table.known() == {1: "b", 2: "b", 4: "a"}


def test_a_ports_own_address_is_not_learned_elsewhere_and_does_not_age(table: Table) -> None:
    table.learn(0, mac(1), "a")
    own = table.assign(0, mac(1), "b")
    assert table.learn(0, mac(1), "a") is own
    table.advance(2 * AGEING)
    table.forget("b")
    assert table.known() == {1: "b"}
    table.withdraw("b")
    assert table.known() == {}
    table.learn(0, mac(1), "a")
    assert table.known() == {1: "a"}


def test_to_assign_again_changes_nothing(table: Table) -> None:
    assert table.assign(0, mac(1), "a") is table.assign(0, mac(1), "a")


def test_forgetting_one_address_leaves_the_others(table: Table) -> None:
    for vlan in (1, 2):
        for number in (1, 2):
            table.learn(vlan, mac(number), "a")
    table.forget("a", mac(1))
    assert (table.known(1), table.known(2)) == ({2: "a"}, {2: "a"})
    table.forget("nobody", mac(1))
