"""The observer: subscribes everywhere, runs the one loop, and hands out what was seen.

Ready means ready: when `open` returns, every ring is mapped, every netlink group is
joined and every trace rule is loaded, so the next packet is seen whatever it does.
What a socket could not keep is counted and becomes part of the evidence.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hoplab.hops.evidence import (
    BaseChain,
    ConntrackEvent,
    Evidence,
    Frame,
    Interface,
    Loss,
    RuleId,
    RuleText,
    TraceEvent,
)
from hoplab.net.loop import DeadlinePassed, Loop
from hoplab.watch import conntrack, rule_texts
from hoplab.watch.connections import delete_conntrack, dump_conntrack
from hoplab.watch.netlink_messages import LARGEST_DATAGRAM, messages
from hoplab.watch.trace import parse_trace
from hoplab.watch.trace_rules import (
    NO_TRACE,
    TRACE_TABLE,
    Tracing,
    finish_loading,
    load_rules,
    start_loading,
    trace_rules,
)
from hoplab.watch.watched import Target, Watched

MOST_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in the run: how much of each kind of evidence there was."""

    frames: int
    traces: int
    conntrack: int


RawFrame = tuple[int, str, str, str, bytes, int]
"""time, node, interface, packet type, bytes, length"""


class Observer:
    """Watches targets; also the loop that probes and servers put their sockets into."""

    def __init__(self, targets: Sequence[Target] = ()) -> None:
        self._targets = list(targets)
        self._watched: dict[str, Watched] = {}
        self._loop = Loop()
        self._callbacks: dict[str, list[Callable[[Frame], None]]] = {}
        self._frames: list[Frame] = []
        self._unnumbered: list[RawFrame] = []
        self._traces: list[TraceEvent] = []
        self._conntrack: list[ConntrackEvent] = []
        self._rules: dict[RuleId, RuleText] = {}
        self._chains: dict[BaseChain, None] = {}
        self._past_interfaces: list[Interface] = []
        self._losses: dict[tuple[str, str], int] = {}
        self._events = 0
        self.tracing: Tracing = "opening"

    def __enter__(self) -> Observer:
        self.open()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def open(self) -> None:
        """Subscribe to every target; when this returns, nothing that follows is missed.

        Raises OSError or CommandFailed naming the namespace.
        """
        targets, self._targets = self._targets, []
        self.add(targets)

    def close(self) -> None:
        """Give all sockets back."""
        closing = [threading.Thread(target=watched.close) for watched in self._watched.values()]
        self._watched.clear()
        # The kernel lets every packet socket wait until no processor looks at it: they can wait together.
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        self._loop.close()

    def add(self, targets: Sequence[Target]) -> None:
        """Watch further namespaces."""
        traced = [target.namespace for target in targets if target.trace]
        loading = start_loading(traced, trace_rules(self.tracing))
        for target in targets:
            watched = self._watched[target.namespace.name] = Watched(target)
            watched.readers[watched.ring.fileno()] = self._frame_reader(watched)
            if watched.trace is not None:
                watched.readers[watched.trace.fileno()] = self._trace_reader(watched, watched.trace)
            if watched.conntrack is not None:
                watched.readers[watched.conntrack.fileno()] = self._conntrack_reader(watched, watched.conntrack)
            for fd, reader in watched.readers.items():
                self._loop.register(fd, reader)
        finish_loading(loading)

    def remove(self, name: str) -> None:
        """Stop watching a namespace; what was seen in it stays."""
        watched = self._watched.pop(name, None)
        if watched is None:
            return
        self._take(watched)
        self._count_losses(watched)
        self._past_interfaces += watched.interfaces.values()
        for fd in watched.readers:
            self._loop.unregister(fd)
        watched.close()

    def trace_only(self, tracing: Tracing) -> None:
        """Change which packets are traced, in every traced namespace."""
        if tracing != self.tracing:
            self.tracing = tracing
            traced = [w.target.namespace for w in self._watched.values() if w.target.trace]
            load_rules(traced, trace_rules(self.tracing))

    def stop_tracing(self) -> None:
        """Take the rules that trace out of every namespace: nothing of the observer stays in them."""
        traced = [w.target.namespace for w in self._watched.values() if w.target.trace]
        load_rules(traced, NO_TRACE)

    # The loop

    def poll(self, timeout_s: float) -> int:
        """Handle what is there, wait at most `timeout_s` for something; the number of things handled."""
        return self._loop.poll(timeout_s)

    def run_until(self, done: Callable[[], bool], deadline_s: float, what: str) -> None:
        """Run the loop until `done()`.  Raises DeadlinePassed naming `what`."""
        self._loop.run_until(done, deadline_s, what)

    def quiesce(self, silence_s: float = 0.003, deadline_s: float = 1.0) -> None:
        """Run until nothing was seen for `silence_s`, so that a flow's last frames and events are in.

        Raises DeadlinePassed when the lab does not fall silent in `deadline_s`.
        """
        end = time.monotonic() + deadline_s
        # Silence is a whole wait without anything ready: a poll that came back early says nothing of the sockets.
        while self._loop.poll(silence_s):
            if time.monotonic() > end:
                raise DeadlinePassed(f"{silence_s * 1000:g} ms without a frame or event", deadline_s)

    def register(self, fd: int, callback: Callable[[], None], *, write: bool = False) -> None:
        """Have a socket served by the one loop."""
        self._loop.register(fd, callback, write=write)

    def unregister(self, fd: int) -> None:
        """Forget a socket; an unknown one is fine."""
        self._loop.unregister(fd)

    def fileno(self) -> int:
        """The loop's own descriptor, to nest it in another loop."""
        return self._loop.fileno()

    def on_frame(self, node: str, callback: Callable[[Frame], None]) -> Callable[[], None]:
        """Call back for each frame seen in that namespace (its number is 0 yet); returns how to stop that."""
        self._callbacks.setdefault(node, []).append(callback)
        return lambda: self._callbacks[node].remove(callback)

    # Readers

    def _frame_reader(self, watched: Watched) -> Callable[[], None]:
        node = watched.target.namespace.name
        kept = self._unnumbered
        callbacks = self._callbacks.setdefault(node, [])

        def keep(time_ns: int, index: int, packet_type: str, data: bytes, length: int) -> None:
            interface = watched.interface_name(index)
            raw = (time_ns, node, interface, packet_type, data, length)
            kept.append(raw)
            for callback in tuple(callbacks):
                callback(frame_of(0, raw))

        def read() -> None:
            self._events += watched.ring.drain(keep)

        return read

    def _trace_reader(self, watched: Watched, opened: socket.socket) -> Callable[[], None]:
        node = watched.target.namespace.name

        def read() -> None:
            for datagram in self._datagrams(opened, node, "trace"):
                now = time.time_ns()
                for message in messages(datagram):
                    event = parse_trace(message, node, now, watched.interface_name)
                    if event is not None:
                        self._events += 1
                        if event.table != TRACE_TABLE or event.network_header:
                            self._traces.append(event)

        return read

    def _conntrack_reader(self, watched: Watched, opened: socket.socket) -> Callable[[], None]:
        node = watched.target.namespace.name

        def read() -> None:
            for datagram in self._datagrams(opened, node, "conntrack"):
                now = time.time_ns()
                for message in messages(datagram):
                    event = conntrack.parse_conntrack(message, node, now)
                    if event is not None:
                        self._events += 1
                        self._conntrack.append(event)

        return read

    def _datagrams(self, opened: socket.socket, node: str, source: str) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(opened.recv(LARGEST_DATAGRAM))
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # The kernel tells that it had to drop events, not how many: count the times.
                self._losses[node, source] = self._losses.get((node, source), 0) + 1

    def _take(self, watched: Watched) -> None:
        """Read what is there without waiting."""
        for reader in watched.readers.values():
            reader()

    def _count_losses(self, watched: Watched) -> None:
        node = watched.target.namespace.name
        lost = watched.ring.lost()
        if lost:
            self._losses[node, "frames"] = self._losses.get((node, "frames"), 0) + lost

    # Evidence

    def _number(self) -> None:
        """Give numbers, in time order, to the frames that came since the last time."""
        # While one ring is read another may get an earlier frame: until a whole round brings nothing, within reason.
        for _round in range(MOST_ROUNDS):
            before = self._events
            for watched in self._watched.values():
                self._take(watched)
            if self._events == before:
                break
        self._unnumbered.sort(key=lambda raw: raw[0])
        start = len(self._frames) + 1
        self._frames += [frame_of(start + at, raw) for at, raw in enumerate(self._unnumbered)]
        self._unnumbered.clear()

    def mark(self) -> Mark:
        """Remember this point, for `evidence(since=...)`."""
        self._number()
        return Mark(len(self._frames), len(self._traces), len(self._conntrack))

    def evidence(self, since: Mark | None = None) -> Evidence:
        """All that was seen, or what was seen since a mark, in time order; rules behind the traces are looked up.

        Raises CommandFailed when the rules can't be listed.
        """
        self._number()
        start = since or Mark(0, 0, 0)
        traces = tuple(self._traces[start.traces :])
        self._resolve(traces)
        for watched in self._watched.values():
            self._count_losses(watched)
        return Evidence(
            frames=tuple(self._frames[start.frames :]),
            traces=traces,
            conntrack=tuple(self._conntrack[start.conntrack :]),
            rules=dict(self._rules),
            interfaces=tuple(self.interfaces()),
            losses=self.losses(),
            chains=tuple(self._chains),
        )

    def interfaces(self) -> list[Interface]:
        """Every interface that was known at any time."""
        present = [i for watched in self._watched.values() for i in watched.interfaces.values()]
        return [*present, *self._past_interfaces]

    def losses(self) -> tuple[Loss, ...]:
        """What could not be kept so far."""
        reasons = {"frames": "packet ring full", "trace": "netlink buffer full", "conntrack": "netlink buffer full"}
        return tuple(
            Loss(node, source, count, reasons[source])  # type: ignore[arg-type]
            for (node, source), count in sorted(self._losses.items())
        )

    def remember_rules(self, names: Sequence[str] | None = None) -> None:
        """List the rules now: call it before rules are replaced, so that traces of the old ones keep their text."""
        chosen = [
            w.target.namespace
            for name, w in self._watched.items()
            if w.target.trace and (names is None or name in names)
        ]
        rules, chains = rule_texts.snapshot(chosen)
        self._rules.update(rules)
        self._chains.update(dict.fromkeys(chains))

    def _resolve(self, traces: Sequence[TraceEvent]) -> None:
        unknown = {
            event.node
            for event in traces
            if event.handle
            and RuleId(event.node, event.family, event.table, event.chain, event.handle) not in self._rules
        }
        if unknown & set(self._watched):
            self.remember_rules(sorted(unknown))

    # Connection tracking on request

    def conntrack_entries(self, node: str) -> list[ConntrackEvent]:
        """A dump of one namespace's table."""
        return dump_conntrack(self._watched[node].target.namespace)

    def delete_conntrack(self, entry: ConntrackEvent) -> bool:
        """Delete one entry; False when it is gone already."""
        return delete_conntrack(self._watched[entry.node].target.namespace, entry)


def frame_of(number: int, raw: RawFrame) -> Frame:
    """A frame as evidence has it (pure)."""
    time_ns, node, interface, packet_type, data, length = raw
    return Frame(
        number,
        time_ns,
        node,
        interface,
        "out" if packet_type == "outgoing" else "in",
        data,
        length,
        packet_type,  # type: ignore[arg-type]
    )
