"""Kernel modules and Debian packages made by hand, and an apt that knows only those."""

from __future__ import annotations

import hashlib
import lzma
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ringminus.guest.wire import SectionHeader
from ringminus.machine.loader.wire import ELF_TYPE_RELOCATABLE, ElfHeader

VERSION = "9.9.9-test"
KERNEL = b"a kernel"
BUSYBOX = b"\x7fELF busybox"


def kernel_module(*depends: str, padding: int = 0) -> bytes:
    """A relocatable ELF file whose `.modinfo` names the modules that it depends on."""
    info = (
        b"license=GPL\0depends="
        + ",".join(depends).encode()
        + b"\0alias=first\0alias=second\0"
        + bytes(padding)
    )
    names = b"\0.modinfo\0.shstrtab\0"
    start = ElfHeader.SIZE
    end = start + len(info) + len(names)
    sections = [
        SectionHeader(name=0, type=0, offset=0, size=0),
        SectionHeader(name=1, offset=start, size=len(info)),
        SectionHeader(name=10, type=3, offset=start + len(info), size=len(names)),
    ]
    header = ElfHeader(
        type=ELF_TYPE_RELOCATABLE, section_header_offset=end, section_header_count=3, section_name_index=2
    )
    return header.pack() + info + names + b"".join(section.pack() for section in sections)


def deb(
    repository: Path, name: str, files: Mapping[str, bytes], depends: str = "", version: str = "1"
) -> None:
    """Build a package into `repository` and add it to its index."""
    tree = repository / "tree" / f"{name}-{version}"
    for path, data in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(data)
    (tree / "DEBIAN").mkdir(parents=True, mode=0o755)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: nobody\n"
    control += f"Depends: {depends}\n" if depends else ""
    (tree / "DEBIAN" / "control").write_text(control + "Description: made by a test\n continued\n")
    package = repository / f"{name}_{version}_amd64.deb"
    command = ["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", str(tree), str(package)]
    subprocess.run(command, check=True, capture_output=True)
    data = package.read_bytes()
    entry = control + f"Filename: ./{package.name}\nSize: {len(data)}\n"
    entry += f"SHA256: {hashlib.sha256(data).hexdigest()}\nDescription: made by a test\n\n"
    with (repository / "Packages").open("a") as index:
        index.write(entry)


def guest_repository(directory: Path) -> Path:
    """A repository with a kernel of some modules, its meta package, and busybox."""
    repository = directory / "repository"
    repository.mkdir()
    base = f"lib/modules/{VERSION}/kernel/drivers"
    files = {
        f"boot/vmlinuz-{VERSION}": KERNEL,
        f"{base}/hv/hv_vmbus.ko": kernel_module(),
        f"{base}/net/hv_netvsc.ko.xz": lzma.compress(kernel_module("hv_vmbus")),
        f"{base}/hid/hid-hyperv.ko": kernel_module("hid", "hv-vmbus"),
        f"{base}/hid/hid.ko": kernel_module(),
        f"{base}/other/unwanted.ko": kernel_module("hid"),
    }
    deb(repository, "linux-image-cloud-amd64", {}, f"linux-image-{VERSION} (= 1), libc6 | libc7")
    deb(repository, f"linux-image-{VERSION}", files, "kmod")
    deb(repository, "busybox-static", {"bin/busybox": BUSYBOX})
    deb(repository, "no-kernel", {"etc/nothing": b""})
    return repository


def apt_configuration(directory: Path, repository: Path) -> Path:
    """A configuration for APT_CONFIG with `repository` as only source and no lists fetched yet."""
    (directory / "sources.list").write_text(f"deb [trusted=yes] file:{repository} ./\n")
    settings = {
        "Dir::Etc::sourcelist": directory / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": directory / "never",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    path = directory / "apt.conf"
    path.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    return path
