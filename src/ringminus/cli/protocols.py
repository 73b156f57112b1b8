"""All declarations of messages, for commands that show events: importing this makes them known."""

import ringminus.devices.network.protocol
import ringminus.devices.storage.protocol
import ringminus.hypervisor.protocol
import ringminus.switch.protocol
import ringminus.vmbus.protocol  # noqa: F401
