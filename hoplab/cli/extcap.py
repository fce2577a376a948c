"""`lab.py extcap`: what Wireshark's extcap folder calls (see hoplab.labs.extcap).

Standard output belongs to Wireshark; what it should show a user goes to standard error,
with an exit code that is not 0.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

import hoplab
from hoplab.errors import HoplabError, InputError
from hoplab.labs import extcap

NO_FILTER = 'hoplab takes every frame: use a display filter instead, say: frame.interface_name contains "node1"'


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--extcap-interfaces", "list_interfaces", is_flag=True)
@click.option("--extcap-version", is_flag=False, flag_value="")
@click.option("--extcap-interface", "value")
@click.option("--extcap-dlts", "list_dlts", is_flag=True)
@click.option("--extcap-config", "list_settings", is_flag=True)
@click.option("--extcap-capture-filter", "capture_filter", is_flag=False, flag_value="", default="")
@click.option("--capture", is_flag=True)
@click.option("--fifo", type=click.Path(path_type=Path))
@click.option("--places", default="", help="The setting of hoplab.labs.extcap.SETTINGS.")
@click.argument("unknown", nargs=-1)
def command(
    list_interfaces: bool,
    value: str | None,
    list_dlts: bool,
    list_settings: bool,
    capture_filter: str,
    capture: bool,
    fifo: Path | None,
    places: str,
    **_later: Any,
) -> int:
    """Called by Wireshark: lists the interfaces of running labs, and captures from one."""
    if list_interfaces:
        click.echo("\n".join(extcap.interfaces(_labs(), hoplab.__version__)))
        return 0
    if value is None:
        raise InputError("this is called by Wireshark; `lab.py capture` is for people")
    one = extcap.meant(value)
    if list_dlts:
        click.echo(extcap.ETHERNET)
    elif list_settings:
        click.echo("\n".join(extcap.settings(one)))
    elif capture:
        if fifo is None:
            raise InputError("--capture: expected --fifo FILE")
        if capture_filter:
            raise InputError(NO_FILTER)
        return _capture(one, fifo, tuple(places.split()))
    elif capture_filter:
        # What is said here is what is wrong with the filter.
        click.echo(NO_FILTER)
    return 0


def _labs() -> dict[str, list[tuple[str, str]]]:
    """Interfaces of every running lab of this user; one that ends meanwhile is left out."""
    from hoplab.labs import asking, state
    from hoplab.labs.protocol import Interfaces

    found = {}
    for name in state.alive():
        try:
            opened = asking.ask(name, Interfaces())
            opened.timeout(1.0)
            answer, _descriptors = asking.answer(opened)
            opened.close()
        except (HoplabError, TimeoutError):
            continue
        found[name] = [(each["node"], each["name"]) for each in answer["interfaces"]]
    return found


def _capture(one: extcap.Meant, fifo: Path, places: tuple[str, ...]) -> int:
    from hoplab.cli.endings import say
    from hoplab.labs import asking
    from hoplab.labs.capturing import Tap, record
    from hoplab.labs.protocol import Capture

    targets, namespace = one.target
    tap = Tap(asking.ask(one.lab, Capture(targets or places, namespace)))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: tap.stop())
    try:
        with open(fifo, "wb") as sink:
            record(tap, sink, only=one.interface)
    except BrokenPipeError:
        # Wireshark's red button.
        return 0
    except OSError as error:
        raise InputError(f"--fifo {fifo}: {error.strerror}") from error
    for place, lost in tap.lost().items():
        say(f"{lost} frames in {place} found no room and are missing")
    return 0
