"""Settings of an Ingress' locations: from annotations, over those of the controller's ConfigMap, over the defaults.

An annotation is text that somebody wrote, and all of it would end in nginx.conf; so each
value is parsed to what it may be (a number, a size, a network, ...), and one that is not
is told and left out, as ingress-nginx does.  What this table does not have is told, too:
an annotation that silently does nothing costs a day.

Source: the ingress-nginx user guide, "Annotations" and "ConfigMap"; names and defaults are theirs.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

PREFIX = "nginx.ingress.kubernetes.io/"
OLD_PREFIX = "ingress.kubernetes.io/"
"""Until version 0.9 of the controller (2017); its rewrite-target meant something else (see `Settings.old_rewrite`)."""
CLASS = "kubernetes.io/ingress.class"


@dataclass(frozen=True, slots=True)
class Cors:
    """Cross-origin requests that a location allows."""

    enabled: bool = False
    origin: str = "*"
    methods: str = "GET, PUT, POST, DELETE, PATCH, OPTIONS"
    headers: str = (
        "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization"
    )
    expose: str = ""
    credentials: bool = True
    max_age: int = 1728000


@dataclass(frozen=True, slots=True)
class Canary:
    """Which requests of a path another Ingress' backend gets instead: by header, else by cookie, else by share."""

    enabled: bool = False
    weight: int = 0
    total: int = 100
    header: str = ""
    header_value: str = ""
    """The value that means it; '' for `always` (and `never` for the opposite)."""
    header_pattern: str = ""
    cookie: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a location treats requests.  Times are seconds, sizes as nginx writes them."""

    rewrite_target: str = ""
    old_rewrite: bool = False
    """Of 2017: the path is taken off the URI, and the target put in its place; since 0.22 it replaces the whole URI."""
    use_regex: bool = False
    app_root: str = ""
    ssl_redirect: bool = True
    force_ssl_redirect: bool = False
    permanent_redirect: str = ""
    permanent_redirect_code: int = 301
    temporal_redirect: str = ""
    proxy_body_size: str = "1m"
    proxy_connect_timeout: int = 5
    proxy_send_timeout: int = 60
    proxy_read_timeout: int = 60
    proxy_buffer_size: str = "4k"
    proxy_buffering: bool = False
    proxy_request_buffering: bool = True
    proxy_next_upstream: str = "error timeout"
    proxy_next_upstream_tries: int = 3
    proxy_next_upstream_timeout: int = 0
    allowed_sources: tuple[str, ...] = ()
    denied_sources: tuple[str, ...] = ()
    backend_protocol: str = "HTTP"
    service_upstream: bool = False
    upstream_vhost: str = ""
    upstream_hash_by: str = ""
    cookie: str = ""
    """Name of the cookie by which a client stays with its endpoint; '' for no affinity."""
    cookie_path: str = "/"
    cookie_max_age: int = 0
    cors: Cors = field(default_factory=Cors)
    canary: Canary = field(default_factory=Canary)
    custom_http_errors: tuple[int, ...] = ()
    limit_rps: int = 0
    limit_rpm: int = 0
    limit_connections: int = 0
    limit_burst_multiplier: int = 5
    limit_rate: int = 0
    auth_secret: str = ""
    """NAMESPACE/NAME of a Secret with a file of users under its key `auth`; '' for no password."""
    auth_realm: str = "Authentication Required"
    x_forwarded_prefix: str = ""
    server_alias: tuple[str, ...] = ()
    configuration_snippet: str = ""
    server_snippet: str = ""
    access_log: bool = True

    @property
    def rewrites(self) -> bool:
        """Whether paths of its host have to be regular expressions for it."""
        return bool(self.rewrite_target) and not self.old_rewrite


@dataclass(frozen=True, slots=True)
class Global:
    """What the controller's ConfigMap sets for all hosts."""

    location: Settings = field(default_factory=Settings)
    use_forwarded_headers: bool = False
    compute_full_forwarded_for: bool = False
    use_proxy_protocol: bool = False
    proxy_real_ip_cidr: tuple[str, ...] = ("0.0.0.0/0", "::/0")
    forwarded_for_header: str = "X-Forwarded-For"
    hsts: bool = True
    hsts_max_age: int = 31536000
    hsts_include_subdomains: bool = True
    server_tokens: bool = False
    keep_alive: int = 75
    upstream_keepalive_connections: int = 0
    """ingress-nginx keeps 320 open; here each request opens its own, so that its packets can be told from others'."""
    use_gzip: bool = False
    http_snippet: str = ""


class BadValue(ValueError):
    """A value is not what it may be; str() says what was expected."""


def _boolean(text: str) -> bool:
    # strconv.ParseBool
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise BadValue("true or false")


def _number(least: int, most: int = 1 << 31) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,10}", text) or not least <= int(text) <= most:
            raise BadValue(f"a number from {least} to {most}" if most < 1 << 31 else f"a number, {least} or more")
        return int(text)

    return parse


def _seconds(text: str) -> int:
    return _number(1, 86400)(text.removesuffix("s"))


def _size(text: str) -> str:
    if not re.fullmatch(r"\d+[kKmMgG]?", text):
        raise BadValue("a size such as 8m, 64k or 1024")
    return text


def _networks(text: str) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_network(each.strip(), strict=False)) for each in text.split(",") if each.strip())
    except ValueError as error:
        raise BadValue(f"addresses and networks with commas between them ({error})") from error


def _word(pattern: str, what: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise BadValue(what)
        return text

    return parse


_URI = _word(r"/[^\s;{}\"\\]*", "a path that begins with / and has no spaces, quotes, semicolons or braces")
_URL = _word(r"(https?://|/|\$)[^\s;{}\"\\]+", "a URL")
_PLAIN = _word(r"[^;{}\"\\\r\n]+", "text without quotes, semicolons, braces and backslashes")
_VARIABLES = _word(r"[\w$.:/-]+", "text and nginx variables, such as $request_uri")
_COOKIE = _word(r"[A-Za-z0-9_]+", "letters, digits and _")
_HOST = _word(r"[A-Za-z0-9.-]+", "a host name")


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.upper() not in words:
            raise BadValue(f"one of {', '.join(words)}; the lab's controller has no other")
        return text.upper()

    return parse


def _hosts(text: str) -> tuple[str, ...]:
    return tuple(_HOST(each.strip()) for each in text.split(",") if each.strip())


def _codes(text: str) -> tuple[int, ...]:
    return tuple(_number(300, 599)(each.strip()) for each in text.split(",") if each.strip())


def _next_upstream(text: str) -> str:
    known = {"error", "timeout", "invalid_header", "non_idempotent", "off"} | {
        f"http_{code}" for code in (500, 502, 503, 504, 403, 404, 429)
    }
    if not text.split() or set(text.split()) - known:
        raise BadValue(f"some of {', '.join(sorted(known))}")
    return " ".join(text.split())


def _on_off(text: str) -> bool:
    if text not in ("on", "off"):
        raise BadValue("on or off")
    return text == "on"


def _snippet(text: str) -> str:
    # Whoever writes it may write anything; nginx itself is asked whether it is sound before it is used.
    return text.strip()


LOCATION: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "rewrite-target": ("rewrite_target", _URI),
    "use-regex": ("use_regex", _boolean),
    "app-root": ("app_root", _URI),
    "ssl-redirect": ("ssl_redirect", _boolean),
    "force-ssl-redirect": ("force_ssl_redirect", _boolean),
    "permanent-redirect": ("permanent_redirect", _URL),
    "permanent-redirect-code": ("permanent_redirect_code", _number(300, 308)),
    "temporal-redirect": ("temporal_redirect", _URL),
    "proxy-body-size": ("proxy_body_size", _size),
    "proxy-connect-timeout": ("proxy_connect_timeout", _seconds),
    "proxy-send-timeout": ("proxy_send_timeout", _seconds),
    "proxy-read-timeout": ("proxy_read_timeout", _seconds),
    "proxy-buffer-size": ("proxy_buffer_size", _size),
    "proxy-buffering": ("proxy_buffering", _on_off),
    "proxy-request-buffering": ("proxy_request_buffering", _on_off),
    "proxy-next-upstream": ("proxy_next_upstream", _next_upstream),
    "proxy-next-upstream-tries": ("proxy_next_upstream_tries", _number(0)),
    "proxy-next-upstream-timeout": ("proxy_next_upstream_timeout", _number(0)),
    "whitelist-source-range": ("allowed_sources", _networks),
    "allowlist-source-range": ("allowed_sources", _networks),
    "denylist-source-range": ("denied_sources", _networks),
    "backend-protocol": ("backend_protocol", _one_of("HTTP", "HTTPS")),
    "service-upstream": ("service_upstream", _boolean),
    "upstream-vhost": ("upstream_vhost", _VARIABLES),
    "upstream-hash-by": ("upstream_hash_by", _VARIABLES),
    "custom-http-errors": ("custom_http_errors", _codes),
    "limit-rps": ("limit_rps", _number(1)),
    "limit-rpm": ("limit_rpm", _number(1)),
    "limit-connections": ("limit_connections", _number(1)),
    "limit-burst-multiplier": ("limit_burst_multiplier", _number(1)),
    "limit-rate": ("limit_rate", _number(1)),
    "auth-realm": ("auth_realm", _PLAIN),
    "x-forwarded-prefix": ("x_forwarded_prefix", _URI),
    "server-alias": ("server_alias", _hosts),
    "configuration-snippet": ("configuration_snippet", _snippet),
    "server-snippet": ("server_snippet", _snippet),
    "enable-access-log": ("access_log", _boolean),
}
"""Annotation -> field of Settings, and how its value is read."""

CORS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "enable-cors": ("enabled", _boolean),
    "cors-allow-origin": ("origin", _word(r"\*|https?://[^\s,;\"\\{}]+", "* or one origin such as https://a.example")),
    "cors-allow-methods": ("methods", _word(r"[A-Za-z, ]+", "methods with commas between them")),
    "cors-allow-headers": ("headers", _word(r"[\w, -]+", "header names with commas between them")),
    "cors-expose-headers": ("expose", _word(r"[\w, *-]+", "header names with commas between them")),
    "cors-allow-credentials": ("credentials", _boolean),
    "cors-max-age": ("max_age", _number(1)),
}
CANARY: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "canary": ("enabled", _boolean),
    "canary-weight": ("weight", _number(0)),
    "canary-weight-total": ("total", _number(1)),
    "canary-by-header": ("header", _word(r"[A-Za-z0-9-]+", "a header's name")),
    "canary-by-header-value": ("header_value", _PLAIN),
    "canary-by-header-pattern": ("header_pattern", _PLAIN),
    "canary-by-cookie": ("cookie", _COOKIE),
}
COOKIE: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "session-cookie-name": ("cookie", _COOKIE),
    "session-cookie-path": ("cookie_path", _URI),
    "session-cookie-max-age": ("cookie_max_age", _number(0)),
}
"""They count together with `affinity: cookie`."""

GLOBAL: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "use-forwarded-headers": ("use_forwarded_headers", _boolean),
    "compute-full-forwarded-for": ("compute_full_forwarded_for", _boolean),
    "use-proxy-protocol": ("use_proxy_protocol", _boolean),
    "proxy-real-ip-cidr": ("proxy_real_ip_cidr", _networks),
    "forwarded-for-header": ("forwarded_for_header", _word(r"[\w-]+", "a header's name")),
    "hsts": ("hsts", _boolean),
    "hsts-max-age": ("hsts_max_age", _number(0)),
    "hsts-include-subdomains": ("hsts_include_subdomains", _boolean),
    "server-tokens": ("server_tokens", _boolean),
    "keep-alive": ("keep_alive", _number(0)),
    "upstream-keepalive-connections": ("upstream_keepalive_connections", _number(0)),
    "use-gzip": ("use_gzip", _boolean),
    "http-snippet": ("http_snippet", _snippet),
}
GLOBAL_LOCATION = (
    *("ssl-redirect", "force-ssl-redirect", "proxy-body-size", "proxy-connect-timeout", "proxy-send-timeout"),
    *("proxy-read-timeout", "proxy-buffer-size", "proxy-next-upstream", "proxy-next-upstream-tries"),
    *("proxy-next-upstream-timeout", "whitelist-source-range", "denylist-source-range", "custom-http-errors"),
    *("limit-rate", "server-snippet"),
)
"""Keys of the ConfigMap that set for all what an annotation sets for one."""


def global_settings(data: Mapping[str, str], where: str) -> tuple[Global, tuple[str, ...]]:
    """The controller's ConfigMap read, and what is wrong with it (pure).  `where` names it in the warnings."""
    warnings: list[str] = []
    own: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    for key, text in data.items():
        if key == "location-snippet":
            shared["configuration_snippet"] = text.strip()
        elif key in GLOBAL:
            _take(own, GLOBAL, key, text, f"{where}: {key}", warnings)
        elif key in GLOBAL_LOCATION:
            _take(shared, LOCATION, key, text, f"{where}: {key}", warnings)
        else:
            warnings.append(
                f"{where}: {key}: the lab's controller does not know this setting; docs/ingress.md lists them"
            )
    return Global(location=replace(Settings(), **shared), **own), tuple(warnings)


def settings(
    annotations: Mapping[str, str], base: Settings, where: str, namespace: str
) -> tuple[Settings, tuple[str, ...]]:
    """The annotations of an Ingress read over `base`, and what is wrong with them (pure)."""
    warnings: list[str] = []
    found: dict[str, Any] = {}
    cors: dict[str, Any] = {}
    cookie: dict[str, Any] = {}
    canary: dict[str, Any] = {}
    # The newer prefix wins where both are given.
    named = {
        full.removeprefix(prefix): (full, text)
        for prefix in (OLD_PREFIX, PREFIX)
        for full, text in annotations.items()
        if full.startswith(prefix)
    }
    affinity = named.pop("affinity", ("", ""))[1]
    named.pop("affinity-mode", None)
    auth = {key: named.pop(key, ("", ""))[1] for key in ("auth-type", "auth-secret", "auth-secret-type")}
    for name, (full, text) in named.items():
        place = f"{where}: annotation {full}"
        if name in LOCATION:
            _take(found, LOCATION, name, text, place, warnings)
            if name == "rewrite-target":
                found["old_rewrite"] = full.startswith(OLD_PREFIX)
        elif name in CORS:
            _take(cors, CORS, name, text, place, warnings)
        elif name in COOKIE:
            _take(cookie, COOKIE, name, text, place, warnings)
        elif name in CANARY:
            _take(canary, CANARY, name, text, place, warnings)
        elif name == "secure-backends":
            found["backend_protocol"] = "HTTPS" if text == "true" else "HTTP"
        else:
            warnings.append(f"{place}: the lab's controller does not know this annotation; docs/ingress.md lists them")
    if affinity == "cookie":
        found |= {"cookie": "INGRESSCOOKIE", **cookie}
    elif affinity:
        warnings.append(f"{where}: annotation {PREFIX}affinity: expected cookie, found {affinity!r}")
    if auth["auth-type"] == "basic" and auth["auth-secret"] and auth["auth-secret-type"] in ("", "auth-file"):
        secret = auth["auth-secret"]
        found["auth_secret"] = secret if "/" in secret else f"{namespace}/{secret}"
    elif any(auth.values()):
        warnings.append(
            f"{where}: of password checks the lab's controller knows auth-type basic with auth-secret (a file of users)"
        )
    if canary:
        found["canary"] = replace(base.canary, **canary)
    if cors:
        found["cors"] = replace(base.cors, **cors)
    return replace(base, **found), tuple(warnings)


def _take(
    into: dict[str, Any],
    table: Mapping[str, tuple[str, Callable[[str], Any]]],
    key: str,
    text: str,
    place: str,
    warnings: list[str],
) -> None:
    name, parse = table[key]
    try:
        into[name] = parse(text if parse is _snippet else text.strip())
    except BadValue as error:
        warnings.append(f"{place}: expected {error}, found {text!r}; it is left out")


def known() -> tuple[list[str], list[str]]:
    """Every annotation and every key of the ConfigMap that is understood: what docs/ingress.md lists."""
    annotations = [*LOCATION, *CORS, *CANARY, *COOKIE, "affinity", "auth-type", "auth-secret", "auth-secret-type"]
    return sorted(annotations), sorted((*GLOBAL, *GLOBAL_LOCATION, "location-snippet"))
