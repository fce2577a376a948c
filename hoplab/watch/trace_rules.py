"""The rules that switch tracing on: the kernel then tells every rule that a marked packet meets.

A packet is traced from the moment that a rule sets its `nftrace` bit, through all tables, those of
iptables-nft among them; marks do not cross the border of a namespace, so each has the table of its
own.  Rules are loaded in many namespaces at the same time: each load is a program that mostly waits.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Literal

from hoplab.net.namespaces import CommandFailed, Namespace

TRACE_TABLE = "hoplab_watch"
NO_TRACE = f"table inet {TRACE_TABLE} {{}}\ndelete table inet {TRACE_TABLE}\n"
"""The nft text that takes tracing away, whether or not it is there."""
Tracing = Literal["all", "opening"]
Loading = tuple[Namespace, subprocess.Popen[str]]


def trace_rules(tracing: Tracing) -> str:
    """The nft text that switches tracing on in one namespace (pure).

    "opening": only packets that open or refuse something (TCP SYN and RST, and all
    that is not TCP), which are the ones that rules decide on; the rest of a connection
    follows its conntrack entry.  "all" is for lessons about that rest.
    """
    wanted = {
        "all": ["meta nftrace set 1"],
        "opening": ["tcp flags & (syn | rst) != 0 meta nftrace set 1", "meta l4proto != tcp meta nftrace set 1"],
    }[tracing]
    rules = "".join(f"\t\t{rule}\n" for rule in wanted)
    chains = "".join(
        f"\tchain {hook} {{\n\t\ttype filter hook {hook} priority -400; policy accept;\n{rules}\t}}\n"
        for hook in ("prerouting", "output")
    )
    return f"{NO_TRACE}table inet {TRACE_TABLE} {{\n{chains}}}\n"


def start_loading(namespaces: Sequence[Namespace], text: str) -> list[Loading]:
    """Have this nft text loaded in each namespace; `finish_loading` waits for it."""
    started = []
    for ns in namespaces:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = ns.popen(["nft", "-f", "-"], **pipes)
        if process.stdin is not None:
            process.stdin.write(text)
            process.stdin.close()
            process.stdin = None
        started.append((ns, process))
    return started


def finish_loading(started: Sequence[Loading]) -> None:
    """Wait until they are loaded.  Raises CommandFailed naming the namespace."""
    for ns, process in started:
        output, _ = process.communicate(timeout=30)
        if process.returncode != 0:
            raise CommandFailed(ns.name, ["nft", "-f", "-"], process.returncode, output)


def load_rules(namespaces: Sequence[Namespace], text: str) -> None:
    """Load this nft text in each namespace, in all at the same time.  Raises CommandFailed."""
    finish_loading(start_loading(namespaces, text))
