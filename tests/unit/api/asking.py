"""A Service of the API with short ways to ask it, on a store of its own."""

import json
import random
import uuid
from datetime import UTC, datetime

import pytest

from hoplab.api import paths
from hoplab.api.reading import Reader
from hoplab.api.registry import Registry
from hoplab.api.service import Request, Service
from hoplab.api.status import ApiError
from hoplab.kube.admit import Ranges
from hoplab.kube.objects import object_of
from hoplab.kube.store import Store

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Api:
    """A Service with short ways to ask it."""

    def __init__(self):
        chance = random.Random(1)
        self.store = Store(lambda: str(uuid.UUID(int=chance.getrandbits(128))))
        for name in ("default", "kube-system"):
            spec = {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
            self.store.create(object_of({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, **spec}))
        ranges = Ranges(("10.0.0.0/16",), range(30000, 32768))
        self.service = Service(Registry(self.store, ranges, chance, lambda: NOW), Reader(self.store))

    def ask(self, method, path, body=None, content_type="application/json", accept="application/json"):
        raw, _mark, text = path.partition("?")
        query = dict(pair.partition("=")[::2] for pair in text.split("&") if pair)
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        request = Request(method, paths.parse(raw), query, content_type, accept, "tester/1.0 (x)", data)
        return self.service.answer(request)

    def get(self, path):
        return self.ask("GET", path).document

    def refused(self, *arguments, **more):
        with pytest.raises(ApiError) as refused:
            self.ask(*arguments, **more)
        return refused.value
