"""`ringminus run --nic`: what is wrong is told before a guest boots, and the statistics tell what passed."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from support.command import POWER_OFF, run_command, write_kernel


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    return write_kernel(tmp_path, POWER_OFF)


@pytest.mark.parametrize(
    ("nic", "told"),
    [
        ("bridge", "ringminus: error: --nic bridge: there is no backend 'bridge'"),
        ("nat,forward=22", "ringminus: error: --nic nat,forward=22: cannot read forward '22'"),
        ("nat,mac=1", "write six bytes in hexadecimal, such as mac=00:15:5d:01:02:03"),
    ],
)
def test_a_wrong_adapter_is_told_of_at_once(kernel: Path, nic: str, told: str) -> None:
    run = run_command("run", "-k", kernel, "--nic", nic)
    assert (run.status, run.output) == (2, "")
    assert told in run.errors


def test_more_adapters_than_there_can_be(kernel: Path) -> None:
    run = run_command("run", "-k", kernel, *["--nic", "none"] * 9)
    assert run.status == 2
    assert "up to 8 network adapters" in run.errors


def test_a_port_that_is_taken(kernel: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = run_command("run", "-k", kernel, "--nic", f"nat,forward=tcp:{port}:22")
    assert run.status == 1
    assert str(port) in run.errors and "Traceback" not in run.errors


def test_statistics_have_a_row_for_each_adapter(kernel: Path) -> None:
    options = ("--nic", "nat", "--nic", "none,mac=02:00:00:00:00:05")
    run = run_command("run", "-k", kernel, *options, "--json", "--console", "none")
    assert run.status == 0
    first, second = json.loads(run.output)["network"]
    assert (first["device"], first["to"]) == ("NIC 0", "nat")
    assert (second["device"], second["address"], second["to"]) == ("NIC 1", "02:00:00:00:00:05", "none")
    shown = run_command("run", "-k", kernel, *options, "--stats")
    assert "Network, seen from the guest" in shown.errors
    assert "NIC 1    02:00:00:00:00:05  none" in shown.errors


def test_without_adapters_there_is_no_such_table(kernel: Path) -> None:
    assert "Network" not in run_command("run", "-k", kernel, "--stats").errors
