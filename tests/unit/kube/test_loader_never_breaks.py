"""Whatever text comes: the loader gives objects or one ManifestError, quickly, never another exception."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoplab.errors import InputError
from hoplab.kube import convert, schema
from hoplab.kube.load import LARGEST_FILE, load, load_files
from hoplab.kube.objects import KubeObject
from hoplab.kube.problems import ManifestError

SEED = Path(__file__).parents[2] / "fixtures" / "seed"
SEED_TEXTS = [path.read_text() for path in sorted(SEED.glob("*.yaml"))]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-1, 70000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["None", "10.0.0.1", "::1", "TCP", "10.0.0.0/8", "LoadBalancer", "Local", "a", "IPv4", "25%"]),
)


def fields_of(type_name: str, depth: int) -> st.SearchStrategy[Any]:
    """Objects with the fields of a type of the schema; values often, not always, of the right type."""
    known = schema.types()[type_name]
    if depth == 0 or not known:
        return st.just({})
    chosen = {name: value_of(expected.rstrip("!"), depth - 1) for name, expected in known.items()}
    must = {name: chosen.pop(name) for name, expected in known.items() if expected.endswith("!")}
    few = st.lists(st.sampled_from(sorted(chosen)), max_size=4, unique=True) if chosen else st.just([])
    return few.flatmap(lambda names: st.fixed_dictionaries({**must, **{name: chosen[name] for name in names}}))


def value_of(expected: str, depth: int) -> st.SearchStrategy[Any]:
    if expected.startswith("@"):
        right = st.deferred(lambda: fields_of(expected[1:], depth))
    elif expected.startswith("["):
        right = st.lists(value_of(expected[1:-1], depth), max_size=2)
    elif expected.startswith("{") or expected == "dict":
        right = st.dictionaries(st.text(max_size=5), scalars, max_size=2)
    elif expected == "int":
        right = st.integers(-5, 70000)
    elif expected == "bool":
        right = st.booleans()
    else:
        right = st.sampled_from(
            ["", "None", "10.0.0.1", "fd00::1", "TCP", "Local", "LoadBalancer", "a-b", "IPv6", "In"]
        )
    return st.one_of(right, right, right, right, right, st.none(), scalars)


def documents() -> st.SearchStrategy[dict[str, Any]]:
    def of_kind(key: str) -> st.SearchStrategy[dict[str, Any]]:
        version, _slash, kind = key.rpartition("/")
        body = fields_of(schema.kinds()[key], 6)
        return body.map(lambda data: {**data, "apiVersion": version, "kind": kind, "metadata": {"name": "x"}})

    return st.sampled_from(sorted(schema.kinds())).flatmap(of_kind)


def as_typed(obj: KubeObject) -> None:
    """A loaded object converts without an exception: its validation promised that."""
    if obj.kind == "Service":
        convert.as_service(obj)
    elif obj.kind in ("Endpoints", "EndpointSlice"):
        convert.as_endpoint_slices(obj)
    elif obj.kind in convert.WORKLOADS:
        convert.as_workload(obj)
    elif obj.kind == "Pod":
        convert.as_pod(obj)
    elif obj.kind == "Node":
        convert.as_node(obj)


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_text(text: str) -> None:
    with contextlib.suppress(ManifestError):
        load(text, "any.yaml")


@given(st.text(alphabet="ab:-[]{}&*!<>|?,'\"#%@ \n\t0", max_size=60))
@settings(max_examples=500, deadline=None)
def test_any_text_of_yamls_own_signs(text: str) -> None:
    with contextlib.suppress(ManifestError):
        load(text, "any.yaml")


@given(st.sampled_from(SEED_TEXTS), st.data())
@settings(max_examples=200, deadline=None)
def test_a_good_manifest_with_one_piece_replaced(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    with contextlib.suppress(ManifestError):
        for obj in load(text[:start] + data.draw(st.text(max_size=10)) + text[end:], "any.yaml").objects:
            as_typed(obj)


@given(documents())
@settings(max_examples=250, deadline=None)
def test_any_object_of_known_fields(document: dict[str, Any]) -> None:
    with contextlib.suppress(ManifestError):
        for obj in load(json.dumps(document), "any.json").objects:
            as_typed(obj)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]" for n in range(12)
)
HOSTILE = {
    "a bomb of aliases": (BOMB, "more than 200,000 values, aliases expanded"),
    "an alias inside itself": ("a: &a [*a]", "before its anchor (or inside itself)"),
    "10,000 nested lists": ("[" * 10_000, "nested deeper than 100 levels"),
    "10,000 nested maps": ("{a: " * 10_000, "nested deeper than 100 levels"),
    "5 MB of one word": ("a" * 5_000_000, "larger than 4 MB"),
    "a list as a key": ("? [a]\n: b", "expected a plain word as key"),
    "a key twice": ("kind: Pod\nmetadata: {}\nkind: Service", "key 'kind' stands twice"),
    "a tab": ("kind: Pod\nmetadata:\n\tname: a", "indented with a tab, YAML takes only spaces"),
    "a NUL": ("a\0b", "no valid YAML: unacceptable character"),
    "half a surrogate pair": ("a: \ud800", "no valid YAML"),
    "an open bracket": ("a: [1, 2", "no valid YAML"),
    "an object of Python": ("a: !!python/object:os.system x", "manifests have plain values only"),
    "not a number": ("a: .nan", "no number that JSON, and so Kubernetes, can carry"),
    "a number of 6,000 digits": ("a: " + "9" * 6_000, "larger than a number can be"),
    "a scalar": ("hello", 'expected a Kubernetes object, found a string: "hello"'),
    "a list": ("- a\n- b", "expected a Kubernetes object, found a list"),
    "nothing": ("", "empty: expected at least one Kubernetes object"),
    "comments only": ("# nothing\n---\n# here", "empty: expected at least one Kubernetes object"),
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, (text, _said) in HOSTILE.items()])
def test_hostile_texts_are_refused_at_once(text: str) -> None:
    said = next(said for given_text, said in HOSTILE.values() if given_text is text)
    with pytest.raises(ManifestError) as caught:
        load(text, "bad.yaml")
    assert len(caught.value.problems) == 1
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_files([path])
    return str(caught.value)


def test_files_that_cannot_be_manifests(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.yaml") == f"{tmp_path / 'no.yaml'}: no such file"
    assert "found a folder" in refused(tmp_path)
    (tmp_path / "empty.yaml").write_text("")
    assert "empty: expected at least one Kubernetes object" in refused(tmp_path / "empty.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: b\nname: caf\xe9\n")
    assert "expected UTF-8 text, found byte 0xe9 in line 2" in refused(tmp_path / "latin.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (LARGEST_FILE + 1))
    assert "larger than 4 MB" in refused(tmp_path / "large.yaml")
    assert "is no file name" in refused(Path("a\0b"))


def test_an_endless_file_is_read_up_to_the_limit() -> None:
    assert "larger than 4 MB" in refused(Path("/dev/zero"))


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf" + SEED_TEXTS[0].encode())
    assert load_files([tmp_path / "a.yaml"]).objects


def test_the_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(
            f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{}}\n"
        )
    with pytest.raises(ManifestError) as caught:
        load_files([tmp_path / "a.yaml", tmp_path / "missing.yaml", tmp_path / "b.yaml"])
    assert [Path(problem.file).name for problem in caught.value.problems] == ["a.yaml", "missing.yaml", "b.yaml"]
