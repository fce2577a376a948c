"""Mininet's prompt in a process of its own, while the lab's loop goes on working.

The prompt waits for its user and knows no loop, so it gets a fork of the lab's process:
Mininet's objects are there as they were built, and the namespaces behind them are the
lab's.  On a terminal it becomes the foreground's process group, so that Ctrl-C ends
what was typed at the prompt and not the lab (tcsetpgrp(3), termios(3)).
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from hoplab.net import kernel
from hoplab.net.forking import fork, leave_ctrl_c_to_the_parent
from hoplab.net.machines import LabNet


class Prompt:
    """A prompt that opens when it is told to.  Make it before threads start: no fork takes those along."""

    def __init__(self, net: LabNet) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        heard, self._told = os.pipe2(os.O_CLOEXEC)
        self.pid = fork(leave_ctrl_c_to_the_parent)
        if self.pid == 0:
            os.close(self._told)
            _run(net, heard)
        os.close(heard)
        self._ended = os.pidfd_open(self.pid)

    def open(self, greeting: str) -> None:
        """Show the prompt."""
        os.write(self._told, greeting.encode())
        os.close(self._told)

    def fileno(self) -> int:
        """Readable when the user has left the prompt."""
        return self._ended


def _run(net: LabNet, heard: int) -> NoReturn:
    kernel.die_with_parent(signal.SIGKILL)
    greeting = b""
    while piece := os.read(heard, 4096):
        greeting += piece
    if not greeting:
        os._exit(0)
    # A stopped prompt could not be gone on with: the shell knows only of the command that waits for the lab.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    _take_terminal()
    for machine in (*net.hosts, *net.switches):
        machine.reopen_netlink()
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print(greeting.decode(), flush=True)
        from mininet.cli import CLI

        CLI(net)
        sys.stdout.flush()
    finally:
        os._exit(0)


def _take_terminal() -> None:
    if not os.isatty(0):
        return
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpgrp())


def greeting(address: str) -> str:
    """What a user is told who comes to the prompt; `address`: something that the client can ask."""
    asking = f", client curl -s {address}" if address else ""
    return f"The lab stays until you leave with exit or Ctrl-D. Try: nodes, node1 ip a, pingall{asking}"
