"""The prompt at breakpoints, with commands as a script: what stops the guest, what is shown, what is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

import ringminus.cli.protocols  # noqa: F401
from ringminus.errors import ConfigError
from ringminus.lens.breakpoints.prompt import Closing, Prompt
from ringminus.lens.breakpoints.symbols import Symbols
from ringminus.tap import EVENTS, BusMessage
from ringminus.vmbus.wire import OpenResult
from support.bus_bed import Bed, echo
from support.bus_driver import GuestChannel
from support.hypervisor import EOM
from support.reach import BedReach

SECOND = 10_000_000
Step = str | BaseException


class Script:
    """A terminal whose person has a list of commands, and to whom everything is said."""

    colored = False

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.said: list[str] = []
        self.is_open = False
        self.stops = 0
        self.at_open: Callable[[], None] = lambda: None

    def open(self, complete: Callable[[str], Sequence[str]]) -> None:
        assert not self.is_open
        self.is_open = True
        self.stops += 1
        self.at_open()

    def close(self) -> None:
        self.is_open = False

    def ask(self) -> str | None:
        assert self.is_open
        step = self.steps.pop(0) if self.steps else None
        if isinstance(step, BaseException):
            raise step
        if step is not None:
            self.said.append(f"> {step}")
        return step

    def say(self, text: str) -> None:
        self.said.append(text)

    def after(self, command: str) -> list[str]:
        """What was said to a command."""
        begin = self.said.index(f"> {command}") + 1
        rest = self.said[begin:]
        return rest[: next((n for n, one in enumerate(rest) if one.startswith("> ")), len(rest))]


class Stage:
    """A bed at whose events a script may stop."""

    def __init__(self, *breaks: str, script: Sequence[Step], symbols: Symbols | None = None) -> None:
        self.bed = Bed()
        self.bed.device.answer = echo
        self.terminal = Script(*script)
        tap = self.bed.guest.partition.tap
        self.prompt = Prompt(tap, self.terminal, symbols or Symbols())
        self.prompt.reach = self.reach = BedReach(self.bed)
        self.channel: GuestChannel = self.bed.open()
        for text in breaks:
            self.prompt.points.add(text)

    def exchange(self, payload: bytes = b"hello", number: int = 7) -> list[bytes]:
        self.channel.send(payload, number, wants_completion=True)
        return [one.payload for one in self.channel.receive()]

    @property
    def said(self) -> str:
        return "\n".join(self.terminal.said)


# ---------------------------------------------------------------- stopping and going on


def test_the_guest_stands_still_at_an_event_before_the_device_gets_it() -> None:
    stage = Stage("packet and not packet.to_guest", script=["continue"])
    stage.bed.device.answer = lambda channel, packet: stage.terminal.said.append("the device")
    stage.exchange()
    first, command, device = stage.terminal.said
    assert first.startswith("breakpoint 1, event ") and "recorder" in first
    assert (command, device) == ("> continue", "the device")
    assert stage.reach.log == ["pause", "resume"]


def test_continue_may_pass_several() -> None:
    stage = Stage("packet.to_guest", script=["continue 3", "list", "continue"])
    for number in range(4):
        stage.exchange(number=number)
    assert stage.terminal.stops == 2
    assert stage.terminal.after("list") == ["  1  packet.to_guest  (met 4 times)"]


def test_next_goes_to_the_next_event_of_a_filter_and_forgets_it() -> None:
    stage = Stage("packet and not packet.to_guest", script=["next signal", "continue", "continue"])
    stage.exchange()
    stage.exchange()
    assert stage.terminal.stops == 3
    assert "event signal" in stage.said and [point.number for point in stage.prompt.points] == [1]


def test_next_alone_is_the_next_of_the_same_kind_and_an_empty_line_repeats_it() -> None:
    stage = Stage("packet.transaction_id == 2", script=["next", "", "delete", "continue"])
    for number in (2, 2, 2, 2):
        stage.exchange(number=number)
    assert stage.terminal.stops == 3


def test_step_goes_to_the_next_event_of_any_kind() -> None:
    stage = Stage("packet and not packet.to_guest", script=["step", "s", "", "delete", "continue"])
    stage.exchange()
    shown = [one for one in stage.terminal.said if "event " in one and not one.startswith(">")]
    assert ["packet" in one or "recorder" in one for one in shown[:2]] == [True, True]
    assert "event signal" in shown[2] and "vector" in shown[3]


def test_a_hypercall_is_met_once_before_it_is_carried_out_or_with_its_result() -> None:
    stage = Stage("hypercall.code == 0x7777", script=["answer 5", "continue"])
    assert stage.bed.guest.hypercall(0x7777) == 5 and stage.terminal.stops == 1
    stage = Stage("hypercall.status != success", script=["continue"])
    assert stage.bed.guest.hypercall(0x7777) == 2 and stage.terminal.stops == 1
    assert "INVALID_HYPERCALL_CODE" in stage.said


def test_an_msr_write_that_faults_is_met_with_its_result() -> None:
    stage = Stage("msr.fault", script=["show", "edit value 5", "continue"])
    with pytest.raises(Exception, match="guest exception 13"):
        stage.bed.guest.write(0x12345, 1)
    stage.bed.guest.write(EOM, 0)
    assert stage.terminal.stops == 1
    assert stage.terminal.after("edit value 5") == ["this msr event is over: it can only be looked at"]


def test_what_happens_at_the_prompt_meets_no_breakpoint() -> None:
    stage = Stage(
        "interrupt or packet", script=["inject interrupt 0x77", "continue", "continue", "delete", "c"]
    )
    stage.exchange()
    assert stage.terminal.stops == 3


def test_the_end_of_the_commands_lets_the_guest_go_on_for_good() -> None:
    stage = Stage("packet", script=["show"])
    assert stage.exchange() == [b"hello\0\0\0"]
    assert stage.exchange() == [b"hello\0\0\0"]
    assert stage.terminal.stops == 1 and "no more commands" in stage.said
    assert not stage.prompt.stop()


def test_a_person_may_stop_the_guest_anywhere() -> None:
    stage = Stage(
        script=["show", "registers rip", "continue"], symbols=Symbols([(0, "", True), (16, "f", True)])
    )
    stage.bed.guest.processor.state.rip = 0x18
    assert stage.prompt.stop()
    assert stage.terminal.said[0] == "the guest was stopped at RIP 0x18 f+0x8"
    assert stage.terminal.after("show") == [
        "the guest does not stand at an event: break FILTER and continue go to one"
    ]
    assert stage.terminal.after("registers rip") == ["rip       0x0000000000000018", "rip is f+0x8"]


def test_ctrl_c_at_the_prompt_gives_a_new_line_and_a_signal_ends_the_guest() -> None:
    stage = Stage("packet", script=[KeyboardInterrupt(), Closing("by SIGTERM")])
    stage.exchange()
    assert stage.reach.log == ["pause", "end by SIGTERM", "resume"]
    assert not stage.terminal.is_open


def test_quit_ends_the_guest() -> None:
    stage = Stage("packet", script=["quit"])
    stage.exchange()
    assert stage.reach.log == ["pause", "end at a breakpoint", "resume"] and stage.terminal.stops == 1


# ---------------------------------------------------------------- looking


def test_show_hex_data_tree_and_last() -> None:
    stage = Stage("packet.to_guest", script=["show", "hex", "data", "tree", "last 2", "continue"])
    (page,) = stage.bed.driver.allocate(1)
    stage.bed.guest.memory.write(page << 12, b"in the guest")
    stage.channel.send_gpa_direct(b"hello", [(100, 0, [page])], 7)
    shown = "\n".join(stage.terminal.after("show"))
    assert "transaction_id    7" in shown and "kind              11" in shown
    assert stage.terminal.after("hex") == [f"0000  {'68 65 6c 6c 6f 00 00 00':<47}  hello..."]
    data = stage.terminal.after("data")
    assert data[0] == "100 bytes of guest memory:" and data[1].endswith("in the guest....")
    assert len(data) == 1 + 4
    tree = stage.terminal.after("tree")
    assert len(tree) == 3 and "HvCallSignalEvent" in tree[0] and tree[2].startswith("* ")
    assert len(stage.terminal.after("last 2")) == 2


def test_memory_by_addresses_symbols_and_registers() -> None:
    symbols = Symbols([(0x5000, "buffer", False)])
    script = [
        "memory buffer+2 4",
        "write $rip 414243",
        "physical 0x5000 5",
        "memory 0x99999999",
        "memory x",
        "c",
    ]
    stage = Stage(script=script, symbols=symbols)
    stage.bed.guest.memory.write(0x5000, b"01234567")
    stage.bed.guest.processor.state.rip = 0x5000
    stage.prompt.stop()
    assert stage.terminal.after("memory buffer+2 4") == [f"{0x5002:016x}  {'32 33 34 35':<47}  2345"]
    assert stage.terminal.after("physical 0x5000 5")[0].endswith("ABC34")
    assert stage.terminal.after("memory 0x99999999") == ["nothing is mapped at 0x99999999"]
    assert "neither an address, nor a symbol" in stage.terminal.after("memory x")[0]


def test_the_stack_shows_what_is_behind_calls() -> None:
    kernel = 0xFFFF_FFFF_0000_0000
    symbols = Symbols([(kernel + 0x6000, "caller", True)])
    stage = Stage(script=["stack", "continue"], symbols=symbols)
    guest = stage.bed.guest
    guest.memory.write(0x6000, b"\x90\xe8\x00\x00\x00\x00\x90\xff\xd0\x90")
    words = [kernel + 0x6006, kernel + 0x6007, kernel + 0x6009, 0x1234]
    guest.memory.write(0x7000, b"".join(one.to_bytes(8, "little") for one in words))
    guest.processor.state.general[4] = 0x7000
    stage.prompt.stop()
    rip, *frames = stage.terminal.after("stack")
    assert rip.endswith("RIP")
    assert [one.split()[1] for one in frames] == ["caller+0x6", "caller+0x9"]


# ---------------------------------------------------------------- changing


def test_fields_of_the_event_and_of_its_messages_are_edited() -> None:
    script = [
        "edit payload 414243",
        "edit transaction_id 0x63",
        "edit relid 5",
        "edit vmbus.x 1",
        "edit",
        "c",
    ]
    stage = Stage("packet and not packet.to_guest", script=script)
    stage.exchange()
    assert stage.bed.device.packets[-1][1:] == (0x63, b"ABC")
    assert stage.terminal.after("edit relid 5") == [
        "relid cannot be set: those that can are transaction_id, payload"
    ]
    assert "there is no vmbus message here" in stage.terminal.after("edit vmbus.x 1")[0]


def test_messages_of_the_bus_are_edited_by_name() -> None:
    stage = Stage(script=["edit vmbus.openid 0x55", "continue"])
    stage.channel.close()
    stage.prompt.points.add("vmbus.message == open_channel_result")
    told: list[BusMessage] = []
    stage.bed.guest.partition.tap.listen(BusMessage, told.append)
    stage.bed.driver.open(stage.channel.offer)
    (result,) = [one for one in told if one.name == "OPEN_CHANNEL_RESULT"]
    assert OpenResult.unpack(result.payload).openid == 0x55 and result.changed == "changed"
    assert "openid 85" in stage.terminal.after("edit vmbus.openid 0x55")[0]


@pytest.mark.parametrize(
    ("command", "said", "answers"),
    [
        ("drop", "dropped when the guest goes on", []),
        ("answer 4141", "answered when the guest goes on", [b"AA" + bytes(6)]),
        ("duplicate", "passes 2 times when the guest goes on", [b"hello\0\0\0"] * 2),
        ("delay 0.5", "delayed by 0.5 s when the guest goes on", []),
    ],
)
def test_what_becomes_of_an_event(command: str, said: str, answers: list[bytes]) -> None:
    stage = Stage("packet and not packet.to_guest", script=[command, "delete", "continue"])
    assert stage.exchange() == answers
    assert stage.terminal.after(command) == [said]


def test_packets_messages_and_signals_are_injected() -> None:
    script = [
        *("inject packet recorder guest 4142 5", "inject packet recorder host 43", "inject signal 40"),
        *("inject message guest 020000000000000063000000", "inject completion recorder guest 9 44"),
        *(
            "inject packet nobody guest 41",
            "inject nonsense",
            "inject packet recorder sideways 41",
            "continue",
        ),
    ]
    stage = Stage(script=script)
    stage.prompt.stop()
    first, second = stage.channel.receive()
    assert (first.transaction_id, first.payload[:2]) == (5, b"AB")
    assert (second.kind, second.transaction_id, second.payload[:1]) == (11, 9, b"D")
    stage.bed.guest.pass_time(1)
    assert stage.bed.device.packets[-1][2] == b"C"
    assert 40 in stage.bed.driver.events()
    assert stage.terminal.after("inject packet nobody guest 41") == [
        "no device 'nobody' has an open channel: those that have are recorder"
    ]
    assert "inject packet DEVICE guest|host HEX [ID]" in stage.terminal.after("inject nonsense")[0]
    assert "sideways is neither guest nor host" in stage.said


def test_the_processor_is_changed() -> None:
    stage = Stage(script=["set rip 0x1234", "set cr3 0", "continue"])
    stage.prompt.stop()
    assert stage.bed.guest.processor.state.rip == 0x1234
    assert stage.terminal.after("set cr3 0") == ["cr3 cannot be set"]


# ---------------------------------------------------------------- words


def test_commands_may_be_shortened_and_mistakes_are_told() -> None:
    script = [
        "reg rip",
        "de",
        "nonsense",
        "memory",
        "delay soon",
        'edit "',
        "help next",
        "help inject",
        "break scsi.x == 1",
        "c",
    ]
    stage = Stage("packet", script=script)
    stage.prompt.stop()
    assert stage.terminal.after("reg rip")
    assert stage.terminal.after("de") == ["de may be delay, delete"]
    assert stage.terminal.after("nonsense") == ["there is no command nonsense: help lists them"]
    assert stage.terminal.after("memory") == ["memory ADDRESS [LENGTH]"]
    assert stage.terminal.after('edit "') == ["that cannot be read: No closing quotation"]
    assert stage.terminal.after("help next") == ["next [FILTER]", "  go on to the next such event"]
    assert "  inject interrupt VECTOR" in "\n".join(stage.terminal.after("help inject"))
    assert "there is no field scsi.x" in stage.terminal.after("break scsi.x == 1")[0]


def test_breakpoints_are_made_listed_and_taken_away() -> None:
    script = [
        "break scsi.op == write_10 and scsi.lba > 5",
        "list",
        "delete 1",
        "delete 7",
        "list",
        "continue",
    ]
    stage = Stage("packet", script=script)
    stage.exchange()
    assert stage.terminal.after(script[0]) == ["breakpoint 2: scsi.op == write_10 and scsi.lba > 5"]
    assert len(stage.terminal.after("list")) == 2
    assert stage.terminal.after("delete 7") == ["there is no breakpoint 7: list shows them"]
    assert stage.terminal.stops == 1


def test_completion_knows_commands_filters_fields_and_symbols() -> None:
    stage = Stage("packet", script=["continue"], symbols=Symbols([(1, "vmbus_isr", True)]))
    complete = stage.prompt.complete
    assert complete("con") == ["continue"]
    assert "break scsi.lba" in complete("break scsi.l")
    assert complete("memory vmb") == ["memory vmbus_isr"]
    found: list[Sequence[str]] = []
    stage.terminal.steps = ["delete", "continue"]
    stage.terminal.at_open = lambda: found.append(complete("edit trans"))
    stage.exchange()
    assert found[0] == ["edit transaction_id"]


def test_a_wrong_filter_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="there is no field nonsense"):
        Stage("nonsense == 1", script=[])


def test_without_breakpoints_nobody_listens() -> None:
    stage = Stage("packet or hypercall", script=[])
    tap = stage.bed.guest.partition.tap
    assert tap.packets is not None and tap.interrupts is not None
    stage.prompt.points.delete()
    left = [kind.POINT for kind in EVENTS if getattr(tap, kind.POINT) is not None]
    assert left == [] and tap.changers == {}
