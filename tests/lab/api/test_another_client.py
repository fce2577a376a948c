"""The essence of the table once more, at a lab, by a client that is not kubectl: Kubernetes' own for Python."""

import random
import threading

import pytest
from kubernetes import client, config, utils, watch
from kubernetes.stream import stream

from tests import waiting
from tests.lab.api.rig import PATIENCE_S, Lab
from tests.lab.labs.labtool import somebody

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    with somebody(folder / "run") as user, Lab(folder / "lab", user, "lab") as made:
        yield made


@pytest.fixture(scope="module")
def api(lab):
    return config.new_client_from_config(str(lab.kubeconfig))


@pytest.fixture(scope="module")
def core(api):
    return client.CoreV1Api(api)


@pytest.fixture(scope="module")
def apps(api):
    return client.AppsV1Api(api)


def until(condition, what):
    return waiting.until(condition, what, PATIENCE_S)


def deployment(name, replicas=2):
    labels = {"app": name}
    container = client.V1Container(name="nginx", image="nginx:1.24", ports=[client.V1ContainerPort(container_port=80)])
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels), spec=client.V1PodSpec(containers=[container])
    )
    selector = client.V1LabelSelector(match_labels=labels)
    spec = client.V1DeploymentSpec(replicas=replicas, selector=selector, template=template)
    return client.V1Deployment(metadata=client.V1ObjectMeta(name=name, labels=labels), spec=spec)


def test_a_deployment_is_made_scaled_patched_and_deleted(apps, core):
    made = apps.create_namespaced_deployment("default", deployment("py"))
    assert (made.spec.strategy.type, made.spec.revision_history_limit) == ("RollingUpdate", 10)
    until(lambda: apps.read_namespaced_deployment("py", "default").status.ready_replicas == 2, "two pods are ready")
    apps.patch_namespaced_deployment_scale("py", "default", {"spec": {"replicas": 3}})
    assert apps.read_namespaced_deployment_scale("py", "default").spec.replicas == 3
    until(lambda: len(core.list_namespaced_pod("default", label_selector="app=py").items) == 3, "there are three pods")
    image = {"spec": {"template": {"spec": {"containers": [{"name": "nginx", "image": "nginx:1.25"}]}}}}
    patched = apps.patch_namespaced_deployment("py", "default", image)
    assert patched.spec.template.spec.containers[0].image == "nginx:1.25"
    assert patched.metadata.generation == 3
    apps.delete_namespaced_deployment("py", "default", propagation_policy="Foreground")
    until(lambda: not core.list_namespaced_pod("default", label_selector="app=py").items, "its pods are gone")


def test_what_somebody_else_changed_meanwhile_is_a_conflict(core):
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="race"), data={"a": "1"})
    first = core.create_namespaced_config_map("default", body)
    core.patch_namespaced_config_map("race", "default", {"data": {"a": "2"}})
    first.data["a"] = "3"
    with pytest.raises(client.ApiException) as refused:
        core.replace_namespaced_config_map("race", "default", first)
    assert refused.value.status == 409
    assert '"reason":"Conflict"' in refused.value.body


def test_a_list_in_pieces_is_one_list(core):
    for number in range(7):
        metadata = client.V1ObjectMeta(name=f"piece-{number}", labels={"of": "pieces"})
        core.create_namespaced_secret("default", client.V1Secret(metadata=metadata, string_data={"n": str(number)}))
    names, token, version = [], None, None
    for _ in range(3):
        page = core.list_namespaced_secret("default", label_selector="of=pieces", limit=3, _continue=token)
        names += [each.metadata.name for each in page.items]
        assert version in (None, page.metadata.resource_version), "all pieces are of one snapshot"
        token, version = page.metadata._continue, page.metadata.resource_version
        core.delete_namespaced_secret(names[0], "default") if len(names) == 3 else None
    assert names == [f"piece-{n}" for n in range(7)]
    assert token is None


def test_a_watch_tells_changes_in_order_and_through_its_selectors(core):
    listed = core.list_namespaced_config_map("default", label_selector="watched=yes")
    seen = []

    def look():
        for event in watch.Watch().stream(
            core.list_namespaced_config_map,
            "default",
            label_selector="watched=yes",
            resource_version=listed.metadata.resource_version,
            timeout_seconds=20,
        ):
            seen.append((event["type"], event["object"].metadata.name))
            if len(seen) == 4:
                return

    looking = threading.Thread(target=look)
    looking.start()
    labels = {"watched": "yes"}
    for name in ("w1", "w2"):
        metadata = client.V1ObjectMeta(name=name, labels=labels)
        core.create_namespaced_config_map("default", client.V1ConfigMap(metadata=metadata))
    core.patch_namespaced_config_map("w1", "default", {"metadata": {"labels": {"watched": "no"}}})
    core.delete_namespaced_config_map("w2", "default")
    looking.join(PATIENCE_S)
    assert seen == [("ADDED", "w1"), ("ADDED", "w2"), ("DELETED", "w1"), ("DELETED", "w2")]


def test_server_side_apply_keeps_what_others_own(core):
    def apply(manager, data, **more):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owned"}, "data": data}
        return core.patch_namespaced_config_map(
            "owned", "default", body, field_manager=manager, _content_type="application/apply-patch+yaml", **more
        )

    apply("one", {"a": "1", "b": "1"})
    assert apply("two", {"c": "2"}).data == {"a": "1", "b": "1", "c": "2"}
    with pytest.raises(client.ApiException) as refused:
        apply("two", {"a": "2"})
    assert refused.value.status == 409
    assert 'conflict with \\"one\\" using v1: .data.a' in refused.value.body
    assert apply("two", {"a": "2"}, force=True).data == {"a": "2", "b": "1"}
    assert apply("one", {"b": "1"}).data == {"a": "2", "b": "1"}
    assert apply("one", {}).data == {"a": "2"}


def test_manifests_and_services(api, core):
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "py"},
        "spec": {"type": "NodePort", "selector": {"app": "x"}, "ports": [{"port": 80}]},
    }
    utils.create_from_dict(api, service)
    found = core.read_namespaced_service("py", "default")
    assert found.spec.cluster_ip.startswith("10.")
    assert found.spec.ports[0].node_port in range(30000, 32768)
    found.spec.type = "ClusterIP"
    assert core.replace_namespaced_service("py", "default", found).spec.ports[0].node_port is None
    core.delete_collection_namespaced_service("default")
    assert core.list_namespaced_service("default").items == []


def test_exec_and_logs(core):
    spec = client.V1PodSpec(
        containers=[client.V1Container(name="c", image="nginx")], termination_grace_period_seconds=1
    )
    core.create_namespaced_pod("default", client.V1Pod(metadata=client.V1ObjectMeta(name="py"), spec=spec))
    until(lambda: core.read_namespaced_pod("py", "default").status.phase == "Running", "the pod runs")
    output = stream(
        core.connect_get_namespaced_pod_exec,
        "py",
        "default",
        command=["sh", "-c", "hostname; echo errors >&2"],
        stderr=True,
        stdout=True,
        stdin=False,
        tty=False,
    )
    assert sorted(output.splitlines()) == ["errors", "py"]
    assert "nginx" in until(lambda: core.read_namespaced_pod_log("py", "default"), "nginx has said something")


KINDS_OF_SERVICE = ("ClusterIP", "NodePort", "LoadBalancer")
HARMLESS = (404, 409)
"""What somebody else deleted, made or changed meanwhile."""


def write(core, apps, dice, label):
    """One write, or a list, that a throw of dice chooses."""
    name, kind = f"shared-{dice.randrange(4)}", dice.choice(KINDS_OF_SERVICE)
    service = {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}}
    annotations = {"spec": {"template": {"metadata": {"annotations": {"by": label}}}}}
    ways = (
        lambda: apps.create_namespaced_deployment("default", deployment(name, dice.randrange(3))),
        lambda: apps.patch_namespaced_deployment(name, "default", annotations),
        lambda: apps.patch_namespaced_deployment_scale(name, "default", {"spec": {"replicas": 2}}),
        lambda: apps.delete_namespaced_deployment(name, "default", propagation_policy="Foreground"),
        lambda: core.create_namespaced_service("default", service),
        lambda: core.patch_namespaced_service(name, "default", {"spec": {"type": kind}}),
        lambda: core.delete_namespaced_service(name, "default"),
        lambda: core.list_pod_for_all_namespaces(limit=3),
    )
    dice.choice(ways)()


def meddle(lab, number, refused):
    """One of several clients that change the same few objects at the same time."""
    api = config.new_client_from_config(str(lab.kubeconfig))
    core, apps, dice = client.CoreV1Api(api), client.AppsV1Api(api), random.Random(number)
    for step in range(60):
        try:
            write(core, apps, dice, f"{number}-{step}")
        except client.ApiException as error:
            if error.status not in HARMLESS:
                refused.append(error.body)


def test_clients_that_meddle_with_the_same_objects_end_with_a_cluster_that_is_whole(lab, core, apps):
    refused = []
    meddlers = [threading.Thread(target=meddle, args=(lab, number, refused)) for number in range(4)]
    for each in meddlers:
        each.start()
    for each in meddlers:
        each.join(PATIENCE_S)
        assert not each.is_alive(), "every request is answered"
    assert refused == []

    def whole():
        found = apps.list_namespaced_deployment("default").items
        pods = [pod for pod in core.list_namespaced_pod("default").items if pod.metadata.owner_references]
        ready = all((each.status.ready_replicas or 0) == each.spec.replicas for each in found)
        deleting = any(each.metadata.deletion_timestamp for each in (*found, *pods))
        return ready and not deleting and len(pods) == sum(each.spec.replicas for each in found)

    until(whole, "every Deployment has its pods, and there are no others")
