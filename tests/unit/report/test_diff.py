"""Two runs beside each other: what counts as a difference, what does not, and what comes first."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from hoplab.errors import InputError
from hoplab.report.diff import compare, with_facts
from hoplab.report.diff_text import print_comparison
from hoplab.report.json_report import to_document
from hoplab.report.page.document import trimmed
from hoplab.report.page.writing import page
from hoplab.report.reading import find_run, read_run
from hoplab.report.run import Place, RunReport, Topology
from tests.unit.report.runs import EXPLAIN, failed_run, good_run, hostile_run

PLACES = Topology(
    (
        Place("client", "client", "", ("203.0.113.10",)),
        Place("node1", "node", "", ("10.240.0.11",)),
        Place("pod/d", "pod", "node2", ("10.1.2.3",)),
    )
)


def read(run: RunReport, folder: Path, change: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """A run as it is read back from its file, changed before."""
    document = to_document(run, EXPLAIN) | {"topology": to_document(run)["topology"]}
    document["topology"]["places"] = [
        {"name": one.name, "role": one.role, "host": one.host, "addresses": list(one.addresses)}
        for one in PLACES.places
    ]
    if change is not None:
        change(document)
    path = folder / "run.json"
    path.write_text(json.dumps(document))
    return read_run(path)


def differences(left: dict[str, Any], right: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [(one.where, one.what, one.left, one.right) for one in compare(left, right).differences]


def test_a_run_is_the_same_as_itself(tmp_path: Path) -> None:
    run = read(good_run(), tmp_path)
    found = compare(run, copy.deepcopy(run))
    assert found.same
    assert found.settings == ()


def shifted(document: dict[str, Any]) -> None:
    """The same run another day: times, ephemeral ports, frame numbers, MACs, interface names, the pod's address."""
    text = json.dumps(document["flows"])
    for old, new in (
        ("10.1.2.3", "10.1.2.77"),
        ("40000", "40123"),
        ("51000", "1099"),
        ("vethd", "veth0123abcd"),
    ):
        text = text.replace(old, new)
    document["flows"] = json.loads(text)
    document["topology"]["places"][2]["addresses"] = ["10.1.2.77"]
    for flow in document["flows"]:
        for hop in (*flow["forward"], *flow["reply"]):
            hop["time_ns"] += 1_000_000_007
            hop["frames"] = [number + 100 for number in hop["frames"]]
            hop["mac_in"] = ["02:00:00:00:00:99", "02:00:00:00:00:98"]


def test_what_is_made_up_anew_each_time_is_no_difference(tmp_path: Path) -> None:
    def generated(document: dict[str, Any]) -> None:
        document["flows"] = json.loads(json.dumps(document["flows"]).replace("vethd", "vethffee0011"))

    assert differences(read(good_run(), tmp_path, generated), read(good_run(), tmp_path, shifted)) == []


def test_generated_pod_names_are_matched_by_their_order(tmp_path: Path) -> None:
    def named(name: str) -> Callable[[dict[str, Any]], None]:
        def change(document: dict[str, Any]) -> None:
            text = json.dumps([document["flows"], document["topology"]]).replace("pod/d", name)
            document["flows"], document["topology"] = json.loads(text)

        return change

    left = read(good_run(), tmp_path, named("pod/web-66b6c48dd5-7x2kd"))
    right = read(good_run(), tmp_path, named("pod/web-5f6c9d7b8c-qq9zz"))
    assert differences(left, right) == []
    other = read(good_run(), tmp_path, named("pod/shop-5f6c9d7b8c-qq9zz"))
    assert differences(left, other)[0][0].startswith("flow first, there")


def test_a_pod_that_was_gone_at_the_end_is_known_by_what_it_sent_and_got(tmp_path: Path) -> None:
    def gone(address: str) -> Callable[[dict[str, Any]], None]:
        def change(document: dict[str, Any]) -> None:
            del document["topology"]["places"][2]
            text = json.dumps([document["flows"], document["checks"]]).replace("10.1.2.3", address)
            document["flows"], document["checks"] = json.loads(text)
            document["checks"][0]["name"] = document["flows"][0]["name"] = f"to {address}"

        return change

    left, right = read(good_run(), tmp_path, gone("10.1.2.3")), read(good_run(), tmp_path, gone("10.1.2.8"))
    assert differences(left, right) == []


def test_the_first_divergence_comes_first(tmp_path: Path) -> None:
    def unmasqueraded(document: dict[str, Any]) -> None:
        for hop in document["flows"][0]["forward"][2:]:
            hop["after"]["src"] = "203.0.113.10"
            if hop["node"] != "node1":
                hop["before"]["src"] = "203.0.113.10"
        document["flows"][0]["outcome"] = "unanswered"
        document["checks"][1]["passed"] = document["passed"] = False

    found = differences(read(good_run(), tmp_path), read(good_run(), tmp_path, unmasqueraded))
    assert found[0] == ("flow first, there, node1", "source", "client → node1", "client")
    assert [one[0] for one in found] == [
        "flow first, there, node1",
        "flow first, there, node2",
        "flow first, there, pod/d",
        "flow first",
        f"check {good_run().checks[1].name}",
        "the verdict",
    ]


def test_a_hop_that_only_one_run_has(tmp_path: Path) -> None:
    def shorter(document: dict[str, Any]) -> None:
        del document["flows"][0]["forward"][3]

    [found] = differences(read(good_run(), tmp_path), read(good_run(), tmp_path, shorter))
    assert found == ("flow first, there, node2", "hop", "the packet passes here", "it was not seen here")


def test_flows_and_checks_that_only_one_run_has(tmp_path: Path) -> None:
    found = differences(read(good_run(), tmp_path), read(failed_run(), tmp_path))
    assert ("flow first", "flow", "it was sent", "no such flow") in found
    assert ("flow dropped one", "flow", "no such flow", "it was sent") in found


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [("ttl_out", 61, "TTL"), ("in", "eth1", "interfaces"), ("tunnel", "10.0.0.1 -> 10.0.0.2 VNI 1", "tunnel")],
)
def test_what_counts_of_a_hop(tmp_path: Path, field: str, value: object, what: str) -> None:
    def change(document: dict[str, Any]) -> None:
        document["flows"][0]["forward"][2][field] = value

    [found] = differences(read(good_run(), tmp_path), read(good_run(), tmp_path, change))
    assert found[:2] == ("flow first, there, node1", what)


def test_another_endpoint_of_the_same_service_is_one_difference(tmp_path: Path) -> None:
    """Rules pick by chance, and all that follows in that flow follows from it."""

    def other_endpoint(document: dict[str, Any]) -> None:
        flow = document["flows"][0]
        text = (
            json.dumps(flow)
            .replace("10.1.2.3", "10.1.2.9")
            .replace("pod/d", "pod/e")
            .replace("endpoint d", "endpoint e")
        )
        document["flows"][0] = json.loads(text)

    found = differences(read(good_run(), tmp_path), read(good_run(), tmp_path, other_endpoint))
    assert found == [
        (
            "flow first, there, node1",
            "endpoint",
            "d of default/service-b, as its rules picked by chance",
            "e of default/service-b, as its rules picked by chance",
        )
    ]


def test_another_rule_that_decided(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        rules = document["flows"][0]["forward"][2]["rules"]
        next(rule for rule in rules if rule["does"] == "DNAT")["object"] = "endpoint d of default/service-c"

    [found] = differences(read(good_run(), tmp_path), read(good_run(), tmp_path, change))
    assert found[1] == "decided by"
    assert "endpoint d of default/service-b" in found[2]
    assert "endpoint d of default/service-c" in found[3]


def test_settings_are_told_and_are_no_difference(tmp_path: Path) -> None:
    def other(document: dict[str, Any]) -> None:
        document["options"] = {"balancer": "round-robin"}
        document["seed"] = 9

    found = compare(read(good_run(), tmp_path), read(good_run(), tmp_path, other))
    assert found.same
    assert found.settings == (("seed", "7", "9"), ("balancer", "not told", "round-robin"))
    assert "cluster IPs and node ports" in found.ignored[-1]


def test_with_another_seed_node_ports_and_cluster_ips_do_not_count(tmp_path: Path) -> None:
    def other(document: dict[str, Any]) -> None:
        document["seed"] = 9
        text = json.dumps(document["flows"]).replace("32261", "30999").replace("198.51.100.10", "198.51.100.77")
        document["flows"] = json.loads(text)

    def same_seed(document: dict[str, Any]) -> None:
        other(document)
        document["seed"] = 7

    assert differences(read(good_run(), tmp_path), read(good_run(), tmp_path, other)) == []
    assert differences(read(good_run(), tmp_path), read(good_run(), tmp_path, same_seed))


def test_a_place_that_got_none_of_many_flows(tmp_path: Path) -> None:
    def spread(answered: dict[str, int]) -> Callable[[dict[str, Any]], None]:
        def change(document: dict[str, Any]) -> None:
            document["spread"] = [
                {
                    "title": "client to x",
                    "flows": sum(answered.values()),
                    "entered": {},
                    "answered": answered,
                    "outcomes": {},
                }
            ]

        return change

    left = read(good_run(), tmp_path, spread({"pod/a": 20, "pod/b": 20}))
    assert differences(left, read(good_run(), tmp_path, spread({"pod/a": 31, "pod/b": 9}))) == []
    assert differences(left, read(good_run(), tmp_path, spread({"pod/a": 40}))) == [
        ("equal flows, client to x", "who answered", "pod/a, pod/b", "pod/a")
    ]


def places_in(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of a document."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [at, *(place for key, value in inner for place in places_in(value, (*at, key)))]


VALUES = st.sampled_from([None, 7, -1, 1.5, True, "x", [], {}, [7], ["x"], [{}], [None], {"a": 1}, {"a": "b"}])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_an_editor_did_to_a_run_it_is_compared_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    whole = read(good_run(), tmp_path, with_the_rest)
    place = data.draw(st.sampled_from(places_in(whole)[1:]))

    def change(document: dict[str, Any]) -> None:
        with_the_rest(document)
        inner: Any = document
        for key in place[:-1]:
            inner = inner.get(key, {}) if isinstance(inner, dict) else inner[key]
        if isinstance(inner, list) or place[-1] in inner:
            inner[place[-1]] = data.draw(VALUES)

    try:
        other = read(good_run(), tmp_path, change)
    except InputError:
        # Which field is wrong, it says; that this is so for each, TestReading holds.
        return
    told(whole, other)
    page("diff", "two", [trimmed(with_facts(other, whole)), trimmed(whole)])


def with_the_rest(document: dict[str, Any]) -> None:
    """What a run has that went wrong: reasons, losses, counted flows."""
    counts = {"pod/d": 20}
    document["spread"] = [{"title": "t", "flows": 20, "entered": counts, "answered": counts, "outcomes": counts}]
    document["reasons"] = [{"cause": "ttl", "node": "node1", "words": "w"}]
    document["flows"][0]["reasons"] = list(document["reasons"])
    document["losses"] = [{"node": "node1", "source": "trace", "lost": 1, "reason": ""}]


def told(left: dict[str, Any], right: dict[str, Any], width: int = 80) -> str:
    out = io.StringIO()
    print_comparison(compare(left, right), left, right, ("a/run.json", "b/run.json"), Console(file=out, width=width))
    return out.getvalue()


def test_the_terminal_begins_with_the_first_divergence(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["flows"][0]["forward"][2]["ttl_out"] = 61

    text = told(read(good_run(), tmp_path), read(good_run(), tmp_path, change))
    assert (
        "First divergence\n  flow first, there, node1\n    TTL          A  63 → 62\n                 B  63 → 61\n"
        in text
    )
    assert text.endswith("1 difference.\n")
    assert told(read(good_run(), tmp_path), read(good_run(), tmp_path)).endswith("Both runs saw the same.\n")


def test_hostile_text_stays_text_and_within_80_columns(tmp_path: Path) -> None:
    text = told(read(hostile_run(), tmp_path), read(good_run(), tmp_path))
    assert not set(text) & {"\x1b", "\x00", "\u202e"}
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert r"\x1b[31mred\x1b[0m [bold]x[/bold]" in text


class TestReading:
    def test_a_folder_a_file_and_a_name(self, tmp_path: Path) -> None:
        (tmp_path / "external-lb").mkdir()
        path = tmp_path / "external-lb" / "run.json"
        path.write_text("{}")
        assert find_run(str(path), tmp_path) == path
        assert find_run(str(path.parent), Path("/")) == path
        assert find_run("external-lb", tmp_path) == path
        with pytest.raises(InputError, match="there is no run of that name"):
            find_run("nobody", tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d.pop("flows"), "run.json: flows is missing"),
            (lambda d: d.update(version=9), "with version 1; found 9"),
            (lambda d: d.update(passed="yes"), "passed: expected true or false, found a text"),
            (lambda d: d["flows"][1].pop("outcome"), r"flows\[1\]: outcome is missing"),
            (
                lambda d: d["flows"][0]["forward"][2].update(ttl_in="x"),
                r"forward\[2\].ttl_in: expected a number or null",
            ),
            (lambda d: d["flows"][0]["reply"][0]["before"].pop("dport"), r"reply\[0\].before: dport is missing"),
            (lambda d: d.update(topology=[]), "topology: expected an object"),
            (lambda d: d["flows"][0].update(legs=[{}]), r"flows\[0\].legs\[0\]: name is missing"),
        ],
    )
    def test_a_wrong_field_is_named(self, tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
        with pytest.raises(InputError, match=message):
            read(good_run(), tmp_path, change)

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"5"])
    def test_what_is_no_run_is_told(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "run.json"
        path.write_bytes(content)
        message = ""
        try:
            read_run(path)
        except InputError as error:
            message = str(error)
        assert str(path) in message

    def test_a_run_of_the_first_release_has_no_topology_and_is_read(self, tmp_path: Path) -> None:
        def older(document: dict[str, Any]) -> None:
            for name in ("topology", "options", "spread", "started", "reasons"):
                document.pop(name, None)
            for flow in document["flows"]:
                for name in ("legs", "reasons", "beyond"):
                    flow.pop(name, None)
                for hop in (*flow["forward"], *flow["reply"]):
                    for rule in hop["rules"]:
                        del rule["does"], rule["object"]

        run = read(good_run(), tmp_path)
        del run["topology"]
        path = tmp_path / "old.json"
        document = to_document(good_run())
        older(document)
        path.write_text(json.dumps(document))
        assert compare(read_run(path), read_run(path)).same
