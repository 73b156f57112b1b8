"""The type information of a Debian kernel and of its modules, from the package that guests are built from."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ringminus.guest.build import KERNEL_PARTS
from ringminus.guest.modinfo import elf_section, module_name, read_module
from ringminus.guest.packages import Apt, unpack
from ringminus.machine.loader.cache import cache_directory
from ringminus.machine.loader.image import extract_kernel
from support.btf import Btf

VMLINUX = "vmlinux"


class KernelTypes:
    """`types(name)` are those of "vmlinux" or of a module."""

    def __init__(self, package: str) -> None:
        """Fetch the package with apt, unless it is here; raises `HostError` and `ConfigError`."""
        self._directory = tempfile.TemporaryDirectory(prefix="ringminus-types-")
        tree = Path(self._directory.name)
        apt = Apt(cache_directory() or tree)
        for path in apt.get([package], KERNEL_PARTS, lambda step, fraction: None):
            unpack(path, tree)
        (kernel,) = tree.glob("boot/vmlinuz-*")
        self.version = kernel.name.removeprefix("vmlinuz-")
        found = tree.glob("**/lib/modules/*/kernel/**/*.ko*")
        self._modules = {name: path for path in found if (name := module_name(path.name))}
        self._types = {VMLINUX: _btf(extract_kernel(kernel))}

    def types(self, name: str) -> Btf:
        """Raises `KeyError` for a module that the kernel does not have."""
        if name not in self._types:
            data = read_module(self._modules[name]).data
            self._types[name] = _btf(data, self._types[VMLINUX])
        return self._types[name]

    def close(self) -> None:
        """Remove what was unpacked."""
        self._directory.cleanup()


def _btf(data: bytes | bytearray, base: Btf | None = None) -> Btf:
    section = elf_section(memoryview(data), b".BTF")
    if section is None:
        raise KeyError("the kernel was built without CONFIG_DEBUG_INFO_BTF")
    return Btf(section, base)
