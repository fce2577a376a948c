"""What is started for a container, by its image, command and volumes; and where its environment comes from."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from hoplab.cluster import containers, pod_values
from hoplab.cluster.ingress import controller_options
from hoplab.cluster.pod_values import Place, expanded
from hoplab.ingress.rules import Options
from hoplab.kube.convert import as_pod
from hoplab.kube.load import load
from hoplab.kube.types import Container, ContainerPort, ObjectMeta, Pod

OBJECTS = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, size: "3"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
data: {password: c2VzYW1l}
---
"""


def container(image: str, *command: str, args: tuple[str, ...] = (), ports: tuple[int, ...] = ()) -> Container:
    return Container("c", image, command, args, tuple(ContainerPort(port) for port in ports))


def pod(spec: str) -> tuple[Pod, pod_values.Find]:
    text = f"{OBJECTS}apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {{app: web}}}}\nspec:\n{spec}"
    objects = {each.key: each for each in load(text, "test.yaml").objects}
    return as_pod(objects["Pod", "default", "p"]), lambda kind, namespace, name: objects.get((kind, namespace, name))


@pytest.mark.parametrize(
    ("image", "command", "args", "kind"),
    [
        ("nginx:1.25", (), (), "nginx"),
        ("docker.io/library/nginx", ("nginx", "-g", "daemon off;"), (), "nginx"),
        ("nginx", ("sh", "-c", "sleep 9"), (), "command"),
        ("busybox", ("sleep", "9"), (), "command"),
        ("busybox:1.36", (), ("sleep", "9"), "command"),
        ("busybox", (), (), "stand-in"),
        ("registry.k8s.io/pause:3.9", ("x",), (), "stand-in"),
        ("hoplab/whoami", (), (), "stand-in"),
        ("example.com/mine", ("run",), (), "stand-in"),
        ("gcr.io/google_containers/nginx-ingress-controller:0.9.0", (), (), "ingress"),
        ("registry.k8s.io/ingress-nginx/controller:v1.9.4", (), (), "ingress"),
        ("example.com/controller", (), (), "stand-in"),
    ],
)
def test_what_an_image_stands_for(image, command, args, kind):
    made = container(image, *command, args=args)
    assert containers.kind_of(made) == kind
    assert containers.is_contained(Pod(ObjectMeta("p"), (made,))) is (kind != "stand-in")


def test_nginx_is_asked_to_end_as_its_image_says():
    asked = {image: containers.stop_signal(container(image)) for image in ("nginx", "hoplab/whoami")}
    assert asked == {"nginx": signal.SIGQUIT, "hoplab/whoami": signal.SIGTERM}


class TestCommand:
    def test_variables_are_put_in_and_arguments_follow(self):
        made = containers.command(
            container("busybox", "echo", "$(A)", args=("$$(A)", "$(B)")), {"A": "1"}, lambda _: True
        )
        assert made.argv == ("echo", "1", "$(A)", "$(B)")

    def test_an_entrypoint_comes_before_the_arguments(self):
        made = containers.command(container("curlimages/curl", args=("-s", "http://web")), {}, lambda _: True)
        assert made.argv == ("curl", "-s", "http://web")

    def test_what_only_busybox_has_is_busyboxs(self):
        made = containers.command(container("busybox", "/bin/httpd", "-f"), {}, lambda name: name == "busybox")
        assert made.argv == ("busybox", "httpd", "-f")
        python = containers.command(container("python:3", "python", "-m", "x"), {}, lambda name: name == "python3")
        assert python.argv == ("python3", "-m", "x")
        own = containers.command(container("busybox", "/scripts/run.sh"), {}, lambda name: name == "busybox")
        assert own.argv == ("/scripts/run.sh",), "a volume's script is no applet"
        nowhere = containers.command(container("busybox", "httpd"), {}, lambda name: False)
        assert nowhere.argv == ("httpd",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)-$(A)", "1-1"), ("$$(A)", "$(A)"), ("$(NONE)", "$(NONE)"), ("$A $", "$A $"), ("$$$$", "$$"), ("$(A", "$(A")],
)
def test_expansion_is_kubernetes_own(text, expected):
    assert expanded(text, {"A": "1"}) == expected


class TestNginx:
    def run(self, volumes=None, **options):
        made = container("nginx", **options)
        return containers.nginx(made, Pod(ObjectMeta("p"), (made,)), "/usr/sbin/nginx", volumes or {}, ipv6=False)

    def test_by_default_port_80_and_its_page(self):
        run = self.run()
        assert run.listening == (80,)
        assert "listen 80;" in run.files["/etc/nginx/conf.d/default.conf"]
        assert any("Welcome to nginx!" in text for text in run.files.values())
        assert 'add_header X-Hoplab-Pod "p" always;' in run.files["/etc/nginx/nginx.conf"]

    def test_declared_ports_instead(self):
        assert self.run(ports=(8080, 8081)).listening == (8080, 8081)

    def test_what_is_mounted_takes_the_place_of_its_own(self):
        pages = self.run({"/usr/share/nginx/html": {"index.html": "mine"}})
        assert "root /usr/share/nginx/html;" in pages.files["/etc/nginx/conf.d/default.conf"]
        hosts = self.run({"/etc/nginx/conf.d": {"a.conf": "server { listen 8000; }"}})
        assert "/etc/nginx/conf.d/default.conf" not in hosts.files
        assert hosts.listening == (8000,)

    @pytest.mark.parametrize(
        "volumes",
        [{"/etc/nginx/nginx.conf": {"": "listen 81;"}}, {"/etc/nginx": {"nginx.conf": "listen 81;", "x": ""}}],
    )
    def test_a_whole_configuration_finds_what_its_image_has(self, volumes):
        run = self.run(volumes)
        assert "/etc/nginx/nginx.conf" not in run.files
        assert run.argv[-2:] == ("-g", "daemon off;")
        assert run.listening == (81,)
        assert "text/html html htm;" in run.files["/etc/nginx/mime.types"]

    @pytest.mark.parametrize(
        ("text", "ports"),
        [
            ("server { listen 80 default_server; listen [::]:81; listen 127.0.0.1:82; }", (80, 81, 82)),
            ("listen 443 ssl;\n# listen 9;\nlisten *:8443 ssl;", (443, 8443)),
            ("stream { server { listen 53 udp; } }", ()),
            ("listen unix:/run/x.sock; # listening 80;", ()),
        ],
    )
    def test_what_a_configuration_listens_on(self, text, ports):
        assert containers.listened({"/etc/nginx/conf.d/a.conf": text}) == ports


class TestEnvironment:
    SPEC = """\
  containers:
  - name: c
    image: busybox
    envFrom: [{configMapRef: {name: settings}, prefix: S_}, {secretRef: {name: none, optional: true}}]
    env:
    - {name: PLAIN, value: "$(S_colour)"}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: APP, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: MAYBE, valueFrom: {configMapKeyRef: {name: settings, key: none, optional: true}}}
"""

    def test_from_everywhere(self):
        made, find = pod(self.SPEC)
        found, warnings = pod_values.environment(
            made.containers[0], made, Place(("10.1.0.4",), "node1", "10.0.0.1"), find
        )
        assert warnings == []
        assert found == {
            "S_colour": "blue", "S_size": "3", "PLAIN": "blue", "PASSWORD": "sesame", "NAME": "p", "APP": "web",
            "IP": "10.1.0.4", "NODE": "node1",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("{configMapKeyRef: {name: nothing, key: x}}", "env X: no ConfigMap is called default/nothing"),
            ("{secretKeyRef: {name: keys, key: x}}", "env X: Secret default/keys has no key x"),
            ("{resourceFieldRef: {resource: limits.cpu}}", "env X: the lab can't take a value from resourceFieldRef"),
        ],
    )
    def test_what_is_not_there_is_told(self, source, words):
        made, find = pod(f"  containers: [{{name: c, image: busybox, env: [{{name: X, valueFrom: {source}}}]}}]\n")
        found, warnings = pod_values.environment(made.containers[0], made, Place(), find)
        assert (found, warnings) == ({}, [words])


class TestVolumes:
    def mounted(self, volumes: str, mounts: str):
        made, find = pod(
            f"  volumes: [{volumes}]\n  containers: [{{name: c, image: busybox, volumeMounts: [{mounts}]}}]\n"
        )
        return pod_values.volumes(made, find)

    @pytest.mark.parametrize(
        ("volume", "mount", "expected"),
        [
            ("configMap: {name: settings}", "mountPath: /s", {"/s": {"colour": "blue", "size": "3"}}),
            ("secret: {secretName: keys}", "mountPath: /s/", {"/s": {"password": "sesame"}}),
            (
                "configMap: {name: settings, items: [{key: size, path: a/b}]}",
                "mountPath: /s",
                {"/s": {"a/b": "3"}},
            ),
            ("configMap: {name: settings}", "mountPath: /s/colour, subPath: colour", {"/s/colour": {"": "blue"}}),
            ("emptyDir: {}", "mountPath: /s", {"/s": {}}),
            (
                "projected: {sources: [{secret: {name: keys}}, {configMap: {name: settings}}]}",
                "mountPath: /s",
                {"/s": {"password": "sesame", "colour": "blue", "size": "3"}},
            ),
        ],
    )
    def test_become_files(self, volume, mount, expected):
        assert self.mounted(f"{{name: v, {volume}}}", f"{{name: v, {mount}}}") == (expected, [])

    @pytest.mark.parametrize(
        ("volume", "words"),
        [
            ("configMap: {name: none}", "volume v: no ConfigMap is called default/none"),
            ("secret: {secretName: keys, items: [{key: x, path: x}]}", "volume v: Secret default/keys has no key x"),
            ("hostPath: {path: /}", "volume v: the lab has no hostPath volumes; its folder is not there"),
        ],
    )
    def test_what_can_not_be_had_is_told(self, volume, words):
        _found, warnings = self.mounted(f"{{name: v, {volume}}}", "{name: v, mountPath: /s}")
        assert warnings == [words]


class TestControllerOptions:
    def test_arguments_are_read_with_variables_put_in(self):
        made = replace(
            container("nginx-ingress-controller"),
            args=(
                "/nginx-ingress-controller",
                "--default-backend-service=$(NS)/d",
                "--ingress-class=x",
                "--http-port=81",
            ),
        )
        options, warnings = controller_options(made, {"NS": "kube-system"})
        assert (options, warnings) == (Options("x", "kube-system/d", http_port=81), [])

    def test_others_are_told(self):
        _options, warnings = controller_options(replace(container("c"), args=("--profiling=true", "--v=2")), {})
        assert warnings == ["argument --profiling=true: the lab's ingress controller does not know it"]
