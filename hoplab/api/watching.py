"""A watch on the wire: one JSON document a change, as they happen, until the client or its time-out ends it.

Nothing is queued for a client: a watch remembers the last change that it told, and reads on
from the store when the client took that.  One that is too slow for the store's memory is told
410 and must list again.
Source: apiserver's pkg/endpoints/handlers/watch.go and the API's "watch bookmarks".
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from hoplab.api import tables
from hoplab.api.reading import INITIAL_EVENTS_END, Watch, Wish
from hoplab.api.registry import served
from hoplab.api.service import Request, Service
from hoplab.api.status import ApiError
from hoplab.kube.store import Event

LONGEST_S = 3600.0
BOOKMARK_S = 60.0


class Watcher:
    """Serves one watch."""

    def __init__(self, service: Service, asked: Wish, request: Request) -> None:
        self._service, self._asked, self._request = service, asked, request
        self._form = tables.wanted(request.accept)
        self._headed = False
        self._watch: Watch = service.reader.watch(asked)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Until it ends."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def changed() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(news.set)

        stop = self._service.registry.store.subscribe(changed)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            longest = LONGEST_S if self._asked.timeout is None else min(self._asked.timeout, LONGEST_S)
            # A client that was told nothing for its time-out asks again, not all of them at once.
            ending = loop.time() + (longest or random.uniform(LONGEST_S / 2, LONGEST_S))
            await self._tell(response, news, ending)
            await response.write_eof()
        except ConnectionError:
            pass  # The client is gone, as watches mostly end.
        finally:
            stop()
        return response

    async def _tell(self, response: web.StreamResponse, news: asyncio.Event, ending: float) -> None:
        loop = asyncio.get_running_loop()
        initial = self._asked.initial
        next_bookmark = loop.time() + BOOKMARK_S
        while True:
            news.clear()
            try:
                events = self._watch.news()
            except ApiError as error:
                await response.write(_line("ERROR", error.document()))
                return
            if events:
                await response.write(b"".join(self._told(event) for event in events))
            if initial:
                initial = False
                await response.write(self._bookmark({INITIAL_EVENTS_END: "true"}))
            now = loop.time()
            if now >= ending:
                return
            if self._asked.bookmarks and now >= next_bookmark:
                next_bookmark = now + BOOKMARK_S
                await response.write(self._bookmark({}))
            try:
                until = min(ending, next_bookmark) if self._asked.bookmarks else ending
                async with asyncio.timeout(max(until - now, 0)):
                    await news.wait()
            except TimeoutError:
                continue

    def _told(self, event: Event) -> bytes:
        resource = self._asked.target.resource
        document: Mapping[str, Any] = served(event.object, resource)
        if self._form.form == "Table":
            include = self._request.query.get("includeObject", "Metadata")
            metadata = {"resourceVersion": document["metadata"].get("resourceVersion", "")}
            now, first = self._service.registry.now(), not self._headed
            document = tables.table([document], resource, metadata, self._form.version, include, now, headed=first)
            self._headed = True
        elif self._form.form == "Metadata":
            document = tables.partial(document, self._form.version)
        return _line(event.type, document)

    def _bookmark(self, annotations: Mapping[str, str]) -> bytes:
        resource = self._asked.target.resource
        metadata: dict[str, Any] = {"resourceVersion": str(self._watch.version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = dict(annotations)
        document = {"kind": resource.kind, "apiVersion": resource.group_version, "metadata": metadata}
        return _line("BOOKMARK", document)


def _line(kind: str, document: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": document}, separators=(",", ":")).encode() + b"\n"
