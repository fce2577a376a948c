"""Which host and path leads where: the API reference's rules, and who wins when two Ingresses say the same."""

from __future__ import annotations

import base64

import pytest

from hoplab.ingress.rules import Options, is_ours, with_addresses
from tests.unit.ingress.build import WEB, found, ingress, plan, view

API = ("10.1.0.5:9000", "10.1.0.6:9000")
DEFAULT = Options(default_backend="kube-system/default-http-backend")


class TestBackends:
    def test_a_services_port_by_number_and_by_name_leads_to_its_ready_pods(self):
        made = plan(ingress("Prefix /n web:80", "Prefix /m web:http", "Prefix /api api:8080"))
        assert found(made, "a.example") == {"prefix /api": API, "prefix /n": (WEB,), "prefix /m": (WEB,)}
        assert made.warnings == ()

    @pytest.mark.parametrize(
        ("backend", "warning"),
        [
            ("nothing:80", "Ingress default/one: no Service is called default/nothing: what it should answer gets 503"),
            ("web:81", "Ingress default/one: Service default/web has no port 81; it has http"),
        ],
    )
    def test_what_is_not_there_is_told_and_has_no_endpoint(self, backend, warning):
        made = plan(ingress(f"Prefix /x {backend}"))
        assert found(made, "a.example") == {"prefix /x": ()}
        assert made.warnings[0].startswith(warning)

    def test_service_upstream_keeps_to_the_services_address(self):
        service = (
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: 10.0.0.9, ports: [{port: 80}]}\n"
        )
        annotation = 'nginx.ingress.kubernetes.io/service-upstream: "true"'
        made = plan(service, ingress("Prefix /x s:80", annotations=[annotation]))
        assert found(made, "a.example") == {"prefix /x": ("10.0.0.9:80",)}

    def test_the_default_backend_is_the_controllers_argument(self):
        assert plan(ingress("Prefix /x web:80"), options=DEFAULT).default_backend.endpoints == ("10.1.0.7:8080",)
        missing = plan(options=Options(default_backend="kube-system/nobody"))
        assert missing.default_backend is None
        assert missing.warnings == ("--default-backend-service: no Service is called kube-system/nobody",)


class TestPaths:
    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("Exact /a", "exact /a"),
            ("Exact /a/", "exact /a/"),
            ("Prefix /a", "prefix /a"),
            ("Prefix /a/", "prefix /a"),
            ("Prefix /", "start /"),
            ("Exact /", "exact /"),
            ("ImplementationSpecific /a", "start /a"),
        ],
    )
    def test_each_type(self, written, expected):
        assert list(found(plan(ingress(f"{written} web:80")), "a.example")) == [expected]

    def test_the_longest_comes_first_and_exact_before_prefix(self):
        made = plan(ingress("Prefix /a web:80", "Prefix /a/b api:8080", "Exact /a api:8080"))
        assert list(found(made, "a.example")) == ["prefix /a/b", "exact /a", "prefix /a"]

    def test_of_two_ingresses_that_say_the_same_the_older_wins(self):
        made = plan(ingress("Prefix /a web:80", name="z"), ingress("Prefix /a api:8080", name="a"))
        assert found(made, "a.example") == {"prefix /a": (WEB,)}
        assert made.warnings == (
            "Ingress default/a: a.example/a is left out: Ingress default/z, which is older, has it",
        )

    def test_ingresses_add_up_to_a_host(self):
        made = plan(ingress("Prefix /a web:80", name="z"), ingress("Prefix /b api:8080", name="a"))
        assert found(made, "a.example") == {"prefix /a": (WEB,), "prefix /b": API}

    def test_a_default_backend_takes_what_the_hosts_of_its_ingress_have_no_path_for(self):
        more = "defaultBackend: {service: {name: api, port: {number: 8080}}}"
        assert found(plan(ingress("Prefix /a web:80", more=more)), "a.example") == {"prefix /a": (WEB,), "start /": API}
        assert found(plan(ingress(more=more)), "_") == {"start /": API}
        own = plan(ingress("Prefix / web:80", more=more))
        assert found(own, "a.example") == {"start /": (WEB,)}

    def test_patterns_make_patterns_of_all_paths_of_a_host_and_of_no_other(self):
        annotation = "nginx.ingress.kubernetes.io/rewrite-target: /$2"
        made = plan(
            ingress("ImplementationSpecific /x(/|$)(.*) web:80", annotations=[annotation]),
            ingress("Prefix /plain api:8080", "Exact /just api:8080", name="two"),
            ingress("Prefix /plain api:8080", name="three", host="b.example"),
        )
        assert list(found(made, "a.example")) == ["regex /x(/|$)(.*)", "regex /plain(?=/|$)", "regex /just$"]
        assert list(found(made, "b.example")) == ["prefix /plain"]

    def test_the_rewrite_of_2017_needs_no_patterns(self):
        made = plan(
            ingress("ImplementationSpecific /x web:80", annotations=["ingress.kubernetes.io/rewrite-target: /"])
        )
        assert list(found(made, "a.example")) == ["start /x"]


class TestCanaries:
    CANARY = ('nginx.ingress.kubernetes.io/canary: "true"', 'nginx.ingress.kubernetes.io/canary-weight: "20"')

    def test_a_canary_stands_beside_the_path_that_it_is_for_whichever_comes_first(self):
        manifests = [ingress("Prefix /a web:80"), ingress("Prefix /a api:8080", name="canary", annotations=self.CANARY)]
        for order in (manifests, manifests[::-1]):
            (location,) = plan(*order).hosts[1].locations
            assert (location.backend.endpoints, location.canary.endpoints) == ((WEB,), API)
            assert location.canary_of.weight == 20

    def test_a_canary_of_nothing_is_told(self):
        made = plan(ingress("Prefix /a api:8080", name="canary", annotations=self.CANARY))
        assert made.hosts[1].locations == ()
        assert made.warnings == (
            "Ingress default/canary: a canary of a.example/a is left out: no other Ingress has it",
        )


class TestHosts:
    def test_the_catch_all_comes_first_and_wildcards_last(self):
        made = plan(
            ingress("Prefix / web:80", host="*.example"),
            ingress("Prefix / web:80", host="z.example", name="two"),
            ingress("Prefix / api:8080", host="", name="three"),
        )
        assert [host.name for host in made.hosts] == ["_", "z.example", "*.example"]
        assert found(made, "_") == {"start /": API}

    def test_tls_takes_certificate_and_key_of_the_secret(self):
        text = {"tls.crt": "CERT", "tls.key": "KEY"}
        data = ", ".join(f"{key}: {base64.b64encode(value.encode()).decode()}" for key, value in text.items())
        secret = f"apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: s}}\ndata: {{{data}}}\n"
        made = plan(secret, ingress("Prefix / web:80", more="tls: [{hosts: [a.example], secretName: s}]"))
        assert made.certificates == {"default-s.pem": "CERT\nKEY\n"}
        assert {host.name: host.certificate for host in made.hosts} == {"_": "", "a.example": "default-s.pem"}

    def test_tls_without_its_secret_is_told_and_refused(self):
        made = plan(ingress("Prefix / web:80", more="tls: [{hosts: [a.example], secretName: s}]"))
        assert made.warnings == (
            "Ingress default/one: TLS: no Secret is called default/s: no certificate: HTTPS is refused for its hosts",
        )
        assert all(not host.certificate for host in made.hosts)

    def test_without_its_file_of_users_a_location_lets_nobody_in(self):
        wanted = ["nginx.ingress.kubernetes.io/auth-type: basic", "nginx.ingress.kubernetes.io/auth-secret: users"]
        made = plan(ingress("Prefix / web:80", annotations=wanted))
        assert made.passwords == {"default/users": ""}
        assert "nobody is let in" in made.warnings[0]


CLASSES = """\
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: ours}
spec: {controller: k8s.io/ingress-nginx}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: theirs, annotations: {ingressclass.kubernetes.io/is-default-class: "DEFAULT"}}
spec: {controller: example.com/other}
"""


class TestClasses:
    @pytest.mark.parametrize(
        ("named", "ours"),
        [
            ({"more": "ingressClassName: ours"}, True),
            ({"more": "ingressClassName: theirs"}, False),
            ({"more": "ingressClassName: nginx"}, True),
            ({"more": "ingressClassName: another"}, False),
            ({"annotations": ["kubernetes.io/ingress.class: nginx"]}, True),
            ({"annotations": ["kubernetes.io/ingress.class: other"]}, False),
            ({}, True),
        ],
    )
    def test_class_name_then_annotation_then_everybody(self, named, ours):
        seen = view(CLASSES.replace("DEFAULT", "false"), ingress("Prefix / web:80", **named))
        assert is_ours(seen.ingresses[0], seen.classes, "nginx") is ours

    def test_a_default_class_of_another_controller_takes_what_names_none(self):
        seen = view(CLASSES.replace("DEFAULT", "true"), ingress("Prefix / web:80"))
        assert not is_ours(seen.ingresses[0], seen.classes, "nginx")

    def test_others_are_not_planned_for(self):
        made = plan(ingress("Prefix / web:80", more="ingressClassName: another"))
        assert (made.handled, [host.name for host in made.hosts]) == ((), ["_"])

    def test_one_namespace_alone(self):
        assert plan(ingress("Prefix / web:80"), options=Options(watch_namespace="elsewhere")).handled == ()


def test_the_plan_is_the_same_in_whatever_order_objects_come():
    manifests = [ingress(f"Prefix /{name} web:80", name=name) for name in "abc"]
    forth, back = view(*manifests), view(*manifests)
    back.slices.reverse()
    back.services.reverse()
    from hoplab.ingress.rules import plan as decide
    from hoplab.ingress.settings import Global

    assert decide(forth, DEFAULT, Global()) == decide(back, DEFAULT, Global())


def test_the_status_names_where_an_ingress_is_served():
    (made,) = view(ingress("Prefix / web:80")).ingresses
    told = with_addresses(made, ["198.51.100.10"])
    assert told.document["status"] == {"loadBalancer": {"ingress": [{"ip": "198.51.100.10"}]}}
    assert told.document["spec"] == made.document["spec"]
