"""Pieces of nginx.conf, each from one setting or one location: names, matches, canaries, cross-origin headers.

`hoplab.ingress.nginx` puts them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hoplab.ingress.rules import ANY_HOST, Location
from hoplab.ingress.settings import Cors
from hoplab.ingress.words import quoted


def indented(lines: Sequence[str]) -> list[str]:
    """Lines of a block, one level deeper."""
    return [f"    {line}" if line else "" for line in lines]


def canary_maps(location: Location, number: int, stable: str) -> Iterator[str]:
    """The variable $canary_N: which upstream a request of this location gets, by header, else cookie, else share."""
    rule, canary = location.canary_of, location.canary
    assert canary is not None
    name = f"$canary_{number}"
    share = min(100.0, 100.0 * rule.weight / rule.total)
    if 0 < share < 100:
        yield f'split_clients "$request_id" {name}_share {{ {share:.2f}% 1; * 0; }}'
    else:
        yield f"map $host {name}_share {{ default {int(share >= 100)}; }}"
    cookie = f"$cookie_{rule.cookie}" if rule.cookie else "$host$host"
    yield f"map {cookie} {name}_cookie {{ always 1; never 0; default {name}_share; }}"
    header = f"$http_{rule.header.lower().replace('-', '_')}" if rule.header else "$host$host"
    if rule.header_value:
        cases = f"{quoted(rule.header_value)} 1;"
    elif rule.header_pattern:
        cases = f"{quoted('~' + rule.header_pattern)} 1;"
    else:
        cases = "always 1; never 0;"
    yield f"map {header} {name}_chosen {{ {cases} default {name}_cookie; }}"
    yield f"map {name}_chosen {name} {{ 1 {canary.upstream}; default {stable}; }}"


def server_name(host: str) -> str:
    """A host as nginx' server_name: a wildcard stands for exactly one label, which nginx' own wildcard does not."""
    if host == ANY_HOST:
        return ANY_HOST
    if host.startswith("*."):
        return quoted(rf"~^[^.]+\.{literal(host[2:])}$")
    return host


def heads(location: Location, others: Sequence[Location]) -> list[str]:
    """What follows the word `location`: two where the type Prefix needs two."""
    path = location.path
    if location.kind == "regex":
        return [f"~* {quoted('^' + path)}"]
    if location.kind == "exact":
        return [f"= {quoted(path)}"]
    if location.kind == "start":
        return [quoted(path)]
    taken = {(each.kind, each.path) for each in others}
    heads = [] if ("start", f"{path}/") in taken else [quoted(f"{path}/")]
    return heads if ("exact", path) in taken else [f"= {quoted(path)}", *heads]


def with_error_pages(locations: Sequence[Location]) -> list[Location]:
    """One location for each backend whose errors get pages."""
    return list({each.backend.upstream: each for each in locations if each.settings.custom_http_errors}.values())


def upstream_name(location: Location) -> str:
    """Backends of Ingresses with different ways of choosing an endpoint can't share an upstream."""
    name = location.backend.upstream
    special = location.settings.cookie or location.settings.upstream_hash_by or location.settings.service_upstream
    return f"{name}-{plain_name(location.ingress)}" if special else name


def plain_name(text: str) -> str:
    """A name of letters, digits and _ for nginx' variables and named locations."""
    return "".join(letter if letter.isalnum() else "_" for letter in text)


def zone(location: Location) -> str:
    """Beginning of the names of an Ingress' zones of memory, in which its limits count."""
    return f"limit_{plain_name(location.ingress)}"


def literal(text: str) -> str:
    """Text as a regular expression that matches just it."""
    return "".join(f"\\{letter}" if letter in r"\.^$*+?{}[]|()" else letter for letter in text)


def switch(on: bool) -> str:
    """nginx' word for it."""
    return "on" if on else "off"


def doubled(size: str) -> str:
    """Twice a size, in its own unit."""
    number = size.rstrip("kKmMgG")
    return f"{2 * int(number)}{size[len(number) :]}"


def cors_headers(cors: Cors) -> Iterator[str]:
    """What tells browsers which other origins may ask, and the answer to their asking beforehand (OPTIONS)."""
    told = {
        "Access-Control-Allow-Origin": cors.origin,
        "Access-Control-Allow-Methods": cors.methods,
        "Access-Control-Allow-Headers": cors.headers,
        "Access-Control-Max-Age": str(cors.max_age),
    }
    if cors.credentials:
        told["Access-Control-Allow-Credentials"] = "true"
    if cors.expose:
        told["Access-Control-Expose-Headers"] = cors.expose
    headers = [f"add_header {name} {quoted(value)} always;" for name, value in told.items()]
    yield "if ($request_method = OPTIONS) {"
    yield from indented([*headers, "add_header Content-Length 0;", "return 204;"])
    yield "}"
    yield from headers
