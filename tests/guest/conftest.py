"""The demo guest, built once, and ways to run it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ringminus.errors import HostError
from ringminus.guest.build import GuestImage, build
from ringminus.guest.rootfs import build_with_root
from ringminus.machine.config import DiskConfig
from ringminus.tap import Tap
from ringminus.vmbus.device import Device
from support.command import Run, RunGuest, kernel_words, run_command
from support.guest_cache import CACHE, one_builds
from support.guest_disks import MOUNT_DEBIAN, RootGuest
from support.guest_programs import guest_programs
from support.live_guest import LiveGuest, RunLive, Scenario, Setup, T, run_live


@pytest.fixture(scope="session")
def demo_guest() -> GuestImage:
    try:
        with one_builds():
            return build(CACHE / "guest")
    except HostError as error:
        pytest.skip(f"no demo guest here: {error}")


def options_for(image: GuestImage) -> list[str]:
    return ["--kernel", str(image.kernel), "--initrd", str(image.initrd)]


def runner(image: GuestImage) -> RunGuest:
    def run(
        *options: str,
        script: str | None = None,
        words: str = "",
        timeout: float = 120,
        commands: str | None = None,
    ) -> Run:
        fixed = ["run", *options_for(image), "--console", "stdio", "--append", kernel_words(script, words)]
        return run_command(*fixed, *options, timeout=timeout, commands=commands)

    return run


@pytest.fixture(scope="session")
def guest_options(demo_guest: GuestImage) -> list[str]:
    return options_for(demo_guest)


@pytest.fixture(scope="session")
def run_guest(demo_guest: GuestImage) -> RunGuest:
    return runner(demo_guest)


@pytest.fixture(scope="session")
def program_guest(demo_guest: GuestImage) -> GuestImage:
    """The demo guest with the programs of tests/guest/programs in its /bin."""
    with one_builds():
        return build(CACHE / "guest-programs", extra=guest_programs())


@pytest.fixture(scope="session")
def run_program_guest(program_guest: GuestImage) -> RunGuest:
    return runner(program_guest)


@pytest.fixture(scope="session")
def live_guest(program_guest: GuestImage) -> RunLive:
    def run(
        scenario: Scenario[T],
        *,
        devices: Sequence[Device] = (),
        disks: Sequence[DiskConfig] = (),
        words: str = "quiet",
        tap: Tap | None = None,
        timeout: float = 120,
    ) -> T:
        return run_live(scenario, Setup(program_guest, devices, disks, words, tap=tap), timeout)

    return run


@pytest.fixture(scope="session")
def root_guest() -> RootGuest:
    """Debian on a VHDX, which is not to be written to: tests take a copy, or read."""
    directory = CACHE / "guest"
    try:
        with one_builds():
            image, root = build_with_root(directory, directory / "root.vhdx")
    except HostError as error:
        pytest.skip(f"no guest with a root here: {error}")
    return RootGuest(image, root.path)


@pytest.fixture(scope="session")
def debian_guest(root_guest: RootGuest) -> RunLive:
    """The demo guest with Debian's programs: see `support.guest_disks`. `disks` begin with LUN 1."""
    root = DiskConfig(root_guest.root, read_only=True)

    def run(
        scenario: Scenario[T],
        *,
        devices: Sequence[Device] = (),
        disks: Sequence[DiskConfig] = (),
        words: str = "quiet",
        tap: Tap | None = None,
        timeout: float = 120,
    ) -> T:
        async def with_debian(guest: LiveGuest) -> T:
            await guest.run(MOUNT_DEBIAN)
            return await scenario(guest)

        setup = Setup(root_guest.image, devices, [root, *disks], words, tap=tap)
        return run_live(with_debian, setup, timeout)

    return run
