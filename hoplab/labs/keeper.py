"""The process that keeps a lab: holds its folder's lock, opens its doors, and waits outside the sandbox for its end.

In the foreground the keeper is the command itself; detached it is a process of its own
session, without a terminal, whose words go to the lab's log until somebody asks.
Killing the keeper, in whatever way, ends the lab: the sandbox dies with its parent.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from hoplab.api import certificates
from hoplab.errors import CannotRunHere
from hoplab.labs import channel, state
from hoplab.labs.inside import READY, Doors, Plan, live
from hoplab.net import sandbox
from hoplab.net.forking import ENDINGS, end_by_default, held_back

HERE = "127.0.0.1"
Guard = Callable[[Callable[[], int]], int]
"""Runs something and turns every ending into an exit code and at most one message."""


def up(plan: Plan, guard: Guard) -> int:
    """Start a lab with a prompt and keep it until its user leaves; its exit code."""
    claim = state.claim(plan.name)
    return _keep(claim, plan, guard, ready=-1)


def up_detached(plan: Plan, guard: Guard) -> int:
    """Start a lab that stays behind, and return when it is ready; else say what it said, and its exit code."""
    claim = state.claim(plan.name)
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    log = os.open(state.LOG, flags, 0o600, dir_fd=claim.folder)
    heard, told = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    keeper = 0
    try:
        # Whoever interrupts this has to find the keeper known.
        with held_back():
            keeper = os.fork()
            if keeper == 0:
                os.close(heard)
                _become_keeper(log)
        if keeper == 0:
            code = 1
            try:
                code = guard(lambda: _keep(claim, plan, guard, ready=told))
            finally:
                os._exit(code)
        os.close(told)
        # The keeper holds the lock now, and it alone.
        os.close(claim.folder)
        with os.fdopen(heard, "rb") as pipe:
            ready = pipe.readline() == READY
        code = 0 if ready else os.waitstatus_to_exitcode(os.waitpid(keeper, 0)[1])
    except KeyboardInterrupt:
        if keeper:
            # It may have ended and been waited for already.
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(keeper, signal.SIGTERM)
                os.waitpid(keeper, 0)
        raise
    finally:
        with os.fdopen(os.dup(log), "rb") as words:
            words.seek(0)
            sys.stderr.write(words.read().decode(errors="replace"))
            sys.stderr.flush()
        os.close(log)
    return code if code >= 0 else 1


def _become_keeper(log: int) -> None:
    os.setsid()
    # What the caller's shell had ignored, or made an exception of, is none of the lab's.
    end_by_default(*ENDINGS)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, place in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, place)
    os.close(nothing)
    os.chdir("/")


def _on_loopback() -> socket.socket:
    """A listening socket that only this machine reaches, on a port that nobody has."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.bind((HERE, 0))
    opened.listen(128)
    return opened


def _keep(claim: state.Claim, plan: Plan, guard: Guard, *, ready: int) -> int:
    try:
        control, api = channel.listen(claim.folder, state.CONTROL), _on_loopback()
        identity = certificates.make(plan.name)
        port = api.getsockname()[1]
        claim.write(state.KUBECONFIG, certificates.kubeconfig(identity, plan.name, port))
        facts = state.Facts(
            plan.name, plan.options.topology, os.getpid(), time.time(), plan.files, {"api": f"{HERE}:{port}"}
        )
        claim.write_facts(facts)
        doors = Doors(control, api, identity, ready, prompt=ready < 0)

        def inside() -> int:
            # Whoever asks whether the lab lives asks for its keeper.
            os.close(claim.folder)
            return guard(lambda: live(plan, doors))

        try:
            return sandbox.run(inside)
        except sandbox.SandboxRefused as error:
            raise CannotRunHere(str(error)) from error
    finally:
        claim.release()
