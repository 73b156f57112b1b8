"""`ringminus replay` as a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ringminus.cli.replay import replay
from ringminus.errors import ConfigError, HostError
from support.recordings import NETWORK, unpacked

DEVICE = """
from uuid import UUID
from ringminus.vmbus.device import Device

class Mine(Device):
    interface = UUID("{interface}")
    name = "Mine"
    def packet(self, channel, packet):
        channel.complete(packet.transaction_id, bytes(packet.payload))
"""
SCSI, OTHER = "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f", "11111111-04a1-4d29-b605-72e2ffb1dc7f"


def run(*arguments: str | Path) -> Result:
    """Errors of ours pass, as they do in `main`."""
    return CliRunner().invoke(
        replay, [str(one) for one in arguments], catch_exceptions=False, standalone_mode=False
    )


def test_a_replay_that_is_the_same_has_status_0(tmp_path: Path) -> None:
    result = run(unpacked(tmp_path), "--side", "guest")
    assert result.exit_code == 0
    assert result.output == "SCSI, relid 1: 128 packets sent, 128 answers compared, all the same\n"


def test_a_channel_is_named_by_its_title_or_relid(tmp_path: Path) -> None:
    path = unpacked(tmp_path, NETWORK)
    for name in ("nic 0", "NIC 0", "1"):
        assert "all the same" in run(path, "--side", "guest", "--channel", name).output


def test_a_device_of_one_s_own_that_answers_otherwise(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(DEVICE.format(interface=SCSI))
    device = f"{tmp_path / 'mine.py'}:Mine"
    result = run(unpacked(tmp_path), "--side", "guest", "--device", device)
    assert result.exit_code == 1
    first = result.output.splitlines()[:4]
    assert first[0].endswith("vstor COMPLETE_IO is not as it was recorded")
    assert first[1] == "  it answers vstor BEGIN_INITIALIZATION"
    assert [line.split(":")[0] for line in first[2:]] == ["  - vstor.message", "  + vstor.message"]

    result = run(unpacked(tmp_path), "--side", "guest", "--device", device, "--json")
    told = json.loads(result.output)
    assert not told["same"] and len(told["differences"]) == told["compared"] == 128
    assert told["differences"][0]["changes"][0] == {
        "field": "vstor.message",
        "recorded": "COMPLETE_IO",
        "replayed": "BEGIN_INITIALIZATION",
    }


def test_a_device_of_another_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(DEVICE.format(interface=OTHER))
    with pytest.raises(ConfigError, match=f"SCSI is of class {SCSI}: no --device is of that class"):
        run(unpacked(tmp_path), "--side", "guest", "--device", f"{tmp_path / 'other.py'}:Mine")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--side", "host"), "--side host needs a guest: name its kernel with --kernel"),
        (("--side", "guest", "--memory", "64M"), "--side guest boots no guest: leave out --memory"),
        (("--side", "guest", "--channel", "7"), "there is no channel 7 in the recording"),
    ],
)
def test_a_request_that_cannot_be(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(unpacked(tmp_path), *options)


def test_files_that_are_no_captures(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"", b"hello", bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(HostError, match="is no capture"):
            run(path, "--side", "guest")
    with pytest.raises(HostError, match="cannot read the capture"):
        run(tmp_path / "nothing", "--side", "guest")
