"""What `ringminus disk info` says of every VHD."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from ringminus.disks.vhd.wire import EPOCH, Footer


def footer_facts(footer: Footer) -> dict[str, Any]:
    """Plain data."""
    return {
        "identity": str(UUID(bytes_le=footer.unique_id)),
        "created": datetime.fromtimestamp(EPOCH + footer.timestamp, UTC).isoformat(),
        "creator": footer.creator_application.decode("ascii", "replace").strip(" \0"),
        "geometry": f"{footer.cylinders}/{footer.heads}/{footer.sectors_per_track}",
        "saved_state": bool(footer.saved_state),
    }
