"""/etc/hosts of the lab's machines, and the address that pods ask for names."""

from hoplab.cluster.etcfiles import cluster_dns, machine_hosts


def test_a_machine_finds_itself_first_and_the_others_after():
    machines = {"client": ["203.0.113.10"], "lb": ["203.0.113.2", "10.240.0.2"], "node1": ["10.240.0.11"]}
    lines = machine_hosts("node1", machines).splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    own = [line for line in lines if not line.startswith(("127.", "::1", "fe0"))]
    assert own == ["10.240.0.11\tnode1", "203.0.113.10\tclient", "203.0.113.2\tlb", "10.240.0.2\tlb"]


def test_the_name_server_has_the_tenth_address_of_the_services_network():
    assert cluster_dns(("10.96.0.0/12", "fd00::/112")) == "10.96.0.10"
    assert cluster_dns(("10.0.0.0/16",)) == "10.0.0.10"
