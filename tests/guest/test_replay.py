"""Real guests, recorded and played again: to our device without a guest, and to a guest without our disk or
without a network."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ringminus.memory import MIB
from support.command import Run, RunGuest, kernel_words, run_command

PATTERN = hashlib.shake_128(b"replay").digest(2 * MIB)
WAIT = "n=0; until [ -e /dev/sda ]; do n=$((n+1)); [ $n -lt 100 ] || exit 9; sleep 0.1; done"
READ = f"{WAIT}; dd if=/dev/sda bs=64k 2>/dev/null | md5sum"
WRITE = f"{WAIT}; echo hello | dd of=/dev/sda bs=512 seek=77 conv=sync,fsync 2>/dev/null"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, run_guest: RunGuest) -> Path:
    """A guest reads its whole disk, and writes a sector; the disk is gone then."""
    directory = tmp_path_factory.mktemp("replay")
    disk, capture = directory / "disk.img", directory / "guest.pcapng"
    disk.write_bytes(PATTERN)
    run = run_guest(
        *("--disk", f"{disk},format=raw", "--capture", f"{capture},data"), script=f"{READ}; {WRITE}"
    )
    assert run.status == 0, run
    assert hashlib.md5(PATTERN).hexdigest() in run.output
    disk.unlink()
    return capture


def test_what_a_guest_said_gets_the_same_answers(recording: Path) -> None:
    run = run_command("replay", str(recording), "--side", "guest", "--channel", "scsi", "--json")
    assert run.status == 0, run
    result = json.loads(run.output)
    assert result["same"] and result["differences"] == [] and result["notes"] == []
    assert result["sent"] == result["compared"] > 50


def test_a_guest_reads_a_disk_that_is_only_a_recording(recording: Path, guest_options: list[str]) -> None:
    script = f"{READ}; dmesg | grep -E 'sda|storvsc'"
    run = run_command(
        *("replay", str(recording), "--side", "host", *guest_options),
        *("--append", kernel_words(script, "quiet"), "--console", "stdio", "--timeout", "100"),
    )
    assert run.status == 0, run
    assert hashlib.md5(PATTERN).hexdigest() in run.output
    assert "[sda] 4096 512-byte logical blocks" in run.output
    assert "error" not in run.output
    assert "all the same" in run.errors and "did not come" in run.errors


def test_a_guest_that_does_something_else_is_told_of(recording: Path, guest_options: list[str]) -> None:
    script = f"{WAIT}; echo other | dd of=/dev/sda bs=512 seek=99 conv=sync,fsync 2>/dev/null; {READ}"
    run = run_command(
        *("replay", str(recording), "--side", "host", "--json", *guest_options),
        *("--append", kernel_words(script, "quiet"), "--console", "none", "--timeout", "100"),
    )
    assert run.status == 1, run
    result = json.loads(run.output)
    (difference, *_) = [one for one in result["differences"] if "WRITE_10" in one["message"]]
    lba = next(one for one in difference["changes"] if one["field"] == "scsi.lba")
    assert (lba["recorded"], lba["replayed"]) == ("72", "96")  # their pages
    assert any("what the guest itself has written" in note for note in result["notes"])


# ------------------------------------------------------------ the network

UP = "echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip link set eth0 up; udhcpc -i eth0 -n -q || exit 1"
PING = "ping -c 2 10.0.2.2"
PAGE = b"a page that is only a recording\n" * 2000


class Pages(http.server.BaseHTTPRequestHandler):
    """A web server that has one page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: object) -> None:
        """It says nothing."""


@contextmanager
def web_server() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def fetch(port: int, path: str = "page") -> str:
    return f"wget -q -O - http://10.0.2.2:{port}/{path} | md5sum"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, run_guest: RunGuest) -> tuple[Path, int]:
    """A guest on NAT gets an address, pings the router, and fetches a page; the server is gone then."""
    capture = tmp_path_factory.mktemp("replay") / "network.pcapng"
    with web_server() as port:
        run = run_guest(
            *("--nic", "nat", "--capture", str(capture)), script=f"{UP}; {PING} && {fetch(port)}; ip addr"
        )
    assert run.status == 0 and "lease of 10.0.2.15 obtained" in run.output, run
    assert hashlib.md5(PAGE).hexdigest() in run.output
    return capture, port


def play_network(capture: Path, options: list[str], script: str, *more: str) -> Run:
    return run_command(
        *("replay", str(capture), "--side", "host", "--channel", "nic 0", *options, *more),
        *("--append", kernel_words(script, "quiet"), "--console", "stdio", "--timeout", "100"),
        timeout=120,
    )


def test_a_guest_finds_a_network_that_is_only_a_recording(
    network: tuple[Path, int], guest_options: list[str]
) -> None:
    capture, port = network
    run = play_network(capture, guest_options, f"{UP}; {PING} && {fetch(port)}; ip addr; dmesg | grep WARN")
    assert run.status == 0, run
    assert "lease of 10.0.2.15 obtained from 10.0.2.2" in run.output
    assert "inet 10.0.2.15/24" in run.output
    assert "2 packets transmitted, 2 packets received" in run.output
    assert hashlib.md5(PAGE).hexdigest() in run.output
    assert "WARN" not in run.output
    assert "all the same" in run.errors
    assert "dhcp.transaction_id is the live guest's in 2 frames of the host" in run.errors


def test_a_guest_that_says_something_else_gets_recorded_answers_and_a_diff(
    network: tuple[Path, int], guest_options: list[str]
) -> None:
    capture, port = network
    script = f"{UP}; ping -c 1 10.0.2.2; ping -c 1 -W 1 10.0.2.9; {fetch(port, 'other')}"
    run = play_network(capture, guest_options, script, "--json")
    assert run.status == 1, run
    assert "1 packets transmitted, 0 packets received" in run.output  # nobody had that address
    assert hashlib.md5(PAGE).hexdigest() in run.output  # the recorded server has said so
    result = json.loads(run.errors.splitlines()[-1])
    found = {
        (one["message"].split(" | ")[-1], change["field"], change["recorded"], change["replayed"])
        for one in result["differences"]
        for change in one["changes"]
    }
    path = ("tcp.payload from byte 5 on", "'page HTTP/1.1\\r\\nH'", "'other HTTP/1.1\\r\\n'")
    assert ("tcp SEGMENT", *path) in found
    arp = [one for one in result["differences"] if one["message"].endswith("arp REQUEST")]
    assert arp and all(one["what"] == "extra" for one in arp)


def test_a_link_that_goes_down_and_another_mtu_go_on_with_the_recording(
    network: tuple[Path, int], guest_options: list[str]
) -> None:
    capture, _ = network
    again = "ip link set eth0 down; ip link set eth0 mtu 1400; ip link set eth0 up"
    again += "; ip addr add 10.0.2.15/24 dev eth0"
    script = f"{UP}; {PING}; {again}; {PING}; modprobe -r hv_netvsc; modprobe hv_netvsc; dmesg | grep -i warn"
    run = play_network(capture, guest_options, script, "--json")
    assert run.output.count("2 packets transmitted, 2 packets received") == 2
    assert "WARN" not in run.output
    result = json.loads(run.errors.splitlines()[-1])
    told = [one["message"] for one in result["differences"]]
    assert any("SEND_NDIS_CONFIG" in one for one in told)  # the MTU
    assert any("came once more than they were recorded" in note for note in result["notes"])
    assert not any("broke a protocol" in one for one in told)
