"""NVSP's structures and the kernel's."""

from __future__ import annotations

from types import ModuleType

from layout.comparison import Same, SameBits, SameNumbers
from ringminus.devices.network import wire
from ringminus.wire import Struct

_NETVSC = "hv_netvsc"

SAME = (
    Same(wire.MessageHeader, "nvsp_message_header", _NETVSC),
    Same(wire.Init, "nvsp_message_init", _NETVSC),
    Same(wire.InitComplete, "nvsp_message_init_complete", _NETVSC),
    Same(wire.SendNdisVersion, "nvsp_1_message_send_ndis_version", _NETVSC),
    Same(wire.SendReceiveBuffer, "nvsp_1_message_send_receive_buffer", _NETVSC),
    Same(wire.ReceiveBufferSection, "nvsp_1_receive_buffer_section", _NETVSC),
    Same(wire.SendReceiveBufferComplete, "nvsp_1_message_send_receive_buffer_complete", _NETVSC),
    Same(wire.RevokeReceiveBuffer, "nvsp_1_message_revoke_receive_buffer", _NETVSC),
    Same(wire.SendSendBuffer, "nvsp_1_message_send_send_buffer", _NETVSC),
    Same(wire.SendSendBufferComplete, "nvsp_1_message_send_send_buffer_complete", _NETVSC),
    Same(wire.RevokeSendBuffer, "nvsp_1_message_revoke_send_buffer", _NETVSC),
    Same(wire.SendRndisPacket, "nvsp_1_message_send_rndis_packet", _NETVSC),
    Same(wire.SendRndisPacketComplete, "nvsp_1_message_send_rndis_packet_complete", _NETVSC),
    Same(wire.SendNdisConfig, "nvsp_2_send_ndis_config", _NETVSC, renamed={"capability": "data"}),
    Same(wire.SwitchDataPath, "nvsp_4_sw_datapath", _NETVSC),
    Same(wire.SubchannelRequest, "nvsp_5_subchannel_request", _NETVSC),
    Same(wire.SubchannelComplete, "nvsp_5_subchannel_complete", _NETVSC),
    Same(wire.SendIndirectionTable, "nvsp_5_send_indirect_table", _NETVSC),
    Same(wire.PdApiRequest, "nvsp_6_pd_api_req", _NETVSC, until="mmio_pa"),
    Same(wire.PdApiComplete, "nvsp_6_pd_api_comp", _NETVSC, until="num_pd_q"),
)

NUMBERS = (
    SameNumbers("DataPath", wire.DataPath.__members__, "nvsp_vm_datapath", "NVSP_DATAPATH_", _NETVSC),
    SameNumbers(
        "SubchannelOperation",
        wire.SubchannelOperation.__members__,
        "nvsp_subchannel_operation",
        "NVSP_SUBCHANNEL_",
        _NETVSC,
    ),
)

BITS = (
    SameBits(
        "Capability",
        {bit.name.lower(): int(bit) for bit in wire.Capability if bit.name},
        "nvsp_2_vsc_capability",
        _NETVSC,
    ),
)

NOT_IN_LINUX: dict[type[Struct] | ModuleType, str] = {
    wire.OidQueryExComplete: "Linux does not ask",
    wire.SendTable: "Linux has numbers in its place (vRSS send table)",
}
