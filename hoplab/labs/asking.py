"""The caller's side of a running lab: find it, ask it, end it."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from hoplab.errors import CannotRunHere, HoplabError, InputError
from hoplab.labs import channel, state
from hoplab.labs.channel import Channel, LabGone
from hoplab.labs.protocol import Down, Request, to_message

OPENS_WITHIN_S = 3.0
"""How long a lab that begins may take until it can be spoken to."""
LOOK_AGAIN_S = 0.01
"""Nothing tells that a socket has come to be but asking for it."""
ENDS_WITHIN_S = 2.0
"""How long a lab may take to end when it is asked to, before its keeper is told by signals."""


def ask(name: str | None, request: Request, descriptors: Sequence[int] = ()) -> Channel:
    """Send a request to a lab (None: the only one); its answers come on the channel.

    Raises InputError when there is no such lab, LabGone when it went meanwhile.
    """
    opened = channel.connect(state.root() / state.choose(name) / state.CONTROL)
    opened.send(to_message(request), descriptors)
    return opened


def answer(opened: Channel) -> tuple[dict[str, Any], list[int]]:
    """The next answer.  Raises what the lab refused (InputError for exit code 2, and so on), LabGone."""
    message, descriptors = opened.receive()
    if "error" in message and "exit" not in message:
        _raise(str(message["error"]), int(message.get("code", 1)))
    return message, descriptors


def _raise(text: str, code: int) -> NoReturn:
    for kind in (InputError, CannotRunHere):
        if kind.exit_code == code:
            raise kind(text)
    raise HoplabError(text)


def down(name: str) -> None:
    """End a lab, and return when nothing of it is left.  Raises HoplabError when it does not end."""
    opened = _reached(name)
    if opened is None:
        return
    try:
        keeper = os.pidfd_open(opened.peer()[0])
    except ProcessLookupError:
        opened.close()
        state.alive()
        return
    try:
        opened.send(to_message(Down()))
        if not _ended(keeper, ENDS_WITHIN_S):
            # It is busy, or hangs: its keeper insists, by itself, after a grace.
            signal.pidfd_send_signal(keeper, signal.SIGTERM)
            if not _ended(keeper, ENDS_WITHIN_S):
                signal.pidfd_send_signal(keeper, signal.SIGKILL)
                if not _ended(keeper, ENDS_WITHIN_S):
                    raise HoplabError(
                        f"the lab {name} does not end: its keeper, process {opened.peer()[0]}, survives SIGKILL"
                    )
    except (LabGone, ProcessLookupError):
        _ended(keeper, ENDS_WITHIN_S)
    finally:
        os.close(keeper)
        opened.close()
    state.alive()


def _reached(name: str) -> Channel | None:
    """A channel to a lab, None when the lab has gone.  One that just begins has its folder before it has a socket.

    Raises HoplabError when the lab lives and does not answer.
    """
    end = time.monotonic() + OPENS_WITHIN_S
    while True:
        try:
            return channel.connect(state.root() / name / state.CONTROL)
        except LabGone as error:
            if name not in state.alive():
                return None
            if time.monotonic() >= end:
                facts = state.facts(name)
                known = f" Its keeper is process {facts.keeper}: ending that ends the lab." if facts else ""
                raise HoplabError(f"the lab {name} runs and can't be asked to end: {error}.{known}") from error
        _meanwhile(state.facts(name))


def _meanwhile(facts: state.Facts | None) -> None:
    """Wait for the end of the keeper, where it is known by now, but no longer than until it is time to look again."""
    try:
        keepers = [os.pidfd_open(facts.keeper)] if facts else []
    except ProcessLookupError:
        return
    try:
        select.select(keepers, [], [], LOOK_AGAIN_S)
    finally:
        for keeper in keepers:
            os.close(keeper)


def _ended(keeper: int, within_s: float) -> bool:
    poll = select.poll()
    poll.register(keeper, select.POLLIN)
    return bool(poll.poll(within_s * 1000))
