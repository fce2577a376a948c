"""What each kind of pod answers, and that its configuration survives the way to its process."""

from __future__ import annotations

import json

import pytest

from hoplab.net.podconfig import Listener, ServerConfig, wrong_source_rules
from hoplab.net.podhttp import Request, RequestReader, Response
from hoplab.net.podpages import Identity, Style, answer, datagram

D = Identity("d", "shop", "node2", "docker.io/library/nginx:1.12")
LOCAL, CLIENT = ("10.1.2.4", 80), ("10.240.0.11", 40123)


def request(target: str, method: str = "GET", body: bytes = b"") -> Request:
    reader = RequestReader()
    reader.feed(f"{method} {target} HTTP/1.1\r\nUser-Agent: t\r\nHost: web:30080\r\n".encode())
    reader.feed(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    found = reader.next_request()
    assert found is not None
    return found


def page(style: Style, target: str, method: str = "GET", body: bytes = b"") -> Response:
    return answer(D, style, request(target, method, body), LOCAL, CLIENT)


def test_whoami_says_who_answers_and_whom_it_saw() -> None:
    told = json.loads(page("whoami", "/any/path?token=p1.7", "POST", b"x").body)
    assert told == {
        "pod": "d",
        "namespace": "shop",
        "node": "node2",
        "ip": "10.1.2.4",
        "port": 80,
        "client": "10.240.0.11:40123",
        "method": "POST",
        "path": "/any/path",
        "host": "web:30080",
        "headers": {"user-agent": "t", "host": "web:30080", "content-length": "1"},
        "token": "p1.7",
        "body": "x",
    }


@pytest.mark.parametrize("style", ["whoami", "nginx", "echoserver"])
def test_every_style_names_pod_and_client_in_its_headers(style: Style) -> None:
    headers = dict(page(style, "/").headers)
    assert headers["X-Hoplab-Pod"] == "d"
    assert headers["X-Hoplab-Client"] == "10.240.0.11:40123"


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/healthz", 200, b"ok\n"),
        ("/hostname", 200, b"d"),
        ("/clientip", 200, b"10.240.0.11:40123"),
        ("/echo?msg=hi&code=418", 418, b"hi"),
        ("/status/503", 503, b""),
        ("/status/999", 400, b"a status is a number from 200 to 599\n"),
        ("/bytes/5", 200, b"01234"),
        ("/bytes/x", 400, b"a size is a number from 0 to 16777216\n"),
        ("/slow?ms=-1", 400, b"ms must be a number from 0 to 60000\n"),
    ],
)
def test_paths_that_network_tests_ask_for(target: str, status: int, body: bytes) -> None:
    response = page("whoami", target)
    assert (response.status, response.body) == (status, body)


def test_a_slow_page_is_answered_late() -> None:
    assert page("whoami", "/slow?ms=250").delay_s == 0.25


def test_nginx_welcomes_with_the_pods_name_and_knows_no_other_page() -> None:
    welcome = page("nginx", "/")
    assert welcome.status == 200
    assert b"<h1>Welcome to nginx!</h1>" in welcome.body
    assert b"shop/d on node2, 10.1.2.4:80, answers 10.240.0.11:40123" in welcome.body
    assert ("Server", "nginx/1.12") in welcome.headers
    assert page("nginx", "/welcome").status == 404
    assert page("nginx", "/", "DELETE").status == 405


def test_echoserver_prints_what_the_image_prints() -> None:
    assert page("echoserver", "/a?b=1").body == (
        b"CLIENT VALUES:\nclient_address=10.240.0.11\ncommand=GET\nreal path=/a?b=1\nquery=b=1\n"
        b"request_version=1.1\nrequest_uri=http://web:80/a?b=1\n\n"
        b"SERVER VALUES:\nserver_version=nginx: 1.10.0 - lua: 10001\n\n"
        b"HEADERS RECEIVED:\ncontent-length=0\nhost=web:30080\nuser-agent=t\nBODY:\n-no body in request-"
    )
    assert b"query=nil\n" in page("echoserver", "/").body
    assert page("echoserver", "/", "POST", b"foobar").body.endswith(b"BODY:\nfoobar")


def test_a_datagram_is_answered_with_its_payload() -> None:
    line = datagram(D, b"p1.7", ("fd00::4", 53), ("fd00::1", 40001))
    assert line.endswith(b"\n")
    told = json.loads(line)
    assert (told["pod"], told["client"], told["echo"]) == ("d", "[fd00::1]:40001", "p1.7")


def test_the_answer_to_a_long_datagram_still_fits_a_frame() -> None:
    line = datagram(D, b"p1.7" + b"." * 60_000, LOCAL, CLIENT)
    assert len(line) < 1200
    told = json.loads(line)
    assert (told["bytes"], told["echo"][:6]) == (60_004, "p1.7..")


def test_a_configuration_survives_json() -> None:
    config = ServerConfig("d", (Listener(80), Listener(53, "UDP", "10.1.2.4")), style="nginx", fault="reset")
    assert ServerConfig.from_mapping(json.loads(json.dumps(config.to_mapping()))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"style": "apache"}, "pod d: style 'apache' is none of whoami, nginx, echoserver, defaultbackend"),
        ({"fault": "explode"}, "pod d: fault 'explode' is none of silent, close, reset"),
        ({"listeners": [{"port": 70000}]}, "pod d: port 70000 is not between 1 and 65535"),
        ({"listeners": [{"port": 80, "protocol": "DCCP"}]}, "pod d: protocol 'DCCP' is none of TCP, UDP, SCTP"),
    ],
)
def test_an_impossible_configuration_says_what_is_wrong(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match="pod d") as caught:
        ServerConfig.from_mapping({"pod": "d", "listeners": [{"port": 80}], **change})
    assert str(caught.value) == message


def test_the_wrong_source_is_written_in_the_addresses_own_family() -> None:
    assert "ip saddr 10.1.2.4 ip saddr set 10.1.2.99" in wrong_source_rules("10.1.2.4", "10.1.2.99")
    assert "ip6 saddr fd00::4 ip6 saddr set fd00::99" in wrong_source_rules("fd00::4", "fd00::99")
