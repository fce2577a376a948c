"""What Wireshark reads of running labs: sentences of its extcap interface."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.errors import InputError
from hoplab.labs.extcap import Meant, interfaces, meant, settings

VALUE = re.compile(r"interface \{value=([^{}]+)\}\{display=([^{}]+)\}")
PARTS = st.text(min_size=1, max_size=20)


def test_a_lab_is_listed_as_a_whole_and_interface_by_interface():
    told = interfaces({"lab1": [("node1", "lo"), ("node1", "eth0"), ("pod/dns/a", "eth0")], "lab2": []}, "1.0")
    assert told == [
        "extcap {version=1.0}{help=hoplab's docs/pcapng.md}{display=hoplab}",
        "interface {value=hoplab-lab1}{display=hoplab: lab1 all interfaces}",
        "interface {value=hoplab-lab1:node1:eth0}{display=hoplab: lab1 node1:eth0}",
        "interface {value=hoplab-lab1:pod/dns/a:eth0}{display=hoplab: lab1 pod/dns/a:eth0}",
        "interface {value=hoplab-lab2}{display=hoplab: lab2 all interfaces}",
    ]


@given(PARTS, PARTS)
def test_whatever_an_interface_is_called_it_is_one_sentence_and_found_again(place, interface):
    one = Meant("lab", place, interface)
    (sentence,) = interfaces({"lab": [(place, interface)]}, "1")[2:] or [
        f"interface {{value={one.value}}}{{display=x}}"
    ]
    found = VALUE.fullmatch(sentence)
    assert found
    assert meant(found[1]) == one


def test_places_are_targets_of_a_capture():
    assert meant("hoplab-a").target == ((), "default")
    assert meant("hoplab-a:node1:eth0").target == (("node1",), "default")
    assert meant("hoplab-a:pod/kube-system/dns:eth0").target == (("pod/dns",), "kube-system")


@pytest.mark.parametrize("value", ["", "eth0", "hoplab-", "hoplab-a:b", "hoplab-a::eth0", "hoplab-a:b:c:d"])
def test_what_is_no_interface_of_a_lab_is_refused(value):
    with pytest.raises(InputError, match="expected hoplab-LAB"):
        meant(value)


def test_only_a_whole_lab_can_be_narrowed():
    assert settings(Meant("lab", "node1", "eth0")) == ()
    assert settings(Meant("lab"))[0].startswith("arg {number=0}{call=--places}")
