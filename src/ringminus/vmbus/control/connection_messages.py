"""Messages about the connection: contact, offers, unload, pause and resume, monitor pages, sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from ringminus.vmbus.control.actions import (
    Connected,
    MessageTarget,
    MonitorPages,
    Paused,
    Resumed,
    TlConnect,
    Unloaded,
)
from ringminus.vmbus.control.channels import Channels
from ringminus.vmbus.control.connection import Connection, Contact, Pages, checked_pages
from ringminus.vmbus.control.core import Arrived, Core
from ringminus.vmbus.control.refusals import Refusal, VmBusError
from ringminus.vmbus.wire import (
    MESSAGE_CONNECTION_ID,
    MESSAGE_CONNECTION_ID_4,
    MESSAGE_SINT,
    SINT_COUNT,
    ConnectionState,
    Feature,
    HeaderOnly,
    InitiateContact,
    InitiateContact2,
    ModifyConnection,
    ModifyConnectionResponse,
    TlConnectRequest,
    TlConnectRequest2,
    Version,
    VersionResponse,
    VersionResponse2,
    VersionResponse3,
)


def message_connection(version: int) -> int:
    """Where a guest of that version posts its messages."""
    return MESSAGE_CONNECTION_ID_4 if version >= Version.WIN10_V5 else MESSAGE_CONNECTION_ID


class ConnectionMessages:
    """`target_vp` is the processor that the last contact named."""

    def __init__(
        self,
        core: Core,
        channels: Channels,
        is_ram: Callable[[int, int], bool],
        host_pages: Pages | None,
        features: Feature,
    ) -> None:
        self._core = core
        self._outbox = core.outbox
        self._channels = channels
        self._is_ram = is_ram
        self._host_pages = host_pages
        self._features = features
        self.target_vp = 0

    @property
    def _connection(self) -> Connection:
        connection = self._outbox.connection
        assert connection is not None, "the table lets the message through only when connected"
        return connection

    # ------------------------------------------------------------ contact

    def initiate_contact(self, message: InitiateContact | InitiateContact2, arrived: Arrived) -> None:
        """Begin anew. The guest waits for the answer, so there is one, whatever it sent."""
        contact = Contact.of(message, targeted=arrived.connection_id != MESSAGE_CONNECTION_ID)
        vp_exists = contact.vp < self._core.vp_count
        if not vp_exists or contact.sint != MESSAGE_SINT or contact.vtl:
            # it is not for this bus, and so does not touch its connection
            vp = contact.vp if vp_exists else 0
            sint = contact.sint if contact.sint < SINT_COUNT else MESSAGE_SINT
            self._outbox.count(Refusal.BAD_TARGET)
            self._refuse(MessageTarget(vp, sint))
            return
        was_connected = self._disconnect()
        self.target_vp = contact.vp
        made = contact.connect(self._features, self._host_pages, self._is_ram)
        if isinstance(made, Connection):
            self._accept(made)
            return
        if was_connected:
            self._outbox.do(Unloaded())
        self._outbox.count(made)
        target = MessageTarget(contact.vp, contact.sint)
        if made is Refusal.BAD_MONITOR_PAGES:
            self._fail(target, contact)
        else:
            self._refuse(target)

    def _disconnect(self) -> bool:
        """Drop what there is of a connection, with all messages that wait; tells whether there was one."""
        gone, self._outbox.connection = self._outbox.connection, None
        self._channels.disconnect()
        if gone is not None and gone.pages is not None:
            self._monitor(None)
        return gone is not None

    def _accept(self, connection: Connection) -> None:
        self._outbox.connection = connection
        self._outbox.do(Connected(connection.version, connection.features))
        pages = connection.pages
        if pages is not None:
            self._monitor(pages)
        fields = _response(connection.version, ConnectionState.SUCCESSFUL)
        if connection.version < Version.COPPER:
            self._outbox.send("VERSION_RESPONSE", VersionResponse, **fields)
        elif not connection.host_pages or pages is None:
            features = connection.features
            self._outbox.send("VERSION_RESPONSE", VersionResponse2, **fields, supported_features=features)
        else:
            self._outbox.send(
                "VERSION_RESPONSE",
                VersionResponse3,
                **fields,
                supported_features=connection.features,
                parent_to_child_monitor_page=pages.parent_to_child,
                child_to_parent_monitor_page=pages.child_to_parent,
            )

    def _refuse(self, target: MessageTarget) -> None:
        """The guest tries another version, if it has one."""
        fields = {"version_supported": 0, "connection_state": ConnectionState.SUCCESSFUL, "msg_conn_id": 0}
        self._outbox.send_to(target, "VERSION_RESPONSE", VersionResponse, **fields)

    def _fail(self, target: MessageTarget, contact: Contact) -> None:
        """The version is right, but the connection fails."""
        fields = _response(contact.version, ConnectionState.FAILED_UNKNOWN_FAILURE)
        if contact.version < Version.COPPER:
            self._outbox.send_to(target, "VERSION_RESPONSE", VersionResponse, **fields)
            return
        both = contact.features & self._features & ~int(Feature.SERVER_MONITOR_PAGES)
        self._outbox.send_to(target, "VERSION_RESPONSE", VersionResponse2, **fields, supported_features=both)

    def request_offers(self, _message: HeaderOnly, _arrived: Arrived) -> None:
        """Once in a connection; what is offered later needs no request."""
        if self._connection.offers_sent:
            raise VmBusError(Refusal.OFFERS_SENT, "REQUEST_OFFERS while offered")
        self._connection.offers_sent = True
        self._channels.deliver_all()
        self._outbox.send("ALL_OFFERS_DELIVERED")

    def unload(self, _message: HeaderOnly, _arrived: Arrived) -> None:
        """Answered in every state: a guest that panics waits for it."""
        if self._disconnect():
            self._outbox.do(Unloaded())
        self._outbox.send("UNLOAD_RESPONSE")

    # ------------------------------------------------------------ from 6.0 on

    def modify(self, message: ModifyConnection, _arrived: Arrived) -> None:
        """MODIFY_CONNECTION: other monitor pages of the guest's, or none."""
        asked = Pages(message.parent_to_child_monitor_page, message.child_to_parent_monitor_page)
        pages = checked_pages(asked, self._is_ram)
        if isinstance(pages, Refusal) or self._connection.host_pages:
            self._outbox.count(Refusal.BAD_MONITOR_PAGES)
            state = ConnectionState.FAILED_UNKNOWN_FAILURE
        else:
            self._connection.pages = pages
            self._monitor(pages)
            state = ConnectionState.SUCCESSFUL
        self._outbox.send("MODIFY_CONNECTION_RESPONSE", ModifyConnectionResponse, connection_state=state)

    def _monitor(self, pages: Pages | None) -> None:
        both = (None, None) if pages is None else (pages.parent_to_child or None, pages.child_to_parent)
        self._outbox.do(MonitorPages(*both))

    def pause(self, _message: HeaderOnly, _arrived: Arrived) -> None:
        """Hold all messages from now on, so that the guest can be saved without one on its way."""
        self._outbox.send("PAUSE_RESPONSE")
        self._connection.held = []
        self._outbox.do(Paused())

    def resume(self, _message: HeaderOnly, _arrived: Arrived) -> None:
        """Send what was held; harmless when nothing was paused."""
        held, self._connection.held = self._connection.held, None
        if held is not None:
            self._outbox.do(Resumed())
            for payload in held:
                self._outbox.post(payload)

    # ------------------------------------------------------------ sockets

    def tl_connect(self, message: TlConnectRequest | TlConnectRequest2, _arrived: Arrived) -> None:
        """The host decides."""
        silo = UUID(bytes_le=message.silo_id) if isinstance(message, TlConnectRequest2) else None
        endpoint, service = UUID(bytes_le=message.guest_endpoint_id), UUID(bytes_le=message.host_service_id)
        self._outbox.do(TlConnect(endpoint, service, silo))


def _response(version: int, state: ConnectionState) -> dict[str, Any]:
    # before 5.0 the last word is the version that was selected
    word = message_connection(version) if version >= Version.WIN10_V5 else version
    return {"version_supported": 1, "connection_state": state, "msg_conn_id": word}
