"""One request to one answer, without a socket: paths, bodies, validation, versions, lists, deletions and refusals."""

import pytest

from hoplab.api import paths
from hoplab.api.reading import SNAPSHOTS, wish
from tests.unit.api.asking import Api

CM = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def api():
    return Api()


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name="web", version="apps/v1", **spec):
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}
    spec = {"selector": {"matchLabels": {"app": name}}, "template": template, **spec}
    return {"apiVersion": version, "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def test_what_is_created_has_what_the_api_writes(api):
    answer = api.ask("POST", f"{CM}?fieldManager=me", config_map("x", a="1"))
    metadata = answer.document["metadata"]
    assert answer.code == 201
    assert (metadata["creationTimestamp"], metadata["namespace"]) == ("2026-01-02T12:00:00Z", "default")
    assert metadata["managedFields"] == [
        {
            "apiVersion": "v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {"f:a": {}}},
            "manager": "me",
            "operation": "Update",
            "time": "2026-01-02T12:00:00Z",
        }
    ]
    assert "generation" not in metadata, "of kinds that have none"
    assert (
        "generation"
        in api.ask("POST", "/apis/apps/v1/namespaces/default/deployments", deployment()).document["metadata"]
    )


def test_who_says_no_name_manages_under_his_programs(api):
    answer = api.ask("POST", CM, config_map("x", a="1"))
    assert answer.document["metadata"]["managedFields"][0]["manager"] == "tester"


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"kind": "Secret"}, 400, "the object provided is unrecognized"),
        ({"apiVersion": "v2"}, 400, "does not match the expected API version (v1)"),
        ({"metadata": {"name": "x", "namespace": "other"}}, 400, "the namespace of the provided object does not match"),
        ({"metadata": {"name": "x", "resourceVersion": "3"}}, 400, "resourceVersion should not be set"),
        ({"metadata": {}}, 422, 'ConfigMap "" is invalid: metadata.name: Required value'),
        (
            {"data": {"a": 1}},
            400,
            'ConfigMap in version "v1" cannot be handled as a ConfigMap: data.a: expected a string',
        ),
        ({"data": {"a b": "1"}}, 422, 'ConfigMap "x" is invalid: data.a b: Invalid value'),
    ],
)
def test_what_is_wrong_with_a_body_is_told(api, change, code, message):
    refused = api.refused("POST", CM, {**config_map("x"), **change})
    assert refused.code == code
    assert message.split(": ")[0] in str(refused)


@pytest.mark.parametrize(
    ("validation", "refused", "warned"), [("Strict", True, False), ("Warn", False, True), ("Ignore", False, False)]
)
def test_unknown_and_doubled_fields_are_refused_warned_of_or_dropped(api, validation, refused, warned):
    text = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"dota":{},"data":{"a":"1","a":"2"}}'
    path = f"{CM}?fieldValidation={validation}"
    if refused:
        told = str(api.refused("POST", path, text))
        assert told.endswith('strict decoding error: duplicate field "data.a", unknown field "dota"')
        return
    answer = api.ask("POST", path, text)
    assert ('unknown field "dota"' in answer.warnings) is warned
    assert answer.document["data"] == {"a": "2"}
    assert "dota" not in answer.document


def test_invalid_objects_have_a_cause_for_each_fault(api):
    ports = [{"port": 70000}, {"port": 80, "nodePort": 31000}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": ports}}
    refused = api.refused("POST", "/api/v1/namespaces/default/services", service)
    document = refused.document()
    assert (document["code"], document["reason"]) == (422, "Invalid")
    assert (document["details"]["name"], document["details"]["kind"]) == ("x", "Service")
    causes = {each["field"]: each["reason"] for each in document["details"]["causes"]}
    assert causes["spec.ports[0].port"] == "FieldValueInvalid"
    assert causes["spec.ports[0].name"] == "FieldValueRequired"


def test_a_dry_run_changes_nothing(api):
    before = api.store.version
    assert api.ask("POST", f"{CM}?dryRun=All", config_map("x")).code == 201
    assert api.refused("GET", f"{CM}/x").code == 404
    api.ask("POST", CM, config_map("x", a="1"))
    patch = api.ask("PATCH", f"{CM}/x?dryRun=All", {"data": {"a": "2"}}, "application/merge-patch+json")
    assert patch.document["data"] == {"a": "2"}
    assert api.ask("DELETE", f"{CM}/x?dryRun=All").code == 200
    assert api.get(f"{CM}/x")["data"] == {"a": "1"}
    assert api.store.version == before + 1


def test_an_update_of_another_version_is_a_conflict(api):
    first = dict(api.ask("POST", CM, config_map("x", a="1")).document)
    api.ask("PUT", f"{CM}/x", {**first, "data": {"a": "2"}})
    refused = api.refused("PUT", f"{CM}/x", {**first, "data": {"a": "3"}})
    assert str(refused) == (
        'Operation cannot be fulfilled on configmaps "x": the object has been modified; please apply your changes to'
        " the latest version and try again"
    )
    assert (refused.code, refused.reason, refused.document()["details"]) == (
        409,
        "Conflict",
        {"name": "x", "kind": "configmaps"},
    )


def test_the_status_is_written_by_its_own_path_only(api):
    path = "/apis/apps/v1/namespaces/default/deployments"
    made = dict(api.ask("POST", path, deployment()).document)
    through = api.ask("PUT", f"{path}/web", {**made, "status": {"replicas": 9}}).document
    assert through["status"] == {}
    patch = {"spec": {"replicas": 9}, "status": {"replicas": 7}}
    done = api.ask("PATCH", f"{path}/web/status", patch, "application/merge-patch+json").document
    assert (done["spec"]["replicas"], done["status"]["replicas"]) == (1, 7)


@pytest.mark.parametrize(
    ("kind", "first", "then", "message"),
    [
        ("deployments", deployment(), {"spec": {"selector": {"matchLabels": {"app": "y"}}}}, "is invalid"),
        ("deployments", deployment(), {"metadata": {"name": "y"}}, "field is immutable"),
    ],
)
def test_what_is_fixed_stays(api, kind, first, then, message):
    path = f"/apis/apps/v1/namespaces/default/{kind}"
    api.ask("POST", path, first)
    refused = api.refused("PATCH", f"{path}/web", then, content_type="application/merge-patch+json")
    assert refused.code == 422
    assert message in str(refused)


def test_old_versions_are_other_words_for_the_same_object(api):
    backend = {"serviceName": "web", "servicePort": 80}
    rules = [{"http": {"paths": [{"path": "/welcome", "backend": backend}]}}]
    old = {"apiVersion": "extensions/v1beta1", "kind": "Ingress", "metadata": {"name": "i"}, "spec": {"rules": rules}}
    answer = api.ask("POST", "/apis/extensions/v1beta1/namespaces/default/ingresses", old)
    assert answer.warnings[0].startswith("extensions/v1beta1 Ingress is deprecated in v1.14+")
    assert answer.document["spec"]["rules"][0]["http"]["paths"][0]["backend"] == backend
    now = api.get("/apis/networking.k8s.io/v1/namespaces/default/ingresses/i")
    service = {"name": "web", "port": {"number": 80}}
    assert now["spec"]["rules"][0]["http"]["paths"][0]["backend"] == {"service": service}
    plain = deployment("old", "apps/v1beta1")
    del plain["spec"]["selector"]
    made = api.ask("POST", "/apis/apps/v1beta1/namespaces/default/deployments", plain).document
    assert (made["apiVersion"], made["spec"]["selector"]) == ("apps/v1beta1", {"matchLabels": {"app": "old"}})


def test_events_have_two_groups_with_words_of_their_own(api):
    about = {"kind": "Pod", "name": "p", "namespace": "default"}
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": about, "reason": "R"}
    api.ask("POST", "/api/v1/namespaces/default/events", {**event, "message": "hello", "type": "Normal"})
    other = api.get("/apis/events.k8s.io/v1/namespaces/default/events/e")
    assert (other["regarding"], other["note"]) == (about, "hello")
    selected = api.get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name=p,reason=R")
    assert len(selected["items"]) == 1


def test_a_list_in_pieces_is_of_one_moment_and_expires(api):
    for number in range(5):
        api.ask("POST", CM, config_map(f"c{number}"))
    first = api.get(f"{CM}?limit=2")
    assert first["metadata"]["remainingItemCount"] == 3
    api.ask("DELETE", f"{CM}/c3")
    token = first["metadata"]["continue"]
    rest = api.get(f"{CM}?continue={token}")
    assert [each["metadata"]["name"] for each in rest["items"]] == ["c2", "c3", "c4"]
    for _ in range(SNAPSHOTS):
        api.get(f"{CM}?limit=1")
    assert api.refused("GET", f"{CM}?continue={token}").reason == "Expired"


def test_versions_of_the_future_and_of_the_past(api):
    assert api.refused("GET", f"{CM}?resourceVersion=9999").code == 504
    assert api.refused("GET", f"{CM}?resourceVersion=1&resourceVersionMatch=Exact").code == 410


def test_a_watch_sees_objects_come_under_its_field_selector_and_leave(api):
    spec = {"containers": [{"name": "c", "image": "x"}]}
    pods = "/api/v1/namespaces/default/pods"
    target = paths.parse(pods)
    watch = api.service.reader.watch(wish(target, {"fieldSelector": "spec.nodeName=node1"}))
    assert list(watch.news()) == []
    api.ask("POST", pods, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
    assert list(watch.news()) == [], "it is on no node yet"
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "node1"}}
    assert api.ask("POST", f"{pods}/p/binding", binding).code == 201
    assert [event.type for event in watch.news()] == ["ADDED"]
    api.ask("DELETE", f"{pods}/p?gracePeriodSeconds=0")
    assert [event.type for event in watch.news()] == ["DELETED"]
    assert api.refused("POST", f"{pods}/p/binding", binding).code == 404


def test_deleting_waits_for_finalizers_and_grace(api):
    api.ask("POST", CM, {**config_map("x"), "metadata": {"name": "x", "finalizers": ["example.com/wait"]}})
    waiting = api.ask("DELETE", f"{CM}/x").document
    assert waiting["metadata"]["deletionTimestamp"]
    api.ask("PATCH", f"{CM}/x", {"metadata": {"finalizers": None}}, "application/merge-patch+json")
    assert api.refused("GET", f"{CM}/x").code == 404
    pods = "/api/v1/namespaces/default/pods"
    spec = {"nodeName": "node1", "containers": [{"name": "c", "image": "x"}], "terminationGracePeriodSeconds": 7}
    api.ask("POST", pods, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
    assert api.ask("DELETE", f"{pods}/p").document["metadata"]["deletionGracePeriodSeconds"] == 7
    assert api.ask("DELETE", f"{pods}/p", {"gracePeriodSeconds": 0}).code == 200
    assert api.refused("GET", f"{pods}/p").code == 404


def test_deleting_on_conditions(api):
    api.ask("POST", CM, config_map("x"))
    refused = api.refused("DELETE", f"{CM}/x", {"preconditions": {"uid": "another"}})
    assert (refused.code, refused.reason) == (409, "Conflict")
    assert api.refused("DELETE", f"{CM}/x", {"propagationPolicy": "Sideways"}).code == 422
    gone = api.ask("DELETE", f"{CM}/x").document
    assert (gone["status"], gone["details"]["kind"]) == ("Success", "configmaps")


def test_a_namespace_that_ends_takes_nothing_new(api):
    api.ask("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})
    api.ask("DELETE", "/api/v1/namespaces/n")
    refused = api.refused("POST", "/api/v1/namespaces/n/configmaps", config_map("x"))
    assert (refused.code, refused.causes[0]["reason"]) == (403, "NamespaceTerminating")
    assert api.refused("POST", "/api/v1/namespaces/nowhere/configmaps", config_map("x")).code == 404
    assert api.refused("DELETE", "/api/v1/namespaces/default").code == 403


def test_secrets_take_plain_text_and_keep_it_encoded(api):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}
    made = api.ask("POST", "/api/v1/namespaces/default/secrets", secret).document
    assert (made["type"], made["data"]) == ("Opaque", {"a": "Yg=="})
    assert "stringData" not in made


def test_scale(api):
    path = "/apis/apps/v1/namespaces/default/deployments"
    api.ask("POST", path, deployment())
    scale = api.get(f"{path}/web/scale")
    assert (scale["apiVersion"], scale["spec"], scale["status"]["selector"]) == (
        "autoscaling/v1",
        {"replicas": 1},
        "app=web",
    )
    patched = api.ask("PATCH", f"{path}/web/scale", {"spec": {"replicas": 4}}, "application/merge-patch+json")
    assert patched.document["spec"] == {"replicas": 4}
    assert api.get(f"{path}/web")["spec"]["replicas"] == 4
    stale = {**scale, "spec": {"replicas": 2}}
    assert api.refused("PUT", f"{path}/web/scale", stale).reason == "Conflict"
    assert (
        api.refused(
            "PATCH", f"{path}/web/scale", {"spec": {"replicas": -1}}, content_type="application/merge-patch+json"
        ).code
        == 422
    )


def test_reviews(api):
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

    def allowed(**attributes):
        return api.ask("POST", path, {**review, "spec": {"resourceAttributes": attributes}}).document["status"][
            "allowed"
        ]

    assert allowed(verb="create", resource="pods")
    assert not allowed(verb="create", resource="unicorns")
    assert not allowed(verb="fly", resource="pods")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("DELETE", "/api/v1/pods", 200),
        ("POST", "/api/v1/pods", 405),
        ("PUT", "/api/v1/namespaces/default/pods", 405),
        ("POST", "/api/v1/namespaces/default/pods/x", 405),
        ("DELETE", "/api/v1/namespaces/default/pods/x/log", 405),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405),
    ],
)
def test_verbs_that_a_path_has_not(api, method, path, code):
    if code == 200:
        assert api.ask(method, path).code == 200
    else:
        assert api.refused(method, path, {}).code == code


def test_network_policies_are_kept_and_said_to_have_no_effect(api):
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "n"}}
    answer = api.ask(
        "POST", "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies", {**policy, "spec": {"podSelector": {}}}
    )
    assert "nothing enforces them" in answer.warnings[0]


def test_a_service_that_is_no_longer_balanced_gives_its_address_and_ports_back(api):
    path = "/api/v1/namespaces/default/services"
    spec = {"type": "LoadBalancer", "selector": {"a": "b"}, "ports": [{"port": 80}]}
    api.ask("POST", path, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec})
    given = {"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.10"}]}}}
    api.ask("PATCH", f"{path}/s/status", given, "application/merge-patch+json")
    for kind in ("NodePort", "ClusterIP"):
        changed = api.ask("PATCH", f"{path}/s", {"spec": {"type": kind}}, "application/merge-patch+json").document
        assert changed["status"] == {"loadBalancer": {}}
        assert ("nodePort" in changed["spec"]["ports"][0]) is (kind == "NodePort")
    assert api.ask("DELETE", f"{path}/s").document["kind"] == "Service", "as it last was"


def container(**fields):
    made = deployment()
    made["spec"]["template"]["spec"]["containers"][0].update(fields)
    return made


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (deployment(replicas="x"), "string into Go struct field DeploymentSpec.spec.replicas of type int32"),
        (deployment(replicas=1.5), "number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"),
        (
            container(env=[{"name": "A", "value": 1}]),
            "number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
        ),
        (
            container(ports={}),
            "object into Go struct field Container.spec.template.spec.containers.ports of type []v1.ContainerPort",
        ),
        (
            {**deployment(), "metadata": {"name": "web", "labels": {"a": True}}},
            "bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        ({**deployment(), "spec": "x"}, "string into Go struct field Deployment.spec of type v1.DeploymentSpec"),
    ],
)
def test_a_field_of_a_wrong_type_is_told_as_gos_decoder_tells_it(api, document, told):
    refused = api.refused("POST", "/apis/apps/v1/namespaces/default/deployments", document)
    prefix = 'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal '
    assert str(refused) == prefix + told
