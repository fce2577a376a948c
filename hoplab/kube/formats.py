"""Names, labels, addresses and ports: is a text one, and if not, what does the API server say.

Each function returns the API server's complaints about one value, none when it is good;
`invalid` and its sisters put a complaint into the words of a field error.  Source:
apimachinery's pkg/util/validation and pkg/util/validation/field/errors.go.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from hoplab.kube.problems import Path

Finding = tuple[Path, str]
"""path, message"""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

REQUIRED = "Required value"
PROTOCOLS = ("SCTP", "TCP", "UDP")

_LABEL_FORM = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_FORM = rf"{_LABEL_FORM}(\.{_LABEL_FORM})*"
_LABEL_1035_FORM = "[a-z]([-a-z0-9]*[a-z0-9])?"
_NAME_FORM = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_CONFIG_KEY_FORM = "[-._a-zA-Z0-9]+"
_LABEL = re.compile(_LABEL_FORM + r"\Z")
_SUBDOMAIN = re.compile(_SUBDOMAIN_FORM + r"\Z")
_LABEL_1035 = re.compile(_LABEL_1035_FORM + r"\Z")
_QUALIFIED = re.compile(_NAME_FORM + r"\Z")
_LABEL_VALUE = re.compile(rf"({_NAME_FORM})?\Z")
_PORT_NAME = re.compile(r"[-a-z0-9]+\Z")
_CONFIG_KEY = re.compile(_CONFIG_KEY_FORM + r"\Z")
_ENV_NAME = re.compile(r"[\x20-\x3c\x3e-\x7e]+\Z")


def _say(what: str, form: str, *examples: str) -> str:
    """The API server's complaint about a text that a pattern does not take (RegexError)."""
    listed = " or ".join(f"'{each}', " for each in examples)
    return f"{what} (e.g. {listed}regex used for validation is '{form}')"


SAY_LABEL = _say(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end"
    " with an alphanumeric character",
    *(_LABEL_FORM, "my-name", "123-abc"),
)
SAY_SUBDOMAIN = _say(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start"
    " and end with an alphanumeric character",
    *(_SUBDOMAIN_FORM, "example.com"),
)
SAY_1035 = _say(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character,"
    " and end with an alphanumeric character",
    *(_LABEL_1035_FORM, "my-name", "abc-123"),
)
SAY_NAME = _say(
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    *(_NAME_FORM, "MyName", "my.name", "123-abc"),
)
SAY_LABEL_VALUE = _say(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character",
    *(f"({_NAME_FORM})?", "MyValue", "my_value", "12345"),
)
SAY_CONFIG_KEY = _say(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    *(_CONFIG_KEY_FORM, "key.name", "KEY_NAME", "key-name"),
)
SAY_WILDCARD = _say(
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower"
    " case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
    *(rf"\*\.{_SUBDOMAIN_FORM}", "*.example.com"),
)
SAY_PERCENT = _say("a valid percent string must be a numeric string followed by an ending '%'", "[0-9]+%", "1%", "93%")
SAY_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
SAY_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
SAY_PORT = "must be between 1 and 65535, inclusive"


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def invalid(value: Any, why: str) -> str:
    """The API server's words for a value that it does not take."""
    return f"Invalid value: {_shown(value)}: {why}"


def unsupported(value: Any, allowed: Collection[str]) -> str:
    """The API server's words for a value that is none of the known ones."""
    listed = ", ".join(f'"{each}"' for each in sorted(allowed))
    return f"Unsupported value: {_shown(value)}: supported values: {listed}"


def duplicate(value: Any) -> str:
    """The API server's words for a value that must stand once only."""
    return f"Duplicate value: {_shown(value)}"


def forbidden(why: str) -> str:
    """The API server's words for a field that must not be there."""
    return f"Forbidden: {why}"


def too_many(number: int, most: int) -> str:
    """The API server's words for a list that is too long."""
    return f"Too many: {number}: must have at most {most} items"


def too_long(most: int) -> str:
    """The API server's words for a text, or all of a map, that has too many bytes."""
    return f"Too long: may not be more than {most} bytes"


def _name(value: str, pattern: re.Pattern[str], longest: int, say: str) -> list[str]:
    complaints = [f"must be no more than {longest} characters"] if len(value) > longest else []
    return complaints if pattern.match(value) else [*complaints, say]


def dns_label(value: str) -> list[str]:
    """RFC 1123 label: namespaces, port names of Services, host names."""
    if len(value) <= 63 and "." in value and _SUBDOMAIN.match(value):
        return ["must not contain dots"]
    return _name(value, _LABEL, 63, SAY_LABEL)


def dns_subdomain(value: str) -> list[str]:
    """RFC 1123 subdomain: the names of most objects."""
    return _name(value, _SUBDOMAIN, 253, SAY_SUBDOMAIN)


def dns_1035_label(value: str) -> list[str]:
    """RFC 1035 label: a Service's name, which becomes one in the cluster's DNS."""
    return _name(value, _LABEL_1035, 63, SAY_1035)


def domain_name(value: str) -> list[str]:
    """A fully qualified domain name: two labels at least, a dot may end it."""
    name = value.removesuffix(".")
    if complaints := dns_subdomain(name):
        return complaints
    if "." not in name:
        return ["should be a domain with at least two segments separated by dots"]
    return [complaint for label in name.split(".") for complaint in dns_label(label)]


def qualified_name(value: str) -> list[str]:
    """[prefix/]name: keys of labels, application protocols, finalizers."""
    prefix, slash, name = value.rpartition("/")
    if "/" in prefix:
        return [
            f"a qualified name {SAY_NAME} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    complaints = []
    if slash:
        complaints = [f"prefix part {each}" for each in (dns_subdomain(prefix) if prefix else ["must be non-empty"])]
    if not name:
        complaints.append("name part must be non-empty")
    elif len(name) > 63:
        complaints.append("name part must be no more than 63 characters")
    return complaints if _QUALIFIED.match(name) else [*complaints, f"name part {SAY_NAME}"]


def label_value(value: str) -> list[str]:
    """A label's value."""
    return _name(value, _LABEL_VALUE, 63, SAY_LABEL_VALUE)


def port_name(value: str) -> list[str]:
    """A container port's name (RFC 6335 service name, lower case)."""
    complaints = ["must be no more than 15 characters"] if len(value) > 15 else []
    if not _PORT_NAME.match(value):
        complaints.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= letter <= "z" for letter in value):
        complaints.append("must contain at least one letter (a-z)")
    if "--" in value:
        complaints.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        complaints.append("must not begin or end with a hyphen")
    return complaints


def config_key(value: str) -> list[str]:
    """A key of a ConfigMap or Secret; it may become a file's name."""
    complaints = _name(value, _CONFIG_KEY, 253, SAY_CONFIG_KEY)
    if value in (".", ".."):
        return [*complaints, f"must not be '{value}'"]
    return [*complaints, "must not start with '..'"] if value.startswith("..") else complaints


def env_name(value: str) -> list[str]:
    """An environment variable's name."""
    if not value:
        return ["environment variable name must be non-empty"]
    if _ENV_NAME.match(value):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def port_number(value: int) -> list[str]:
    """A port, 0 excluded."""
    return [] if 1 <= value <= 65535 else [SAY_PORT]


def port_number_or_name(value: int | str) -> list[str]:
    """A target port: a number, or a container port's name."""
    return port_name(value) if isinstance(value, str) else port_number(value)


def parsed_ip(value: str) -> Address | None:
    """The address, None when the text is none; a zone (%eth0) and leading zeros are no part of one."""
    try:
        return None if "%" in value else ipaddress.ip_address(value)
    except ValueError:
        return None


def parsed_cidr(value: str) -> Network | None:
    """The network, None when the text is none; host bits may be set, as Go's ParseCIDR has it."""
    _address, slash, length = value.partition("/")
    if not slash or not length.isdecimal() or "%" in value:
        return None
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        return None


def ip(value: str) -> list[str]:
    """An IP address of either family."""
    return [] if parsed_ip(value) else [SAY_IP]


def cidr(value: str) -> list[str]:
    """A network of either family."""
    return [] if parsed_cidr(value) else [SAY_CIDR]


def unspecial_ip(value: str) -> list[str]:
    """An address that an endpoint or a Service's external IP may have (ValidateNonSpecialIP)."""
    address = parsed_ip(value)
    if address is None:
        return [SAY_IP]
    complaints = []
    if address.is_unspecified:
        complaints.append(f"may not be unspecified ({value})")
    if address.is_loopback:
        complaints.append("may not be in the loopback range (127.0.0.0/8, ::1/128)")
    if address.is_link_local:
        complaints.append("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    if address.packed[:3] == b"\xe0\0\0" or address.packed[:2] == b"\xff\x02":
        complaints.append("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
    return complaints


def each_invalid(path: Path, value: Any, complaints: Sequence[str]) -> Iterator[Finding]:
    """A finding for each complaint about the value of a field."""
    for complaint in complaints:
        yield path, invalid(value, complaint)


def enum(path: Path, value: Any, allowed: Collection[str]) -> Iterator[Finding]:
    """A finding when a value that was given (not None, not empty) is none of those that are allowed."""
    if value not in (None, "") and value not in allowed:
        yield path, unsupported(value, allowed)


def not_negative(path: Path, value: int | None) -> Iterator[Finding]:
    """A finding when a number that was given is below zero."""
    if value is not None and value < 0:
        yield path, invalid(value, "must be greater than or equal to 0")


def labels(value: Mapping[str, str] | None, path: Path) -> Iterator[Finding]:
    """Keys and values of labels, selectors and node selectors."""
    for key, text in (value or {}).items():
        yield from each_invalid((*path, key), key, qualified_name(key))
        yield from each_invalid((*path, key), text, label_value(text or ""))
