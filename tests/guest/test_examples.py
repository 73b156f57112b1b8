"""The devices of examples/ in a real guest, as their how-to shows them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from support.command import RunGuest
from support.guest_programs import EXAMPLES

BIND = "echo be6d21ad-0a5c-4a54-a0f4-3f3a3a4c1d01 > /sys/bus/vmbus/drivers/uio_hv_generic/new_id"
WORDS = b"a guest's words\n"


@pytest.mark.parametrize("device", ["Digest", "PatientDigest"])
def test_a_guest_has_its_digests_computed(run_program_guest: RunGuest, device: str) -> None:
    run = run_program_guest(
        *("--device", f"{EXAMPLES}/digest/digest.py:{device}", "--stats", "--json"),
        words="quiet",
        script=f"""
            {BIND}
            echo "a guest's words" | digest
            head -c 60000 /bin/busybox > /tmp/much
            digest < /tmp/much; sha256sum < /tmp/much
            digest 1000 < /dev/null
            digest < /dev/null
        """,
    )
    assert run.status == 0 and "ended with status 0" in run.output
    digests = re.findall(r"^([0-9a-f]{64})  -\r?$", run.output, re.M)
    assert digests[0] == hashlib.sha256(WORDS).hexdigest()
    assert digests[1] == digests[2]
    assert digests[3:] == [hashlib.sha256(b"").hexdigest()]
    assert run.output.count("digest device, VMBus 5.3") == 4
    assert run.output.count("digest: the device does not answer") == 1
    (row,) = json.loads(run.errors)["channels"]
    assert (row["device"], row["opened"], row["failed"], row["packets_in"]) == (device, 4, 1, 4)


def test_why_a_channel_failed_is_logged(run_program_guest: RunGuest) -> None:
    run = run_program_guest(
        *("--device", f"{EXAMPLES}/digest/digest.py:Digest", "--log", "violations"),
        words="quiet",
        script=f"{BIND}; echo too little | digest 1000",
    )
    assert re.fullmatch(
        r" *[\d.]+ vp0 → Digest     violation, relid 1: 1000 bytes of which 12 are there\n", run.errors
    )


def test_an_exception_of_a_device_ends_the_run_with_its_place(
    run_program_guest: RunGuest, tmp_path: Path
) -> None:
    source = (EXAMPLES / "digest" / "digest.py").read_text()
    broken = tmp_path / "broken.py"
    broken.write_text(source.replace("hashlib.sha256(self", "hashlib.sha257(self"))
    run = run_program_guest(
        "--device", f"{broken}:Digest", words="quiet", script=f"{BIND}; echo hello | digest"
    )
    line = source[: source.index("hashlib.sha256(self")].count("\n") + 1
    assert run.status == 70
    assert run.errors.splitlines()[-1] == (
        f"ringminus: error: a device raised an exception: look at {broken}, line {line}"
    )
