"""How a table becomes `nft -f` text, and how the smallest change between two tables is found."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoplab.dataplane.nft_text import (
    TAKES_RULES_IN_CHAINS,
    Chain,
    Element,
    Rule,
    Set,
    Table,
    changes,
    deleted_chains,
    gone_chains,
    unread_changes,
)
from tests.unit.dataplane.nft_kernel import check, loaded

BASE = Chain("input", (Rule("ip daddr vmap @ways"),), "type filter hook input priority 0")
WAYS = Set("ways", "type ipv4_addr : verdict", "map")
EMPTY = Table("ip", "t", "for a test", (WAYS,), (BASE,))


def with_way(table: Table, name: str, address: str, *rules: str) -> Table:
    """The table with one more chain and the map element that leads there."""
    element = Element(address, f"goto {name}", f"way to {name}", source=name)
    ways = replace(table.sets[0], elements=(*table.sets[0].elements, element))
    chain = Chain(name, tuple(Rule(rule) for rule in rules), source=name)
    return replace(table, sets=(ways, *table.sets[1:]), chains=(*table.chains, chain))


def test_the_text_replaces_whatever_was_there_and_groups_by_object():
    assert with_way(EMPTY, "a", "10.0.0.1", "drop").text().splitlines() == [
        "add table ip t",
        "delete table ip t",
        'add table ip t { comment "for a test" ; }',
        "add chain ip t input { type filter hook input priority 0 ; }",
        "add map ip t ways { type ipv4_addr : verdict ; }",
        "add rule ip t input ip daddr vmap @ways",
        "# a",
        "add chain ip t a",
        "add rule ip t a drop",
        'add element ip t ways { 10.0.0.1 comment "way to a" : goto a }',
    ]


def test_a_first_load_is_the_same_text_in_several_transactions():
    table = with_way(with_way(with_way(EMPTY, "a", "10.0.0.1"), "b", "10.0.0.2"), "c", "10.0.0.3")
    pieces = table.first_load(objects=2)
    assert "".join(pieces) == table.text()
    assert [[line for line in piece.splitlines() if line.startswith("#")] for piece in pieces] == [
        [],
        ["# a", "# b"],
        ["# c"],
    ]


def test_comments_have_no_quotes_inside_and_at_most_128_characters():
    table = Table("ip", "t", chains=(Chain("c", (Rule("drop", 'say "no"'), Rule("drop", "x" * 200))),))
    lines = table.text().splitlines()
    assert lines[-2] == "add rule ip t c drop comment \"say 'no'\""
    assert lines[-1] == f'add rule ip t c drop comment "{"x" * 125}..."'


def test_no_difference_no_transaction():
    assert changes(EMPTY, Table("ip", "t", "for a test", (WAYS,), (BASE,))) == ""


def test_without_a_previous_table_the_whole_text():
    assert changes(None, EMPTY) == EMPTY.text()


def test_an_addition_names_only_what_is_new():
    one = with_way(EMPTY, "a", "10.0.0.1", "drop")
    assert changes(one, with_way(one, "b", "10.0.0.2", "accept")).splitlines() == [
        "add chain ip t b",
        "add rule ip t b accept",
        'add element ip t ways { 10.0.0.2 comment "way to b" : goto b }',
    ]


def test_a_removal_takes_the_element_before_the_chain():
    one = with_way(EMPTY, "a", "10.0.0.1", "drop")
    assert changes(one, EMPTY).splitlines() == [
        "delete element ip t ways { 10.0.0.1 }",
        "flush chain ip t a",
        "delete chain ip t a",
    ]


def test_a_changed_chain_is_flushed_and_written_anew():
    assert changes(
        with_way(EMPTY, "a", "10.0.0.1", "drop"), with_way(EMPTY, "a", "10.0.0.1", "accept")
    ).splitlines() == [
        "flush chain ip t a",
        "add rule ip t a accept",
    ]


def test_a_changed_element_is_deleted_and_added():
    one, other = with_way(EMPTY, "a", "10.0.0.1"), with_way(EMPTY, "b", "10.0.0.1")
    assert changes(one, other).splitlines() == [
        "add chain ip t b",
        "delete element ip t ways { 10.0.0.1 }",
        'add element ip t ways { 10.0.0.1 comment "way to b" : goto b }',
        "flush chain ip t a",
        "delete chain ip t a",
    ]


def seen(seconds: int) -> Table:
    """A chain that remembers senders for some seconds, and one that looks them up."""
    return replace(
        EMPTY,
        sets=(WAYS, Set("seen", f"type ipv4_addr ; flags dynamic,timeout ; timeout {seconds}s", dynamic=True)),
        chains=(
            BASE,
            Chain("look", (Rule("ip saddr @seen accept"),)),
            Chain("remember", (Rule("update @seen { ip saddr }"),)),
        ),
    )


def test_a_set_with_another_timeout_is_replaced_while_no_rule_names_it():
    assert changes(seen(10), seen(20)).splitlines() == [
        "flush chain ip t look",
        "flush chain ip t remember",
        "delete set ip t seen",
        "add set ip t seen { type ipv4_addr ; flags dynamic,timeout ; timeout 20s ; }",
        "flush chain ip t look",
        "add rule ip t look ip saddr @seen accept",
        "flush chain ip t remember",
        "add rule ip t remember update @seen { ip saddr }",
    ]


def test_another_hook_needs_the_whole_table():
    moved = replace(EMPTY, chains=(replace(BASE, hook="type filter hook input priority 10"),))
    assert changes(EMPTY, moved) == moved.text()


class TestUnread:
    """A change in forms for which nft need not read the table first."""

    def test_an_addition(self):
        one = with_way(EMPTY, "a", "10.0.0.1", "drop")
        assert lines_of(unread_changes(one, with_way(one, "b", "10.0.0.2", "accept", "drop"))) == [
            "add chain ip t b",
            'add map ip t ways { type ipv4_addr : verdict ; elements = { 10.0.0.2 comment "way to b" : goto b } ; }',
            "add chain ip t b { accept ; drop ; }",
        ]

    def test_a_chain_whose_rules_differ_and_the_set_that_they_name(self):
        before = seen(10)
        other = Chain("look", (Rule("ip saddr @seen drop"),))
        after = replace(before, chains=(BASE, other, before.chains[2]))
        assert lines_of(unread_changes(before, after)) == [
            "add set ip t seen { type ipv4_addr ; flags dynamic,timeout ; timeout 10s ; }",
            "flush chain ip t look",
            "add chain ip t look { ip saddr @seen drop ; }",
        ]

    def test_a_chain_that_went_stays_empty_until_it_is_deleted(self):
        before = replace(EMPTY, chains=(BASE, Chain("a", (Rule("drop"),))))
        assert lines_of(unread_changes(before, EMPTY)) == ["flush chain ip t a"]
        assert deleted_chains(EMPTY, gone_chains(before, EMPTY)) == "delete chain ip t a\n"

    def test_what_takes_a_deletion_has_no_such_form(self):
        one = with_way(EMPTY, "a", "10.0.0.1", "drop")
        moved = replace(EMPTY, chains=(replace(BASE, hook="type filter hook input priority 10"),))
        hooked = replace(EMPTY, chains=(replace(BASE, rules=(Rule("drop"),)),))
        for before, after in [(one, EMPTY), (EMPTY, moved), (EMPTY, hooked), (seen(10), seen(20)), (seen(10), EMPTY)]:
            assert unread_changes(before, after) is None

    def test_nothing_for_no_difference(self):
        assert unread_changes(seen(10), seen(10)) == ""

    @pytest.mark.lab
    def test_whether_nft_takes_it_is_told_by_a_text_that_it_must_refuse(self):
        with pytest.raises(AssertionError, match="goto nowhere"):
            check(TAKES_RULES_IN_CHAINS)


def lines_of(text: str | None) -> list[str]:
    assert text is not None
    return text.splitlines()


CHAINS = st.dictionaries(
    st.sampled_from("abcde"), st.sampled_from([("drop",), ("accept",), ("ip saddr 10.0.0.9 drop", "accept")])
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    table = draw(st.sampled_from([EMPTY, seen(10), seen(20)]))
    for index, (name, rules) in enumerate(draw(CHAINS).items()):
        table = with_way(table, name, f"10.0.0.{index}", *rules)
    return table


@pytest.mark.lab
@settings(max_examples=40, deadline=None)
@given(tables(), tables())
def test_the_change_leads_the_kernel_where_the_whole_text_leads(before: Table, after: Table):
    expected = loaded(after.text())
    assert loaded(before.text(), changes(before, after)) == expected
    if (unread := unread_changes(before, after)) is not None:
        assert loaded(before.text(), unread + deleted_chains(after, gone_chains(before, after))) == expected
