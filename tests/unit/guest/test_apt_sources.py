"""What of the machine's apt goes into a root's installation, asked of the real apt."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ringminus.errors import ConfigError
from ringminus.guest.apt_sources import fetch_settings, sources
from ringminus.guest.packages import Apt
from support.debian_archive import CODENAME, OTHER, archive_configuration, debian_archive

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt")


def quiet(step: str, fraction: float) -> None:
    pass


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return debian_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture
def apt(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apt:
    monkeypatch.setenv("APT_CONFIG", str(archive_configuration(tmp_path, archive)))
    return Apt(tmp_path / "cache")


def stanzas(text: str) -> list[dict[str, str]]:
    """deb822 text as dictionaries; a continued value has its lines joined by a space."""
    parts = text.replace("\n ", " ").strip().split("\n\n")
    pairs = [[line.partition(":") for line in part.splitlines()] for part in parts]
    return [{key: value.strip() for key, _, value in part} for part in pairs]


def test_a_distribution_comes_with_its_updates_and_without_others(apt: Apt, archive: Path) -> None:
    first, second = stanzas(sources(apt, CODENAME, quiet))
    assert (first["Types"], first["Suites"], first["Components"]) == ("deb", CODENAME, "main")
    assert first["URIs"] == f"file:{archive}/"
    assert second["Suites"] == f"{CODENAME}-updates"


def test_options_of_both_kinds_of_sources_are_kept(apt: Apt) -> None:
    first, second = stanzas(sources(apt, CODENAME, quiet))
    assert (first["Trusted"], first["Check-Valid-Until"]) == ("yes", "no")
    assert (second["Trusted"], second["Allow-Insecure"]) == ("yes", "yes")
    assert "Arch" not in first


def test_the_suite_for_newer_packages_belongs_to_its_distribution(apt: Apt) -> None:
    names = [stanza["Suites"] for stanza in stanzas(sources(apt, f"{CODENAME}-backports", quiet))]
    assert names == [CODENAME, f"{CODENAME}-updates"]
    assert [stanza["Suites"] for stanza in stanzas(sources(apt, OTHER, quiet))] == [OTHER]


def test_without_a_suite_it_is_the_machines_own(apt: Apt, monkeypatch: pytest.MonkeyPatch) -> None:
    release = {"VERSION_CODENAME": CODENAME}
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: release)
    assert f"Suites: {CODENAME}\n" in sources(apt, None, quiet)
    assert f"Suites: {OTHER}\n" not in sources(apt, None, quiet)


def test_a_distribution_without_a_source_is_named(apt: Apt) -> None:
    with pytest.raises(ConfigError, match=r"apt has no source of sid: add it to .*--suite"):
        sources(apt, "sid", quiet)


def test_settings_tell_how_to_fetch_and_nothing_else(apt: Apt) -> None:
    lines = fetch_settings(apt).splitlines()
    assert 'Acquire::http::Proxy "http://proxy.example:3128/";' in lines
    assert 'APT::Sandbox::User "root";' in lines
    assert all(line.startswith(("Acquire::", "APT::Sandbox", "Dir::Etc::netrc")) for line in lines)
    assert not any("IndexTargets" in line or "Languages" in line for line in lines)
