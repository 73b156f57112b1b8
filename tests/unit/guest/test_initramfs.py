"""The demo guest's initrd: what init reads to know what to load."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ringminus.guest.cpio import CpioWriter
from ringminus.guest.init_script import INIT, ORDER, ROOT_MODULES, ROOT_ORDER
from ringminus.guest.initramfs import make_initramfs
from ringminus.guest.modinfo import Module


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Paths and contents of the files that go into an archive."""
    files: dict[str, bytes] = {}
    whole = CpioWriter.file

    def file(self: CpioWriter, path: str, data: bytes, mode: int = 0o644) -> None:
        files[path] = data
        whole(self, path, data, mode)

    monkeypatch.setattr(CpioWriter, "file", file)
    return files


MODULES = (
    Module("hv_vmbus", b"", ()),
    Module("hv_utils", b"", ("hv_vmbus",)),
    Module("scsi_common", b"", ()),
    Module("scsi_mod", b"", ("scsi_common",)),
    Module("hv_storvsc", b"", ("scsi_mod", "hv_vmbus")),
    Module("hid", b"", ()),
)


def test_modules_are_listed_with_what_they_need(written: dict[str, bytes]) -> None:
    make_initramfs(b"", MODULES, {})
    lines = written[ORDER].decode().splitlines()
    assert lines[0] == "hv_vmbus"
    assert lines[4] == "hv_storvsc scsi_mod hv_vmbus"
    assert len(lines) == len(MODULES)


def test_a_root_needs_only_storage_and_what_that_needs(written: dict[str, bytes]) -> None:
    make_initramfs(b"", MODULES, {})
    names = [line.split()[0] for line in written[ROOT_ORDER].decode().splitlines()]
    assert names == ["hv_vmbus", "scsi_common", "scsi_mod", "hv_storvsc"]
    assert {"hv_storvsc", "sd_mod", "ext4"} <= set(ROOT_MODULES)


@pytest.mark.parametrize("shell", [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)])
def test_shells_understand_init(shell: str) -> None:
    command = ["busybox", "sh", "-n"] if shell == "busybox" else [shell, "-n"]
    assert subprocess.run(command, input=INIT, text=True, capture_output=True, check=False).stderr == ""


def load(tmp_path: Path, order: str, broken: str, bus: bool) -> str:
    """What init's `load_modules` says, with an insmod that fails for the module `broken`."""
    start = INIT.index("load_modules() {")
    body = INIT[start : INIT.index("\n}\n", start) + 3]
    body = body.replace("/tmp/", f"{tmp_path}/").replace("/sys/bus/acpi/devices", str(tmp_path / "acpi"))
    (tmp_path / "acpi").mkdir()
    (tmp_path / "order").write_text(order)
    if bus:
        (tmp_path / "acpi" / "VMBUS:00").touch()
    insmod = f'insmod() {{ echo "$1" >>{tmp_path}/tried; case $1 in */{broken}.ko) return 1 ;; esac; }}\n'
    script = f'{insmod}{body}load_modules {tmp_path}/order; echo "$modules"'
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.strip()


ORDER_TEXT = "hv_vmbus\nhv_utils hv_vmbus\nscsi_mod\nhv_storvsc scsi_mod hv_vmbus\nuio\nover hv_storvsc\n"


def test_all_modules_load_on_a_bus(tmp_path: Path) -> None:
    assert load(tmp_path, ORDER_TEXT, "none", True) == "hv_vmbus hv_utils scsi_mod hv_storvsc uio over"


def test_without_a_bus_only_what_needs_none_is_tried(tmp_path: Path) -> None:
    assert load(tmp_path, ORDER_TEXT, "none", False) == "scsi_mod uio (no VMBus device in the ACPI tables)"
    assert "hv_" not in (tmp_path / "tried").read_text()


def test_a_bus_that_does_not_answer(tmp_path: Path) -> None:
    said = load(tmp_path, ORDER_TEXT, "hv_vmbus", True)
    assert said == "scsi_mod uio (hv_vmbus found no bus, and others need it)"


def test_a_module_that_fails_takes_only_its_dependents_along(tmp_path: Path) -> None:
    assert load(tmp_path, ORDER_TEXT, "scsi_mod", True) == "hv_vmbus hv_utils uio (failed: scsi_mod)"
