"""Named switches as processes: they start once, end cleanly, and are survived when they do not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ringminus.errors import HostError
from ringminus.switch.link.control import Control, NoSuchSwitch, started
from ringminus.switch.link.starter import Starter
from ringminus.switch.link.stream import SOCKET_BUFFER
from ringminus.switch.places import directory, place_of
from support.endpoints import frame, mac
from support.links import LinkBed, Peer, facts_of, kill, process_of, until


def left_behind() -> list[str]:
    return sorted(path.name for path in directory().iterdir())


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return False
    return state != "Z"


def children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def test_guests_of_several_reactors_meet(worker: LinkBed) -> None:
    other = LinkBed()
    (first, _), (second, _) = worker.linked(1), other.linked(2)
    first.port.send(frame(mac(2), mac(1), b"hello"))
    first.port.flush()
    other.until(lambda: second.frames)
    assert second.data() == [frame(mac(2), mac(1), b"hello").data]
    other.close()


def test_the_process_is_detached(worker: LinkBed) -> None:
    worker.linked(1)
    pid = facts_of("lab")["pid"]
    assert process_of(place_of("lab")) == pid
    assert os.getsid(pid) not in (os.getsid(0), 0)
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    until(lambda: not children(os.getpid()), worker.turn)  # and no zombie is left of its start
    log = place_of("lab").log
    assert Path(f"/proc/{pid}/fd/2").readlink() == log
    assert Path(f"/proc/{pid}/fd/0").readlink() == Path("/dev/null")
    assert log.stat().st_mode & 0o777 == 0o600


def test_starters_that_race_make_one_process(worker: LinkBed) -> None:
    """Processes of their own, all at once, and a port of this one."""
    command = [sys.executable, "-m", "ringminus.switch.process", "lab"]
    racing = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    endpoint, port = worker.linked(1)
    ended = [(one.wait(20), one.communicate()[1]) for one in racing]
    assert ended == [(0, b"")] * 4
    assert port.connected and endpoint.links[-1][0]
    assert switch_processes() == [facts_of("lab")["pid"]]
    assert len(left_behind()) == 3


def switch_processes() -> list[int]:
    """Processes of switches in this test's directory."""
    found, ours = [], f"XDG_RUNTIME_DIR={os.environ['XDG_RUNTIME_DIR']}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "environ").read_bytes().split(b"\0")
            command = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if ours in words and b"switch.process" in command:
            found.append(int(path.name))
    return found


def test_workers_that_race_meet_on_one_switch(worker: LinkBed) -> None:
    other = LinkBed()
    first, _ = worker.plug(1)
    second, _ = other.plug(2)

    def turn_both() -> None:
        worker.turn(0.002)
        other.turn(0.002)

    until(lambda: first.links[-1][0] and second.links[-1][0], turn_both)
    assert [port["name"] for port in facts_of("lab")["ports"]] in (["NIC 1", "NIC 2"], ["NIC 2", "NIC 1"])
    other.close()


def test_waiting_for_it(worker: LinkBed) -> None:
    endpoint, port = worker.plug(1)
    port.wait()
    assert port.connected
    worker.until(lambda: endpoint.links[-1][0])


def test_a_killed_process_is_survived(worker: LinkBed) -> None:
    """The link goes down and up again, the switch is another one, and what was set is set again."""
    (first, _), (second, port) = worker.linked(1), worker.linked(2)
    with Control(place_of("lab")) as control:
        before = control.pid
        control.request("configure", port=port.number, options=["speed=1G"])
    worker.until(lambda: second.links[-1] == (True, 1000))
    os.kill(before, signal.SIGKILL)
    worker.until(lambda: not first.links[-1][0] and not second.links[-1][0])
    worker.until(lambda: first.links[-1][0] and second.links[-1] == (True, 1000))
    assert facts_of("lab")["pid"] != before
    first.port.send(frame(mac(2), mac(1)))
    first.port.flush()
    worker.until(lambda: second.frames)
    assert len(left_behind()) == 3


def test_a_stale_socket_is_cleaned(worker: LinkBed) -> None:
    place = place_of("lab")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(os.fspath(place.socket))
    place.lock.touch()
    place.log.write_text("last words of another one")
    worker.linked(1)
    assert place.log.read_text() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(worker: LinkBed, number: signal.Signals) -> None:
    endpoint, port = worker.linked(1)
    pid = facts_of("lab")["pid"]
    os.kill(pid, number)
    worker.until(lambda: not endpoint.links[-1][0])
    until(lambda: not runs(pid))
    assert left_behind() == []
    assert (port.dismissed, port.trouble) == (True, "the switch lab was stopped")
    # it was stopped on purpose: the guest does not start it again, but comes when somebody does
    for _ in range(20):
        worker.turn()
    assert left_behind() == []
    started(place_of("lab")).close()
    worker.until(lambda: endpoint.links[-1][0])


def test_a_lost_terminal_does_not_end_it(worker: LinkBed) -> None:
    worker.linked(1)
    pid = facts_of("lab")["pid"]
    os.kill(pid, signal.SIGHUP)
    assert facts_of("lab")["pid"] == pid


def test_it_ends_with_its_last_guest_and_leaves_nothing(worker: LinkBed) -> None:
    _, port = worker.linked(1)
    pid = facts_of("lab")["pid"]
    port.close()
    until(lambda: not runs(pid))
    assert left_behind() == []


def test_a_switch_that_is_stopped_says_goodbye(worker: LinkBed) -> None:
    endpoint, port = worker.linked(1)
    with Control(place_of("lab")) as control:
        assert control.request("stop", force=True) == {"guests": 1}
    worker.until(lambda: port.dismissed)
    assert port.trouble == "the switch lab was deleted"
    assert not endpoint.links[-1][0]
    until(lambda: not left_behind())


def test_garbage_from_processes_costs_nobody_else_anything(worker: LinkBed) -> None:
    (first, _), (second, _) = worker.linked(1), worker.linked(2)
    place = place_of("lab")
    for number in range(50):
        peer = Peer.to(place)
        if number % 2:
            peer.hello(100 + number)
        peer.say(os.urandom(1000))
        if number % 3:
            until(lambda: peer.heard() is None or peer.ended)  # noqa: B023
        peer.close()
    for _ in range(100):
        first.port.send(frame(mac(2), mac(1), bytes(1000)))
    first.port.flush()
    worker.until(lambda: len(second.frames) == 100)
    assert place.log.read_text() == ""
    assert [one["number"] for one in facts_of("lab")["ports"]] == [1, 2]


SLEEPER = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from support.links import LinkBed
bed = LinkBed()
bed.linked(3)
print("linked", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
while True:
    bed.turn(1)
"""


def test_a_stopped_worker_delays_nobody(worker: LinkBed) -> None:
    (_, port), (second, _) = worker.linked(1), worker.linked(2)
    sleeper = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(Path(__file__).parents[2])], stdout=subprocess.PIPE, text=True
    )
    assert sleeper.stdout is not None
    assert sleeper.stdout.readline() == "linked\n"
    sent = 0
    while sent < 12 * SOCKET_BUFFER // 9000:
        if not port.send(frame(payload=bytes(9000))):
            worker.turn(0)
        sent += 1
        if not sent % 50:
            port.flush()
            worker.until(lambda: len(second.frames) > sent - 200)  # noqa: B023
    port.flush()
    worker.until(lambda: len(second.frames) == sent)
    stopped = next(one for one in facts_of("lab")["ports"] if one["name"] == "NIC 3")
    assert 0 < stopped["counters"]["dropped"]["link queue full"] < sent
    assert port.counters.dropped == {}
    sleeper.kill()
    sleeper.wait()
    until(lambda: len(facts_of("lab")["ports"]) == 2)
    assert "link queue full" not in str([one["counters"] for one in facts_of("lab")["ports"]])


def test_a_process_that_hangs_is_told_of(worker: LinkBed, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.linked(1)
    place = place_of("lab")
    pid = facts_of("lab")["pid"]
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(HostError, match=f"does not answer: its process {pid} hangs or is stopped"):
        Control(place, patience=0.1)
    os.kill(pid, signal.SIGCONT)
    assert facts_of("lab")["pid"] == pid


def test_what_cannot_start_says_why(worker: LinkBed) -> None:
    place = place_of("lab")
    place.socket.mkdir()  # cannot be cleaned away
    starter = Starter(place)
    failures: list[str] = []
    until(lambda: failures, lambda: failures.extend(filter(None, [starter.start()])))
    assert failures == [f"the process of the switch lab does not start: {place.socket}: Is a directory"]
    starter.close()
    _, port = worker.plug(1)
    with pytest.raises(HostError, match=r"cannot reach|does not start"):
        port.wait()
    assert not place.is_alive()
    place.socket.rmdir()


def test_there_is_no_such_switch(runtime: Path) -> None:
    with pytest.raises(NoSuchSwitch, match="ringminus switch create lab makes it"):
        Control(place_of("lab"))


def test_a_created_switch_comes_back_after_a_crash(worker: LinkBed) -> None:
    place = place_of("lab")
    with started(place) as control:
        control.request("create")
        before = control.pid
    kill(place)
    worker.linked(1)
    facts = facts_of("lab")
    assert facts["created"] and facts["pid"] != before
    with Control(place) as control:
        control.request("stop", force=True)
    until(lambda: not left_behind())
