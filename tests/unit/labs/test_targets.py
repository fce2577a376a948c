"""The words TARGET, FROM and TO: what they may look like, what they mean, and what a wrong one is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.errors import InputError
from hoplab.kube.types import LoadBalancerIngress, ObjectMeta, Service, ServicePort
from hoplab.labs.targets import Goal, Known, Place, Target, goal, parse, pod_name, pod_place

READ = {
    "client": Target("machine", "client"),
    "node1": Target("machine", "node1"),
    "node/node1": Target("machine", "node1"),
    "node1:32261": Target("machine", "node1", "32261"),
    "pod/a": Target("pod", "a"),
    "po/a": Target("pod", "a"),
    "pod/a:80": Target("pod", "a", "80"),
    "pod/kube-system/dns": Target("pod", "kube-system/dns"),
    "svc/kube-system/dns:53": Target("service", "kube-system/dns", "53"),
    "svc/web": Target("service", "web"),
    "service/web:http": Target("service", "web", "http"),
    "svc/web:80": Target("service", "web", "80"),
    "10.1.0.4": Target("address", "10.1.0.4"),
    "10.1.0.4:80": Target("address", "10.1.0.4", "80"),
    "fd00::1": Target("address", "fd00::1"),
    "FD00:0::1": Target("address", "fd00::1"),
    "[fd00::1]:80": Target("address", "fd00::1", "80"),
}


@pytest.mark.parametrize("text", READ)
def test_what_is_written_is_read(text):
    assert parse(text) == READ[text]


WRONG = {
    "pd/a": "Did you mean pod/a?",
    "svcs/web": "Did you mean svc/web?",
    "pod/": "the name is missing",
    "pod/a/b/c": "'a/b/c' is no NAME and no NAMESPACE/NAME",
    "pod//b": "'/b' is no NAME and no NAMESPACE/NAME",
    "node/a/b": "'a/b' is no NAME",
    "pod/a:": "the port behind ':' is missing",
    "10.1.0.4:99999": "port 99999 is not between 1 and 65535",
    "10.1.0.400": "'10.1.0.400' is no IP address",
    "[fd00::1": "an IPv6 address in brackets ends with ]",
    "": "the name is missing",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_told_with_what_is_right(text):
    with pytest.raises(InputError) as told:
        parse(text)
    assert WRONG[text] in str(told.value)
    assert told.value.exit_code == 2


@given(st.text(max_size=40))
def test_no_text_is_anything_but_read_or_refused(text):
    try:
        found = parse(text)
    except InputError:
        return
    assert parse(str(found)) == found


HTTP = (ServicePort(80),)


def service(name, kind="ClusterIP", ports=HTTP, vip="", namespace="default", ip="10.0.0.7"):
    ingress = (LoadBalancerIngress(vip),) if vip else ()
    return Service(ObjectMeta(name, namespace), kind, (ip,), ports, load_balancer_ingress=ingress)


KNOWN = Known(
    (
        Place("client", "client", ("203.0.113.10",)),
        Place("lb", "balancer", ("203.0.113.2", "10.240.0.2")),
        Place("node1", "node", ("10.240.0.11", "10.1.1.1")),
        Place("node2", "node", ("10.240.0.12",)),
        Place("pod/a", "pod", ("10.1.1.2",), ((8080, "TCP"), (53, "UDP"))),
        Place("pod/web-6c9f-xk2vp", "pod", ("10.1.1.3",), ((80, "TCP"),)),
        Place("pod/kube-system/dns", "pod", ("10.1.2.2",), ((53, "UDP"),)),
        Place("internet", "switch"),
    ),
    (
        service("plain"),
        service("two", ports=(ServicePort(80, name="http"), ServicePort(443, name="https"))),
        service("far", "LoadBalancer", (ServicePort(80, node_port=30080),), "198.51.100.10"),
        service("ports", "NodePort", (ServicePort(80, node_port=32261),)),
        service("dns", "ClusterIP", (ServicePort(53, "UDP"),), namespace="kube-system", ip="10.0.0.10"),
        service("headless", ip="None"),
    ),
)


def place(text, namespace="default"):
    return KNOWN.place(parse(text), namespace).name


def test_a_name_means_the_namespace_of_that_name():
    assert place("client") == "client"
    assert place("pod/a") == "pod/a"
    assert place("pod/dns", "kube-system") == "pod/kube-system/dns"
    assert place("pod/kube-system/dns") == "pod/kube-system/dns"


def test_a_workloads_pod_is_met_by_the_beginning_of_its_name():
    assert place("pod/web") == "pod/web-6c9f-xk2vp"


def test_an_address_means_who_has_it():
    assert place("10.1.1.2") == "pod/a"
    assert place("10.1.1.1") == "node1"


UNKNOWN = {
    ("nod1", "default"): "Did you mean node1?",
    ("a", "default"): "Did you mean pod/a?",
    ("pod/wep", "default"): "pods there: a, web-6c9f-xk2vp",
    ("pod/dns", "default"): "There is one in namespace kube-system: say -n kube-system",
    ("pod/kube-system/dsn", "default"): "Did you mean pod/kube-system/dns?",
    ("svc/plain", "default"): "nothing runs in a Service",
    ("192.0.2.1", "default"): "nothing in the lab has the address 192.0.2.1",
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_a_name_that_nothing_has_is_told_the_nearest(what):
    with pytest.raises(InputError) as told:
        place(*what)
    assert UNKNOWN[what] in str(told.value)


def meets(sender, to, protocol="tcp", namespace="default"):
    return goal(KNOWN, KNOWN.place(parse(sender)), parse(to), namespace, protocol)


def test_a_service_is_met_where_its_sender_would_look_for_it():
    assert meets("pod/a", "svc/far") == Goal("10.0.0.7", 80, "default/far")
    assert meets("node1", "svc/far") == Goal("10.0.0.7", 80, "default/far")
    assert meets("client", "svc/far") == Goal("198.51.100.10", 80, "default/far")
    assert meets("client", "svc/ports") == Goal("10.240.0.11", 32261, "default/ports at node1")
    assert meets("client", "svc/plain") == Goal("10.0.0.7", 80, "default/plain")


def test_a_services_port_is_chosen_by_number_or_name():
    assert meets("pod/a", "svc/two").port == 80
    assert meets("pod/a", "svc/two:443") == meets("pod/a", "svc/two:https")
    assert meets("pod/a", "svc/dns", "udp", "kube-system") == Goal("10.0.0.10", 53, "kube-system/dns")


def test_each_end_may_be_of_a_namespace_of_its_own():
    assert meets("pod/kube-system/dns", "svc/default/two:443").port == 443
    assert meets("pod/a", "svc/kube-system/dns", "udp") == Goal("10.0.0.10", 53, "kube-system/dns")


def test_pods_and_addresses_are_met_at_the_port_that_listens_there():
    assert meets("client", "pod/a").port == 8080
    assert meets("client", "pod/a", "udp").port == 53
    assert meets("client", "pod/a:9").port == 9
    assert meets("client", "10.1.1.2").port == 8080
    assert meets("client", "10.0.0.10", "udp").port == 53
    assert meets("client", "pod/a", "icmp") == Goal("10.1.1.2", 0, "pod/a")


NOWHERE = {
    ("client", "node1", "tcp"): "nothing says which port; write node1:80",
    ("client", "192.0.2.1", "tcp"): "nothing says which port; write 192.0.2.1:80",
    ("pod/a", "svc/two:8", "tcp"): "no such TCP port; default/two has 80/TCP (http), 443/TCP (https)",
    ("pod/a", "svc/two", "udp"): "no such UDP port",
    ("pod/a", "svc/tow", "tcp"): "Did you mean svc/two?",
    ("pod/a", "svc/dns", "tcp"): "say -n kube-system",
    ("pod/a", "svc/headless", "tcp"): "default/headless has no cluster IP; send to one of its pods",
    ("pod/a", "internet:80", "tcp"): "internet has no address that pod/a could send to",
}


@pytest.mark.parametrize("what", NOWHERE)
def test_where_nothing_can_be_sent_the_message_says_what_to_write(what):
    with pytest.raises(InputError) as told:
        meets(*what)
    assert NOWHERE[what] in str(told.value)


def test_the_labs_own_names_of_pods_are_made_and_read():
    assert pod_name(pod_place("a", "default")) == ("default", "a")
    assert pod_name(pod_place("a", "other")) == ("other", "a")
