"""`lab.py kubectl` and `lab.py kubeconfig`: the real kubectl against a running lab."""

from __future__ import annotations

import os
import sys

import click

from hoplab.cli.choices import lab_option
from hoplab.errors import CannotRunHere

SETTINGS = {"allow_interspersed_args": False, "ignore_unknown_options": True}
"""--name LAB and --help are ours where they come first, all else is kubectl's."""


@click.command()
@lab_option
def kubeconfig(name: str | None) -> int:
    """The path of a running lab's kubeconfig: export KUBECONFIG=$(lab.py kubeconfig)"""
    click.echo(_path(name))
    return 0


@click.command(context_settings=SETTINGS)
@lab_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def kubectl(arguments: tuple[str, ...], name: str | None) -> int:
    """kubectl itself, against a running lab: lab.py kubectl get pods -o wide

    Its exit code is this command's.  Where several labs are running, --name LAB comes first.  `lab.py kubectl help`
    shows kubectl's own help.
    """
    from hoplab.setup.programs import find

    found = find("kubectl")
    if found is None:
        raise CannotRunHere("there is no kubectl on this machine; `python3 lab.py --setup` unpacks one")
    environment = {**os.environ, **found.environment(), "KUBECONFIG": _path(name)}
    sys.stdout.flush()
    os.execve(found.path, [found.path, *arguments], environment)


def _path(name: str | None) -> str:
    from hoplab.labs import state

    return str(state.root() / state.choose(name) / state.KUBECONFIG)
