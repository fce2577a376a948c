"""The table that `lab.py ps` prints."""

import pytest

from hoplab.cli.life import age, table

LAB = {"name": "lab", "topology": "cloud", "keeper": 7, "started": 1000.0, "status": "ready", "nodes": 2, "pods": 13}


def test_the_table_lists_each_lab():
    other = {"name": "a-longer-name", "status": "starting"}
    assert table([LAB, other], 1065.0) == [
        "NAME            TOPOLOGY   STATUS     NODES   PODS   AGE   KEEPER",
        "lab             cloud      ready      2       13     65s   7",
        "a-longer-name   -          starting   -       -      -     -",
    ]


def test_without_a_lab_there_is_the_head_alone():
    assert table([], 0.0) == ["NAME   TOPOLOGY   STATUS   NODES   PODS   AGE   KEEPER"]


# Values of HumanDuration's own test in apimachinery.
AGES = {
    -5: "0s", 0: "0s", 90: "90s", 121: "2m1s", 180: "3m", 599: "9m59s", 601: "10m", 3 * 3600 - 1: "179m",
    3 * 3600: "3h", 7 * 3600 + 60 * 59: "7h59m", 8 * 3600: "8h", 47 * 3600: "47h", 48 * 3600: "2d", 49 * 3600: "2d1h",
    8 * 86400: "8d",
}  # fmt: skip


@pytest.mark.parametrize("seconds", AGES)
def test_an_age_reads_as_kubectl_writes_it(seconds):
    assert age(seconds) == AGES[seconds]
