"""What the kernel holds after nft transactions, in a network namespace of its own, in an order that can be compared."""

import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any


def loaded(*texts: str) -> dict[str, list[Any]]:
    """Load the transactions one after the other; give chains with their rules in order, sets with sorted elements."""
    return parsed(
        _nft('for text in "$@"; do printf %s "$text" | nft -f -; done; nft --json --stateless list ruleset', texts)
    )


def parsed(listing: str) -> dict[str, list[Any]]:
    """What `nft --json --stateless list ruleset` prints, as `loaded` gives it."""
    ruleset: dict[str, list[Any]] = {}
    for item in json.loads(listing)["nftables"]:
        ((kind, thing),) = item.items()
        if kind == "metainfo":
            continue
        thing.pop("handle", None)
        if kind == "rule":
            ruleset[f"chain {thing['family']} {thing['table']} {thing['chain']}"].append(thing)
            continue
        if kind in ("set", "map"):
            thing["elem"] = sorted(thing.get("elem", ()), key=json.dumps)
        ruleset[f"{kind} {thing['family']} {thing.get('table', '')} {thing['name']}"] = [thing]
    return ruleset


def check(text: str) -> None:
    """Raise AssertionError with nft's words when it does not take the text (`nft -c -f`)."""
    _nft('printf %s "$1" | nft -c -f -', (text,))


def environment() -> dict[str, str]:
    """This process' environment with the places of nft and sysctl, which an ordinary user's PATH may lack."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


def _nft(script: str, texts: Sequence[str]) -> str:
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    argv = ["unshare", "--net", *user, "sh", "-e", "-c", script, "sh", *texts]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout
