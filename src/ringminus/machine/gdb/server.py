"""gdb's server in a worker: a socket on its loop, a debugger for its guest.

Whatever runs on the loop sees a guest that is not inside its processor, so stopping it means no more than
not letting it run. The guest's clock stands still with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ringminus.cpu.engine import Debug, DebugReason, Exit, Halted, Stopped
from ringminus.errors import HostError
from ringminus.machine.gdb.address import GdbAddress
from ringminus.machine.gdb.arguments import Resume
from ringminus.machine.gdb.commands import INVALID, SIGINT, Stub
from ringminus.machine.gdb.monitor import monitor
from ringminus.machine.gdb.protocol import Packet, PacketStream, Signal
from ringminus.machine.outcome import End, Outcome
from ringminus.machine.worker import Worker

HOLD = "gdb"
SIGABRT, SIGSEGV, SIGTERM = 6, 11, 15
# an end against the guest's will, and by which signal gdb shows it
FATAL = {End.CRASH: SIGABRT, End.TRIPLE_FAULT: SIGSEGV, End.FAILURE: SIGABRT}
BY_FORCE = (End.TIMEOUT, End.INTERRUPTED)


class GdbServer:
    """Debugs the guest of one worker after another (see `worker.Debugger`), with one gdb at a time.

    `waits`: the first guest does not run before a gdb has said so. `kill` is called when gdb ends the guest.
    """

    def __init__(self, address: GdbAddress, *, waits: bool, kill: Callable[[], None]) -> None:
        self._address = address
        self._waits = waits
        self._kill = kill
        self._stub = Stub(self)
        self._server: asyncio.Server | None = None
        self._connection: Connection | None = None
        self._worker: Worker | None = None
        self._stopped = False
        self._resume = Resume()
        self._halted_in_step = False
        self._last_look: asyncio.Event | None = None

    # ------------------------------------------------------------ the socket

    async def open(self) -> str:
        """Listen; gives what a person types into gdb. Raises `HostError`."""
        loop, address = asyncio.get_running_loop(), self._address
        try:
            if address.path is not None:
                self._server = await loop.create_unix_server(self._accept, str(address.path))
                return f"target remote {address.path}"
            self._server = await loop.create_server(self._accept, address.host, address.port)
        except OSError as error:
            where = address.path or f"{address.host}:{address.port}"
            raise HostError(f"cannot listen for gdb on {where}: {error.strerror or error}") from error
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"target remote {f'[{host}]' if ':' in host else host}:{port}"

    async def close(self, outcome: Outcome | None) -> None:
        """Tell gdb how the guest ended, and listen no more."""
        if self._connection is not None:
            if outcome is not None:
                self._connection.send(_ending(outcome))
            self._connection.close()
        if self._server is not None:
            self._server.close()
            if self._address.path is not None:
                self._address.path.unlink(missing_ok=True)
        await asyncio.sleep(0)  # what is closed is told so

    def _accept(self) -> asyncio.Protocol:
        return Connection(self)

    def connected(self, connection: Connection) -> bool:
        """A gdb is there; False if it is one too many. It finds the guest stopped."""
        if self._connection is not None:
            return False
        self._connection = connection
        self._stub.reset()
        self._waits = False
        self._stop()
        return True

    def disconnected(self, connection: Connection) -> None:
        """The gdb is gone, with or without a word: the guest goes on."""
        if self._connection is connection:
            self._connection = None
            self.detach()

    def receive(self, event: Packet | Signal) -> list[bytes]:
        """What gdb has sent; gives what it is answered."""
        if event is Signal.INTERRUPT:
            if self._stopped or self._worker is None:
                return []
            self._stop()
            return [self._stub.stopped_by(SIGINT)]
        return self._stub.answer(event.payload) if isinstance(event, Packet) else [INVALID]

    @property
    def wants_no_acknowledgements(self) -> bool:
        return self._stub.wants_no_acknowledgements

    # ------------------------------------------------------------ the worker

    def attach(self, worker: Worker) -> None:
        """A guest begins; it is the same target to gdb as the one before."""
        self._worker = worker
        worker.debugger = self
        partition = worker.machine.partition
        self._stub.processors = [vp.processor for vp in partition.vps]
        self._stub.memory = partition.memory
        self._halted_in_step = False
        if self._connection is not None:
            self._stub.points.apply(self._stub.processors)
        if self._waits or self._stopped:
            self._stopped = False
            self._stop()

    def detach_worker(self) -> None:
        """The guest is over."""
        if self._worker is not None:
            self._worker.debugger = None
        self._worker = None
        self._stub.processors, self._stub.memory = (), None

    def run(self) -> Exit:
        """In place of the processor's `run`: as gdb wants it."""
        assert self._worker is not None
        processor = self._worker.machine.partition.vps[0].processor
        if not self._resume.stepping:
            return processor.run()
        if self._halted_in_step:
            self._halted_in_step = False
            return Debug(DebugReason.STEP)
        ended = processor.debug().step()
        self._halted_in_step = isinstance(ended, Halted)  # its step ends when an interrupt has woken it
        if ended == Debug(DebugReason.STEP) and processor.rip in self._resume.inside:
            return Stopped()
        return ended

    def stopped(self, event: Debug) -> None:
        """The processor came to where gdb wanted it to stop."""
        if self._connection is None:
            return
        self._stop()
        self._connection.send(self._stub.stopped_at(0, event))

    async def look(self, outcome: Outcome) -> None:
        """The guest ends. If it did not want to, gdb may look at it until it says `continue`."""
        if self._connection is None or outcome.end not in FATAL:
            return
        self._last_look = asyncio.Event()
        if self._stopped:  # it has stopped for another reason, which gdb knows
            await self._last_look.wait()
            return
        self._stop()
        self._connection.send(b"O" + f"{outcome.end.value} {outcome.detail}\n".encode().hex().encode())
        self._connection.send(self._stub.stopped_by(FATAL[outcome.end]))
        await self._last_look.wait()

    def hurry(self) -> None:
        """The end is wanted from outside too: no more time to look."""
        if self._last_look is not None:
            self._last_look.set()

    def _stop(self) -> None:
        if not self._stopped and self._worker is not None:
            self._stopped = True
            self._worker.hold(HOLD)
            self._worker.machine.engine.pause_clock()

    def _go(self) -> None:
        if self._stopped:
            self._stopped = False
            if self._worker is not None:
                self._worker.machine.engine.resume_clock()
                self._worker.release(HOLD)
        self.hurry()

    # ------------------------------------------------------------ what commands do (see commands.Control)

    def resume(self, how: Resume) -> None:
        self._resume, self._halted_in_step = how, False
        self._go()

    def kill(self) -> None:
        self._kill()
        self.detach()

    def detach(self) -> None:
        self._stub.points.clear()
        self._stub.points.apply(self._stub.processors)
        self.resume(Resume())

    def monitor(self, words: str) -> str:
        if self._worker is None:
            return "no guest is there\n"
        return monitor(self._worker.machine, self._stub.current, words)


class Connection(asyncio.Protocol):
    """One gdb."""

    def __init__(self, server: GdbServer) -> None:
        self._server = server
        self._stream = PacketStream()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._server.connected(self):
            transport.close()

    def data_received(self, data: bytes) -> None:
        for event in self._stream.receive(data):
            for answer in self._server.receive(event):
                self._stream.send(answer)
        self._flush()
        if self._server.wants_no_acknowledgements:
            self._stream.leave_out_acknowledgements()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.disconnected(self)

    def send(self, payload: bytes) -> None:
        """What gdb is told without having asked."""
        self._stream.send(payload)
        self._flush()

    def _flush(self) -> None:
        data = self._stream.take()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _ending(outcome: Outcome) -> bytes:
    """The last stop reply: an exit, or the signal that stands for it."""
    if outcome.end in FATAL:
        return b"X%02x" % FATAL[outcome.end]
    return b"X%02x" % SIGTERM if outcome.end in BY_FORCE else b"W00"
