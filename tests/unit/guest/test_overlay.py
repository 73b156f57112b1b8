"""What a root gets beside Debian: scripts that a shell can read, units, and links."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from ringminus.guest.overlay import LINKS, MASKED, REMOVED, OverlayFile, overlay_files, write_overlay

FILES = {file.path: file for file in overlay_files()}
SCRIPTS = [file for file in FILES.values() if file.data.startswith(b"#!") or file.path.endswith(".sh")]
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]

SCSI = "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f"
INSTANCE = "f8b3781a-1e82-4818-a1c3-63d806ec15bb"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.path)
@pytest.mark.parametrize("shell", SHELLS)
def test_shells_understand_the_scripts(script: OverlayFile, shell: str) -> None:
    command = ["busybox", "sh", "-n"] if shell == "busybox" else [shell, "-n"]
    assert subprocess.run(command, input=script.data, capture_output=True, check=False).stderr == b""


def test_scripts_can_be_executed_and_other_files_not() -> None:
    assert FILES["usr/local/bin/lsvmbus"].mode == 0o755
    assert FILES["usr/local/libexec/ringminus-script"].mode == 0o755
    assert FILES["etc/systemd/system/ringminus-script.service"].mode == 0o644


def test_a_copy_has_no_identity_and_nothing_of_the_host() -> None:
    assert FILES["etc/machine-id"].data == b""
    assert LINKS["etc/resolv.conf"].startswith("/run/")
    assert FILES["etc/hostname"].data == b"ringminus\n"


def test_what_is_masked_is_not_ours() -> None:
    ours = {Path(path).name for path in FILES if path.startswith("etc/systemd/system/")}
    assert not ours & set(MASKED)
    assert not set(REMOVED) & set(FILES)


def test_the_archive_belongs_to_root_and_has_the_modules(tmp_path: Path) -> None:
    modules = tmp_path / "9.9-test"
    (modules / "kernel").mkdir(parents=True)
    (modules / "kernel" / "a.ko").write_bytes(b"a module")
    write_overlay(tmp_path / "overlay.tar", modules)
    with tarfile.open(tmp_path / "overlay.tar") as tar:
        members = {member.name: member for member in tar}
        assert tar.extractfile("usr/lib/modules/9.9-test/kernel/a.ko").read() == b"a module"  # type: ignore[union-attr]
    assert all(member.uid == member.gid == 0 for member in members.values())
    assert members["usr/local/bin/lsvmbus"].mode == 0o755
    for path, target in LINKS.items():
        assert members[path].issym()
        assert members[path].linkname == target
    # Debian's own directories keep their modes: only files of ours are in it, and the modules
    assert [name for name, member in members.items() if member.isdir()] == [
        "usr/lib/modules/9.9-test",
        "usr/lib/modules/9.9-test/kernel",
    ]


@pytest.fixture
def bus(tmp_path: Path) -> Path:
    """A sysfs as the VMBus driver fills it, with a SCSI controller and a device of an unknown class."""
    bus = tmp_path / "sys" / "bus" / "vmbus"
    driver = bus / "drivers" / "hv_storvsc"
    driver.mkdir(parents=True)
    scsi = bus / "devices" / INSTANCE
    (scsi / "channels" / "1").mkdir(parents=True)
    (scsi / "driver").symlink_to(driver)
    other = bus / "devices" / "00000000-0000-0000-0000-000000000001"
    other.mkdir()
    values = {
        scsi / "id": "1",
        scsi / "class_id": f"{{{SCSI}}}",
        scsi / "device_id": f"{{{INSTANCE}}}",
        scsi / "channels" / "1" / "cpu": "0",
        scsi / "channels" / "1" / "interrupts": "42",
        other / "id": "7",
        other / "class_id": "{99999999-0000-0000-0000-000000000009}",
        other / "device_id": "{00000000-0000-0000-0000-000000000001}",
    }
    for path, value in values.items():
        path.write_text(f"{value}\n")
    return bus


def lsvmbus(bus: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The guest's own script, with `bus` in place of the guest's."""
    script = FILES["usr/local/bin/lsvmbus"].data.decode().replace("/sys/bus/vmbus", str(bus))
    command = ["sh", "-c", script, "lsvmbus", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_lsvmbus_names_classes_drivers_and_instances(bus: Path) -> None:
    lines = [line.split() for line in lsvmbus(bus).stdout.splitlines()]
    assert ["1", "SCSI", "controller", "hv_storvsc", "1", INSTANCE] in lines
    unknown = "99999999-0000-0000-0000-000000000009"
    assert ["7", "class", unknown, "-", "0", "00000000-0000-0000-0000-000000000001"] in lines


def test_lsvmbus_tells_of_channels_when_asked(bus: Path) -> None:
    assert "channel" not in lsvmbus(bus).stdout
    assert "channel 1: cpu 0, interrupts 42\n" in lsvmbus(bus, "-v").stdout


def test_name_servers_are_those_that_the_network_tells_of(tmp_path: Path) -> None:
    script = FILES["usr/local/libexec/ringminus-names"].data.decode()
    script = script.replace("/run/systemd/netif/state", str(tmp_path / "state")).replace(
        "/run/", f"{tmp_path}/"
    )
    told = "# This is private data.\nDNS=10.0.2.3 fec0::3\nDOMAINS=lab.test\nROUTE_DOMAINS=\n"
    (tmp_path / "state").write_text(told)
    subprocess.run(["sh", "-c", script], check=True)
    expected = "search lab.test\nnameserver 10.0.2.3\nnameserver fec0::3\n"
    assert (tmp_path / "resolv.conf").read_text() == expected
    (tmp_path / "state").write_text("OPER_STATE=off\n")
    subprocess.run(["sh", "-c", script], check=True)
    assert (tmp_path / "resolv.conf").read_text() == ""


def test_lsvmbus_without_a_bus_says_why(tmp_path: Path) -> None:
    answer = lsvmbus(tmp_path / "nothing")
    assert answer.returncode == 1
    assert "this kernel has no VMBus: the module hv_vmbus is not loaded" in answer.stderr


def test_lsvmbus_has_help_and_refuses_what_it_does_not_know(bus: Path) -> None:
    assert "Usage: lsvmbus [-v]" in lsvmbus(bus, "--help").stdout
    assert lsvmbus(bus, "-x").returncode == 2
