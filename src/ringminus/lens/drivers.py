"""What people call devices: by the names of their Linux drivers."""

from __future__ import annotations

from uuid import UUID

DRIVERS: dict[UUID, tuple[str, ...]] = {
    UUID("f8615163-df3e-46c5-913f-f2d2f965ed0e"): ("netvsc", "hv_netvsc"),
    UUID("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f"): ("storvsc", "hv_storvsc"),
    UUID("32412632-86cb-44a2-9b5c-50d1417354f5"): ("ide", "storvsc", "hv_storvsc"),
    UUID("2f9bcc4a-0069-4af3-b76b-6fd0be528cda"): ("storfc", "storvsc", "hv_storvsc"),
    UUID("f912ad6d-2b17-48ea-bd65-f927a61c7684"): ("keyboard", "hyperv_keyboard"),
    UUID("cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a"): ("mouse", "hid_hyperv"),
    UUID("da0a7802-e377-4aac-8e77-0558eb1073f8"): ("video", "hyperv_fb", "hyperv_drm"),
    UUID("57164f39-9115-4e78-ab55-382f3bd5422d"): ("heartbeat", "hv_utils"),
    UUID("a9a0f4e7-5a45-4d96-b827-8a841e8c03e6"): ("kvp", "hv_utils"),
    UUID("0e0b6031-5213-4934-818b-38d90ced39db"): ("shutdown", "hv_utils"),
    UUID("9527e630-d0ae-497b-adce-e80ab0175caf"): ("timesync", "hv_utils"),
    UUID("35fa2e29-ea23-4236-96ae-3a6ebacba440"): ("vss", "hv_utils"),
    UUID("34d14be3-dee4-41c8-9ae7-6b174977c192"): ("fcopy", "hv_utils"),
    UUID("525074dc-8985-46e2-8057-a307dc18a502"): ("balloon", "hv_balloon"),
    UUID("44c4f61d-4444-4400-9d52-802e27ede19f"): ("pcivsc", "pci_hyperv"),
}
"""By a device's class GUID, the shortest name first. Source: Linux, include/linux/hyperv.h."""
