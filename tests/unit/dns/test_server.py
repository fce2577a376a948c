"""The name server's configuration, as unbound itself reads it; and the names of the world outside."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hoplab.cluster.outside import dnsmasq_arguments, outside_names
from hoplab.dns import server
from hoplab.dns.records import records
from hoplab.dns.server import unbound_config, zone_file
from hoplab.dns.zone import zones
from hoplab.kube.types import ObjectMeta, Service, ServicePort
from hoplab.setup.programs import find

WEB = Service(ObjectMeta("web"), cluster_ips=("10.0.0.20",), ports=(ServicePort(80, name="http"),))


def test_every_zone_is_served_and_kept_from_being_forwarded() -> None:
    text = unbound_config(["cluster.local.", "1.10.in-addr.arpa."], ["203.0.113.1"])
    for name in ("cluster.local.", "1.10.in-addr.arpa."):
        assert f'auth-zone:\n    name: "{name}"\n    zonefile: "{zone_file(name)}"' in text
        assert f'stub-zone:\n    name: "{name}"\n' in text
    assert text.endswith('forward-zone:\n    name: "."\n    forward-addr: 203.0.113.1\n')
    assert "forward-zone" not in unbound_config(["cluster.local."])


@pytest.mark.needs("unbound")
@pytest.mark.parametrize("upstreams", [[], ["203.0.113.1"], ["203.0.113.1", "2001:db8::1"]])
def test_unbound_itself_finds_it_valid(upstreams: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FOLDER", str(tmp_path))
    made = zones(records([WEB], []), ["10.0.0.0/16"], server="10.0.0.10")
    for name, text in made.items():
        Path(zone_file(name)).write_text(text)
    (tmp_path / "unbound.conf").write_text(unbound_config(made, upstreams))
    found = find("unbound-checkconf")
    assert found is not None
    environment = {**os.environ, **found.environment()}
    done = subprocess.run([found.path, str(tmp_path / "unbound.conf")], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_world_knows_its_machines_and_nothing_else() -> None:
    names = outside_names({"client": ["203.0.113.10"], "router": ["203.0.113.1", "2001:db8::1"]})
    assert names == {
        "client.example.com": ("203.0.113.10",),
        "router.example.com": ("203.0.113.1", "2001:db8::1"),
        "www.example.com": ("203.0.113.10",),
    }
    arguments = dnsmasq_arguments(names)
    assert "--host-record=router.example.com,203.0.113.1,2001:db8::1" in arguments
    assert "--local=/#/" in arguments
