"""Label selectors: objects and query strings, what they select, what they say when they are wrong."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.errors import InputError
from hoplab.kube.labels import Requirement, Selector

LABELS = {"app": "web", "tier": "front", "empty": "", "size": "10"}

QUERIES = {
    "": True,
    "app=web": True,
    "app == web": True,
    "app=db": False,
    "app!=db": True,
    "app!=web": False,
    "absent!=x": True,
    "app in (db, web)": True,
    "app in (db)": False,
    "app notin (db)": True,
    "absent notin (db)": True,
    "app": True,
    "absent": False,
    "!absent": True,
    "! app": False,
    "empty=": True,
    "empty": True,
    "empty in ()": True,
    "size>9": True,
    "size>10": False,
    "size<11": True,
    "app>1": False,
    "absent<5": False,
    "app=web,tier in (front,back),!absent": True,
    "app=web,tier=back": False,
    "in=x": False,
    "notin": False,
    "x.example.com/app notin (a)": True,
}


@pytest.mark.parametrize("query", QUERIES)
def test_query_strings(query: str) -> None:
    assert Selector.parse(query).matches(LABELS) is QUERIES[query]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("app=web,", "expected a label's key, found the end at character 9 of 'app=web,'"),
        (",app", "expected a label's key, found ',' at character 1"),
        ("app in web", "expected '(', found 'web' at character 8"),
        ("app in (a b)", "expected ',' or ')', found 'b' at character 11"),
        ("app in (a", "expected ',' or ')', found the end"),
        ("app is web", "expected '=', '!=', 'in', 'notin', '<', '>' or ',' after 'app', found 'is'"),
        ("app=web tier", "expected ',' or the end, found 'tier'"),
        ("size>many", "expected a whole number, found 'many'"),
        ("a_=b", "key 'a_': name part must consist of"),
        ("a=b_", "value 'b_': a valid label must be"),
        ("!", "expected a label's key, found the end"),
    ],
)
def test_wrong_queries_show_the_place(query: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        Selector.parse(query)
    assert said in str(caught.value)


def test_selector_objects() -> None:
    selector = Selector.from_document(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["front"]},
                {"key": "absent", "operator": "DoesNotExist"},
            ],
        }
    )
    assert selector.matches(LABELS)
    assert not selector.matches({**LABELS, "absent": ""})
    assert str(selector) == "app=web,tier=front,!absent"
    assert Selector.from_document(None).empty


def test_a_map_needs_all_its_labels() -> None:
    assert Selector.from_map({"app": "web", "tier": "front"}).matches(LABELS)
    assert not Selector.from_map({"app": "web", "other": "x"}).matches(LABELS)


words = st.text(alphabet="abz19", min_size=1, max_size=4)
requirements = st.one_of(
    st.builds(
        Requirement,
        words,
        st.sampled_from(["In", "NotIn"]),
        st.lists(words, min_size=1, max_size=3, unique=True).map(tuple),
    ),
    st.builds(Requirement, words, st.sampled_from(["Exists", "DoesNotExist"])),
)


@given(st.lists(requirements, max_size=4), st.dictionaries(words, words, max_size=4))
def test_what_a_selector_prints_selects_the_same(given_requirements: list[Requirement], labels: dict[str, str]) -> None:
    selector = Selector(tuple(given_requirements))
    assert Selector.parse(str(selector)).matches(labels) == selector.matches(labels)


@given(st.text(alphabet="ab,()=!<> innot1", max_size=20))
def test_any_query_selects_or_is_refused(text: str) -> None:
    with contextlib.suppress(InputError):
        assert Selector.parse(text).matches(LABELS) in (True, False)
