"""A bad object gets what the API server says to it, field by field, and the rules of the others stay as they are."""

import pytest

from tests.lab.scenario.labrun import in_sandbox

pytestmark = pytest.mark.lab

GOOD = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, clusterIP: 10.0.0.5, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {type: NodePort, clusterIP: 10.0.0.6, ports: [{port: 80, nodePort: 30081}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.1.1.4], nodeName: node1}]
"""
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: "
SLICE = (
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nports: [{port: 8080}]\n"
    "metadata: {name: web-2, labels: {kubernetes.io/service-name: web}}\nendpoints: "
)
BAD = {
    "a port twice": (
        SERVICE + "{ports: [{name: a, port: 80}, {name: b, port: 80}]}",
        'spec.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"}',
    ),
    "a cluster IP that another has": (
        SERVICE + "{clusterIP: 10.0.0.5, ports: [{port: 80}]}",
        'spec.clusterIPs: Invalid value: ["10.0.0.5"]: failed to allocate IP 10.0.0.5: provided IP is already',
    ),
    "a node port that another has": (
        SERVICE + "{type: NodePort, ports: [{port: 80, nodePort: 30080}]}",
        "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated",
    ),
    "a change to a node port that another has": (
        SERVICE.replace("bad", "other") + "{type: NodePort, clusterIP: 10.0.0.6, ports: [{port: 80, nodePort: 30080}]}",
        "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated",
    ),
    "a source range that is none": (
        SERVICE + "{type: LoadBalancer, loadBalancerSourceRanges: [10.0.0.0/33], ports: [{port: 80}]}",
        'spec.loadBalancerSourceRanges[0]: Invalid value: "10.0.0.0/33": must be a valid CIDR value',
    ),
    "an endpoint on loopback": (
        SLICE + "[{addresses: [127.0.0.1]}]",
        'endpoints[0].addresses[0]: Invalid value: "127.0.0.1": may not be in the loopback range',
    ),
    "an endpoint of the other family": (
        SLICE + "[{addresses: [10.1.1.5]}, {addresses: ['fd00::1']}]",
        'endpoints[1].addresses[0]: Invalid value: "fd00::1": must be a valid IPv4 address',
    ),
}


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_it_is_refused_and_nothing_changes(mode, tmp_path):
    (tmp_path / "good.yaml").write_text(GOOD)

    def inside():
        from hoplab.net.zygote import Zygote
        from hoplab.probe.crafter import CrafterProcess

        zygote, crafter = Zygote(), CrafterProcess()
        from hoplab.errors import InputError
        from hoplab.scenario.options import RunOptions
        from hoplab.scenario.runner import run

        told = {}

        def try_all(lab):
            listing = ["iptables-save"] if mode == "iptables" else ["nft", "--stateless", "list", "ruleset"]

            def rules():
                text = lab.node("node1").namespace.run(listing).stdout
                return [line.split(" [")[0] for line in text.splitlines() if not line.startswith("#")]

            before, services = rules(), set(lab.cluster.objects.services)
            for name, (text, _expected) in BAD.items():
                try:
                    lab.apply(text)
                except InputError as error:
                    told[name] = str(error)
                assert rules() == before, name
                assert set(lab.cluster.objects.services) <= services
            assert any("10.1.1.4:8080" in line for line in before)

        script = tmp_path / "quiet.py"
        script.write_text('"""Nothing of its own."""\nMANIFESTS = ["good.yaml"]\ndef run(lab):\n    pass\n')
        run(str(script), RunOptions(captures=tmp_path, proxy_mode=mode), zygote, crafter, sabotage=try_all)
        return told

    told = in_sandbox(inside)
    assert set(told) == set(BAD)
    for name, (_text, expected) in BAD.items():
        assert expected in told[name]
