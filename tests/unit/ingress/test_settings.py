"""What an annotation may say, what it comes to, and that one which can't be is told and left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.ingress.nginx import quoted, write
from hoplab.ingress.rules import Options
from hoplab.ingress.settings import OLD_PREFIX, PREFIX, Global, Settings, global_settings, known, settings
from tests.unit.ingress.build import ingress, plan


def read(**annotations: str) -> tuple[Settings, tuple[str, ...]]:
    named = {f"{PREFIX}{name.replace('_', '-')}": text for name, text in annotations.items()}
    return settings(named, Settings(), "Ingress default/one", "default")


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("rewrite-target", "/$2", "rewrite_target", "/$2"),
        ("use-regex", "true", "use_regex", True),
        ("app-root", "/start", "app_root", "/start"),
        ("ssl-redirect", "false", "ssl_redirect", False),
        ("force-ssl-redirect", "True", "force_ssl_redirect", True),
        ("permanent-redirect", "https://b.example/x", "permanent_redirect", "https://b.example/x"),
        ("permanent-redirect-code", "308", "permanent_redirect_code", 308),
        ("proxy-body-size", "8m", "proxy_body_size", "8m"),
        ("proxy-connect-timeout", "1", "proxy_connect_timeout", 1),
        ("proxy-read-timeout", "30s", "proxy_read_timeout", 30),
        ("proxy-buffering", "on", "proxy_buffering", True),
        ("whitelist-source-range", "203.0.113.0/24, 10.0.0.1", "allowed_sources", ("203.0.113.0/24", "10.0.0.1/32")),
        ("backend-protocol", "https", "backend_protocol", "HTTPS"),
        ("upstream-hash-by", "$request_uri", "upstream_hash_by", "$request_uri"),
        ("custom-http-errors", "404,503", "custom_http_errors", (404, 503)),
        ("limit-rps", "5", "limit_rps", 5),
        ("proxy-next-upstream", "error http_502", "proxy_next_upstream", "error http_502"),
        ("server-alias", "b.example,c.example", "server_alias", ("b.example", "c.example")),
    ],
)
def test_each_comes_to_its_setting(name, text, field, value):
    made, warnings = read(**{name: text})
    assert warnings == ()
    assert getattr(made, field) == value


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("proxy-body-size", "8 m", "a size such as 8m"),
        ("proxy-connect-timeout", "0", "a number from 1 to 86400"),
        ("use-regex", "yes", "true or false"),
        ("whitelist-source-range", "10.0.0.0/33", "addresses and networks"),
        ("rewrite-target", "/x; deny all", "a path that begins with /"),
        ("permanent-redirect", 'https://x"; } server {', "a URL"),
        ("backend-protocol", "GRPC", "one of HTTP, HTTPS; the lab's controller has no other"),
        ("custom-http-errors", "200", "a number from 300 to 599"),
        ("upstream-vhost", "x; y", "text and nginx variables"),
        ("proxy-next-upstream", "sometimes", "some of error"),
        ("cors-allow-origin", "a.example", "* or one origin"),
    ],
)
def test_what_it_can_not_be_is_told_and_left_out(name, text, expected):
    made, (warning,) = read(**{name: text})
    assert made == Settings()
    assert warning.startswith(f"Ingress default/one: annotation {PREFIX}{name}: expected {expected}")
    assert warning.endswith("it is left out")


def test_an_annotation_that_the_lab_does_not_know_is_told():
    made, (warning,) = read(mirror_target="x")
    assert made == Settings()
    assert f"annotation {PREFIX}mirror-target: the lab's controller does not know this annotation" in warning


def test_annotations_of_others_are_none_of_its_business():
    assert settings({"example.com/x": "y", "kubernetes.io/ingress.class": "nginx"}, Settings(), "w", "d")[1] == ()


def test_the_old_prefix_is_taken_and_the_new_one_wins():
    both = {
        f"{OLD_PREFIX}rewrite-target": "/old",
        f"{PREFIX}proxy-body-size": "2m",
        f"{OLD_PREFIX}proxy-body-size": "1m",
    }
    made, warnings = settings(both, Settings(), "w", "default")
    assert warnings == ()
    assert (made.rewrite_target, made.old_rewrite, made.proxy_body_size) == ("/old", True, "2m")
    assert not settings({f"{PREFIX}rewrite-target": "/new"}, Settings(), "w", "default")[0].old_rewrite


def test_affinity_is_a_cookie_or_nothing():
    assert read(affinity="cookie")[0].cookie == "INGRESSCOOKIE"
    assert read(affinity="cookie", **{"session-cookie-name": "route"})[0].cookie == "route"
    made, (warning,) = read(affinity="ip")
    assert (made.cookie, "expected cookie, found 'ip'" in warning) == ("", True)


def test_passwords_come_from_a_secret_of_the_same_namespace_unless_it_says_another():
    wanted = {"auth-type": "basic", "auth-secret": "users"}
    assert read(**wanted)[0].auth_secret == "default/users"
    assert read(**{**wanted, "auth-secret": "other/users"})[0].auth_secret == "other/users"
    assert "auth-type basic" in read(**{**wanted, "auth-type": "digest"})[1][0]


def test_the_config_map_sets_for_all_and_an_annotation_for_one():
    shared, warnings = global_settings(
        {"proxy-connect-timeout": "9", "server-tokens": "true", "hsts": "false", "worker-processes": "4"}, "ConfigMap x"
    )
    assert (shared.location.proxy_connect_timeout, shared.server_tokens, shared.hsts) == (9, True, False)
    assert len(warnings) == 1
    assert warnings[0].startswith("ConfigMap x: worker-processes: the lab's controller does not know this setting")
    own, _ = settings({f"{PREFIX}proxy-connect-timeout": "2"}, shared.location, "w", "default")
    assert own.proxy_connect_timeout == 2


def test_what_is_known_is_what_the_documentation_lists():
    with open("docs/ingress.md", encoding="utf-8") as file:
        document = file.read()
    annotations, keys = known()
    assert [name for name in (*annotations, *keys) if f"`{name}`" not in document] == []


@given(st.sampled_from(known()[0]), st.text(max_size=40))
def test_no_value_breaks_out_of_its_place(name, text):
    """Whatever an annotation says, the text for nginx stays balanced; snippets are nginx' own text and are tried."""
    if "snippet" in name:
        return
    made, _warnings = settings({f"{PREFIX}{name}": text, f"{PREFIX}affinity": "cookie"}, Settings(), "w", "default")
    base = plan(ingress("Prefix /a web:80"))
    host = base.hosts[1]
    location = type(host.locations[0])(**{**_fields(host.locations[0]), "settings": made})
    changed = type(base)(
        **{**_fields(base), "hosts": (base.hosts[0], type(host)(**{**_fields(host), "locations": (location,)}))}
    )
    outside = write(changed, Options(), Global()).config
    assert _balanced(outside)


def _fields(value):
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _balanced(text: str) -> bool:
    """Whether braces match once quoted words are taken out, as nginx reads them."""
    depth, quote, escaped = 0, "", False
    for letter in text:
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "{}":
            depth += 1 if letter == "{" else -1
            if depth < 0:
                return False
    return depth == 0 and not quote


@pytest.mark.parametrize(
    ("text", "expected"), [("/a b", '"/a b"'), ('/"x', '"/\\"x"'), (r"/\d+", '"/\\\\d+"'), ("/a\nb", '"/a b"')]
)
def test_a_word_with_anything_in_it_is_one_word(text, expected):
    assert quoted(text) == expected
