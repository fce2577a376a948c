"""What iptables-restore does with a text: in the kernel, inside a network namespace of its own, and on paper."""

import os
import subprocess
from collections.abc import Sequence

from tests.unit.dataplane.nft_kernel import environment

Ruleset = dict[tuple[str, str], list[str]]
"""The rules of each chain, in order, by table and chain."""

BUILT_IN = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}
PROGRAMS = {"IPv4": "iptables", "IPv6": "ip6tables"}


def on_paper(*texts: str) -> Ruleset:
    """The ruleset after `iptables-restore --noflush` of the texts, by the rules of iptables-restore(8).

    Raises AssertionError where iptables-restore would refuse: a jump to a chain that isn't there, the removal of a
    chain that somebody still jumps to or that has rules.
    """
    ruleset: Ruleset = {(table, name): [] for table, names in BUILT_IN.items() for name in names}
    for text in texts:
        table = ""
        for line in text.splitlines():
            words = line.split()
            if line.startswith("#"):
                continue
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith(":"):
                ruleset[table, words[0][1:]] = []
            elif words[0] in ("-A", "-I"):
                rules = ruleset[table, words[1]]
                rules.insert(len(rules) if words[0] == "-A" else 0, " ".join(words[2:]))
            elif words[0] == "-X":
                assert not ruleset.pop((table, words[1])), f"{words[1]} has rules"
            else:
                assert line == "COMMIT", line
                _check_jumps(ruleset)
    return ruleset


def _check_jumps(ruleset: Ruleset) -> None:
    for (table, name), rules in ruleset.items():
        for rule in rules:
            target = (
                rule.partition(" -j ")[2].split(" ")[0] if " -j " in rule else rule.removeprefix("-j ").split(" ")[0]
            )
            if target.startswith("KUBE-"):
                assert (table, target) in ruleset, f"{name} jumps to {target}, which is not there"


def take(text: str, family: str) -> None:
    """Raise AssertionError with iptables' words when it does not take the text (`iptables-restore --test`)."""
    _run(f'printf %s "$1" | {PROGRAMS[family]}-restore --noflush --test', (text,))


def saved(family: str, *texts: str) -> list[str]:
    """`iptables-save` after the texts were loaded one after the other, without comments and counters."""
    program = PROGRAMS[family]
    script = f'for text in "$@"; do printf %s "$text" | {program}-restore --noflush; done; {program}-save'
    return [line.split(" [")[0] for line in _run(script, texts).splitlines() if not line.startswith("#")]


def listing(text: str) -> dict[str, list[str]]:
    """`iptables -t nat -nL` after the text was loaded: each chain's heading, then its rules with single blanks."""
    chains: dict[str, list[str]] = {}
    for block in _run('printf %s "$1" | iptables-restore --noflush; iptables -t nat -nL', (text,)).split("\n\n"):
        heading, _, *rules = block.strip().splitlines()
        chains[heading.split()[1]] = [heading, *(" ".join(rule.split()) for rule in rules)]
    return chains


def _run(script: str, texts: Sequence[str]) -> str:
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    argv = ["unshare", "--net", *user, "sh", "-e", "-c", script, "sh", *texts]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout
