"""Watches on the wire: `kubectl get -w`, tables, bookmarks, a beginning with what is there, an end in time."""

import json
import ssl
import threading
import time
import urllib.request

import pytest

from tests.lab.api.rig import PATIENCE_S, Rig, kubectl_path, kubectls

CM = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with Rig(tmp_path_factory.mktemp("api"), living=False) as made:
        yield made


def ask(rig, method, path, body=None, accept="application/json"):
    request = urllib.request.Request(f"https://127.0.0.1:{rig.port}{path}", method=method)
    request.add_header("Authorization", f"Bearer {rig.identity.token}")
    request.add_header("Accept", accept)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    context = ssl.create_default_context(cadata=rig.identity.authority.decode())
    return urllib.request.urlopen(request, timeout=PATIENCE_S, context=context)


def make(rig, name, **labels):
    metadata = {"name": name, "labels": labels}
    ask(rig, "POST", CM, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}).read()


def events(stream):
    for line in stream:
        event = json.loads(line)
        yield event["type"], event["object"]


@pytest.mark.needs("kubectl")
@pytest.mark.parametrize("which", kubectls())
def test_kubectl_get_w_shows_each_change_as_it_comes(rig, which):
    watching = rig.start(kubectl_path(which), "get", "cm", "-w", "-l", f"of={which}", "--no-headers")
    listed = threading.Event()

    def write():
        # The first comes with kubectl's list or with its watch, whichever is later; the others with the watch.
        for number in range(4):
            make(rig, f"{which}-{number}", of=which)
            assert number or listed.wait(PATIENCE_S)

    writing = threading.Thread(target=write)
    writing.start()
    seen = []
    for _ in range(4):
        seen.append(watching.stdout.readline().split()[0])
        listed.set()
    writing.join(PATIENCE_S)
    watching.kill()
    watching.wait(PATIENCE_S)
    assert seen == [f"{which}-{n}" for n in range(4)]


def test_a_watch_that_begins_with_what_is_there_says_when_it_told_that(rig):
    make(rig, "there", of="initial")
    path = f"{CM}?watch=1&labelSelector=of%3Dinitial&sendInitialEvents=true&allowWatchBookmarks=true"
    with ask(rig, "GET", f"{path}&resourceVersionMatch=NotOlderThan&timeoutSeconds=20") as stream:
        told = events(stream)
        kind, found = next(told)
        assert (kind, found["metadata"]["name"]) == ("ADDED", "there")
        kind, mark = next(told)
        assert (kind, mark["kind"]) == ("BOOKMARK", "ConfigMap")
        assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert int(mark["metadata"]["resourceVersion"]) >= int(found["metadata"]["resourceVersion"])
        make(rig, "new", of="initial")
        assert next(told)[1]["metadata"]["name"] == "new"


def test_a_table_that_is_watched_has_its_columns_once(rig):
    with ask(rig, "GET", f"{CM}?watch=1&labelSelector=of%3Dtable&timeoutSeconds=20", accept=TABLE) as stream:
        told = events(stream)
        for number in range(2):
            make(rig, f"t{number}", of="table")
            kind, table = next(told)
            assert (kind, table["kind"], table["rows"][0]["cells"][:2]) == ("ADDED", "Table", [f"t{number}", 0])
            assert bool(table["columnDefinitions"]) is (number == 0)


def test_metadata_alone_is_enough_for_some(rig):
    make(rig, "m", of="metadata")
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    listed = json.load(ask(rig, "GET", f"{CM}?labelSelector=of%3Dmetadata", accept=accept))
    assert listed["kind"] == "PartialObjectMetadataList"
    assert set(listed["items"][0]) == {"kind", "apiVersion", "metadata"}


def test_a_watch_ends_when_its_time_is_over(rig):
    began = time.monotonic()
    with ask(rig, "GET", f"{CM}?watch=1&resourceVersion={rig.store.version}&timeoutSeconds=1") as stream:
        assert stream.read() == b""
    assert 0.9 < time.monotonic() - began < PATIENCE_S


def test_aggregated_discovery_is_asked_for_and_not_sent_twice(rig):
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    answer = ask(rig, "GET", "/apis", accept=accept)
    assert answer.headers["Content-Type"].startswith("application/json;g=apidiscovery.k8s.io;v=v2")
    document = json.load(answer)
    assert document["items"][0]["metadata"]["name"] == "events.k8s.io"
    request = urllib.request.Request(f"https://127.0.0.1:{rig.port}/apis")
    for name, value in (("Accept", accept), ("If-None-Match", answer.headers["ETag"])):
        request.add_header(name, value)
    request.add_header("Authorization", f"Bearer {rig.identity.token}")
    context = ssl.create_default_context(cadata=rig.identity.authority.decode())
    with pytest.raises(urllib.error.HTTPError) as unchanged:
        urllib.request.urlopen(request, timeout=PATIENCE_S, context=context)
    assert unchanged.value.code == 304
