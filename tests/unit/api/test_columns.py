"""What `kubectl get` shows: columns and cells of each kind, as the real printers have them."""

from datetime import UTC, datetime, timedelta

import pytest

from hoplab.api import columns, pod_columns, tables
from hoplab.api.ages import age, duration
from hoplab.api.resources import CURRENT, of_kind
from hoplab.api.status import ApiError

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
DAY, YEAR = 86400, 365 * 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((-5, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (599, "9m59s")),
        *((600, "10m"), (10799, "179m"), (10800, "3h"), (3 * 3600 + 60, "3h1m"), (8 * 3600, "8h"), (47 * 3600, "47h")),
        *((2 * DAY, "2d"), (2 * DAY + 3600, "2d1h"), (8 * DAY, "8d"), (729 * DAY, "729d"), (2 * YEAR, "2y")),
        *((2 * YEAR + DAY, "2y1d"), (9 * YEAR + DAY, "9y")),
    ],
)
def test_ages_have_two_units_while_the_first_is_small(seconds, text):
    assert duration(seconds) == text


def test_a_time_that_is_none_is_unknown():
    assert age(None, NOW) == "<unknown>"
    assert age("nonsense", NOW) == "<unknown>"
    assert age("2026-01-02T11:59:00Z", NOW) == "60s"


def row(kind, document):
    resource = of_kind(kind)
    metadata = {"name": "x", "creationTimestamp": "2026-01-02T11:59:00Z", **document.pop("metadata", {})}
    document = {"kind": kind, "apiVersion": resource.group_version, "metadata": metadata, **document}
    made = tables.table([document], resource, {}, "v1", "None", NOW)
    names = [each["name"] for each in made["columnDefinitions"]]
    assert len(names) == len(made["rows"][0]["cells"])
    return dict(zip(names, made["rows"][0]["cells"], strict=True))


@pytest.mark.parametrize("resource", [each for each in CURRENT if not each.virtual], ids=lambda each: each.qualified)
def test_an_empty_object_of_every_kind_has_a_row(resource):
    head = {"kind": resource.kind, "apiVersion": resource.group_version, "metadata": {"name": "x"}}
    made = tables.table([head], resource, {}, "v1", "Metadata", NOW)
    assert len(made["rows"][0]["cells"]) == len(made["columnDefinitions"])


@pytest.mark.parametrize(
    ("spec", "status", "external"),
    [
        ({"type": "ClusterIP"}, {}, "<none>"),
        ({"type": "ClusterIP", "externalIPs": ["192.0.2.1"]}, {}, "192.0.2.1"),
        ({"type": "LoadBalancer"}, {}, "<pending>"),
        ({"type": "LoadBalancer"}, {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}}, "198.51.100.1"),
        ({"type": "ExternalName", "externalName": "example.com"}, {}, "example.com"),
    ],
)
def test_external_addresses_of_services(spec, status, external):
    assert row("Service", {"spec": spec, "status": status})["External-IP"] == external


def test_ports_of_services():
    ports = [{"port": 80, "nodePort": 32261, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]
    assert row("Service", {"spec": {"ports": ports, "clusterIP": "10.0.0.1"}})["Port(s)"] == "80:32261/TCP,53/UDP"
    assert row("Service", {"spec": {"clusterIP": "None"}}) | {"Cluster-IP": "None", "Port(s)": "<none>"} == row(
        "Service", {"spec": {"clusterIP": "None"}}
    )


def test_endpoints_are_shortened_after_three():
    addresses = [{"ip": f"10.1.0.{n}"} for n in range(4, 9)]
    found = row("Endpoints", {"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]})
    assert found["Endpoints"] == "10.1.0.4:80,10.1.0.5:80,10.1.0.6:80 + 2 more..."
    assert row("Endpoints", {})["Endpoints"] == "<none>"
    endpoints = [{"addresses": ["10.1.0.4"]}]
    found = row("EndpointSlice", {"addressType": "IPv4", "endpoints": endpoints, "ports": []})
    assert (found["Ports"], found["Endpoints"]) == ("<unset>", "10.1.0.4")


def test_nodes_have_states_and_roles():
    labels = {"node-role.kubernetes.io/control-plane": "", "node-role.kubernetes.io/a": ""}
    ready = [{"type": "Ready", "status": "False"}]
    found = row(
        "Node", {"metadata": {"labels": labels}, "spec": {"unschedulable": True}, "status": {"conditions": ready}}
    )
    assert (found["Status"], found["Roles"]) == ("NotReady,SchedulingDisabled", "a,control-plane")
    assert row("Node", {})["Status"] == "Unknown"


def pod(status, spec=None, **metadata):
    given = {"containers": [{"name": "c"}], **(spec or {})}
    document = {"metadata": {"name": "p", **metadata}, "spec": given, "status": status}
    names = [each.name for each in pod_columns.COLUMNS]
    return dict(zip(names, pod_columns.cells(document, NOW), strict=True))


def container(state, *, ready=False, restarts=0, last=None, name="c"):
    return {"name": name, "ready": ready, "restartCount": restarts, "state": state, "lastState": last or {}}


@pytest.mark.parametrize(
    ("status", "word", "ready"),
    [
        ({"phase": "Pending"}, "Pending", "0/1"),
        ({"phase": "Running", "containerStatuses": [container({"running": {}}, ready=True)]}, "Running", "1/1"),
        ({"phase": "Running", "containerStatuses": [container({"running": {}})]}, "Running", "0/1"),
        ({"phase": "Pending", "containerStatuses": [container({"waiting": {"reason": "ContainerCreating"}})]},
         "ContainerCreating", "0/1"),
        ({"phase": "Running", "containerStatuses": [container({"waiting": {"reason": "CrashLoopBackOff"}})]},
         "CrashLoopBackOff", "0/1"),
        ({"phase": "Succeeded",
          "containerStatuses": [container({"terminated": {"exitCode": 0, "reason": "Completed"}})]},
         "Completed", "0/1"),
        ({"phase": "Failed", "containerStatuses": [container({"terminated": {"exitCode": 3}})]}, "ExitCode:3", "0/1"),
        ({"phase": "Failed", "containerStatuses": [container({"terminated": {"exitCode": 137, "signal": 9}})]},
         "Signal:9", "0/1"),
        ({"phase": "Failed", "reason": "Evicted"}, "Evicted", "0/1"),
        ({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]},
         "SchedulingGated", "0/1"),
    ],
)  # fmt: skip
def test_the_states_of_a_pod_become_one_word(status, word, ready):
    found = pod(status)
    assert (found["Status"], found["Ready"]) == (word, ready)


def test_init_containers_come_first():
    spec = {"initContainers": [{"name": "i"}, {"name": "j"}]}
    working = {"phase": "Pending", "initContainerStatuses": [container({"running": {}}, name="i")]}
    assert pod(working, spec)["Status"] == "Init:0/2"
    failed = {"phase": "Pending", "initContainerStatuses": [container({"terminated": {"exitCode": 1}}, name="i")]}
    assert pod(failed, spec)["Status"] == "Init:ExitCode:1"


def test_a_pod_that_is_deleted_is_terminating():
    assert pod({"phase": "Running"}, deletionTimestamp="2026-01-02T12:00:00Z")["Status"] == "Terminating"
    assert pod({"phase": "Succeeded"}, deletionTimestamp="2026-01-02T12:00:00Z")["Status"] == "Succeeded"


def test_restarts_tell_when_the_last_was():
    ended = (NOW - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    last = {"terminated": {"finishedAt": ended}}
    status = {"phase": "Running", "containerStatuses": [container({"running": {}}, ready=True, restarts=3, last=last)]}
    assert pod(status)["Restarts"] == "3 (5m ago)"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "Object"),
        ("*/*", "Object"),
        ("application/json", "Object"),
        ("application/vnd.kubernetes.protobuf,application/json", "Object"),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "Table"),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", "Object"),
        ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "Metadata"),
    ],
)
def test_the_form_of_an_answer_is_the_first_acceptable(accept, form):
    assert tables.wanted(accept).form == form


def test_nothing_acceptable_is_406():
    with pytest.raises(ApiError) as refused:
        tables.wanted("text/html")
    assert refused.value.code == 406


def test_selectors_as_text():
    expressions = [{"key": "b", "operator": "In", "values": ["y", "x"]}, {"key": "c", "operator": "DoesNotExist"}]
    selector = {"matchLabels": {"a": "1"}, "matchExpressions": expressions}
    assert columns.label_selector(selector) == "a=1,b in (x,y),!c"
    assert columns.label_selector(None) == "<none>"
