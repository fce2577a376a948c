"""Addons: each is a manifest that can be loaded, all of it in kube-system; an unknown name lists those there are."""

import pytest

from hoplab import addons
from hoplab.errors import InputError


@pytest.mark.parametrize("name", addons.ADDONS)
def test_each_is_objects_of_kube_system(name):
    loaded = addons.objects([name])
    assert loaded.warnings == ()
    assert {each.meta.namespace for each in loaded.objects} == {"kube-system"}
    assert addons.find(name).purpose


def test_the_ingress_addon_is_what_the_chapter_shows():
    kinds = sorted((each.kind, each.meta.name) for each in addons.objects(["ingress"]).objects)
    assert kinds == [
        ("ConfigMap", "nginx-load-balancer-conf"),
        ("ReplicationController", "default-http-backend"),
        ("ReplicationController", "nginx-ingress-controller"),
        ("Service", "default-http-backend"),
        ("Service", "nginx-ingress-controller"),
    ]


def test_an_unknown_name():
    with pytest.raises(InputError, match=r"no addon is called 'ingres'; there are: .*ingress"):
        addons.objects(["ingres"])
