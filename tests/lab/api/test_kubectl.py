"""The real kubectl, unmodified, types the calls of calls.yaml at the API and must get what stands there."""

import pytest

from tests.lab.api.calls import type_all
from tests.lab.api.rig import Rig, kubectl_path

pytestmark = pytest.mark.needs("kubectl")


def test_an_old_kubectl_is_answered_too(tmp_path):
    """Debian's, which knows the API as it was in 1.20, SPDY alone and protobuf for OpenAPI."""
    with Rig(tmp_path) as rig:
        type_all(rig, kubectl_path("debian"))
