"""Gives the guest's disks another name: changes what they say to INQUIRY.

    ringminus run … --disk root.vhdx --addon examples/addons/rename_disk.py,vendor=ACME,product=Rocket

A disk writes its answer into guest memory before its completion passes, so that is where the answer can be
changed.
"""

from ringminus.devices.storage.scsi_wire import InquiryData
from ringminus.lens.addons import Context, only
from ringminus.tap import RingPacket

VITAL_PRODUCT_DATA = 1


class RenameDisk:
    def __init__(self, vendor: str = "ACME", product: str = "Rocket") -> None:
        self.vendor = vendor.encode().ljust(8)
        self.product = product.encode().ljust(16)

    @only("vstor.srb_status == success")
    def packet_to_guest(self, event: RingPacket, ctx: Context) -> None:
        request = ctx.request(event)
        if request is None:
            return
        asked = ctx.message(request)
        if "scsi" in asked and asked.scsi.name == "INQUIRY" and not asked.scsi.flags & VITAL_PRODUCT_DATA:
            with ctx.structure(event, InquiryData) as inquiry:
                inquiry.vendor, inquiry.product = self.vendor, self.product
