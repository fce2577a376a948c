"""`lab.py addons`: parts of a running lab's cluster that are switched on and off."""

from __future__ import annotations

import click

from hoplab.cli.choices import lab_option


@click.group()
def addons() -> None:
    """List the addons of a running lab, or switch one on or off."""


@addons.command("list")
@lab_option
def list_(name: str | None) -> int:
    """Each addon, and whether it is enabled."""
    for addon, enabled in _asked(name, "list", ""):
        click.echo(f"- {addon}: {'enabled' if enabled else 'disabled'}")
    return 0


@addons.command()
@click.argument("addon")
@lab_option
def enable(addon: str, name: str | None) -> int:
    """Bring ADDON into the cluster; returns when it serves."""
    _asked(name, "enable", addon)
    click.echo(f"{addon} was successfully enabled")
    return 0


@addons.command()
@click.argument("addon")
@lab_option
def disable(addon: str, name: str | None) -> int:
    """Take ADDON out of the cluster."""
    _asked(name, "disable", addon)
    click.echo(f"{addon} was successfully disabled")
    return 0


def _asked(lab: str | None, action: str, addon: str) -> list[tuple[str, bool]]:
    from hoplab.labs import asking
    from hoplab.labs.protocol import Addons

    message, _descriptors = asking.answer(asking.ask(lab, Addons(action, addon)))
    return [(str(each), bool(enabled)) for each, enabled in message["addons"]]
