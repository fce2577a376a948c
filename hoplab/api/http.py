"""The HTTP side of the API: who may ask, which handler answers, and how refusals, watches and logs are written.

Every request needs the lab's token.  A body is read to at most 3 MB and in bounded time; what
lasts (watches, logs, streams) is counted and limited, so that no client can take more than its
share of a lab's memory.
Source: apiserver's filters and handlers; the limits of bodies are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from hoplab.api import discovery, logs, openapi_documents, openapi_protobuf, paths, status, users, version
from hoplab.api.limits import BODY_BYTES, Limits
from hoplab.api.podaccess import PodAccess, PodAccessError
from hoplab.api.podstreams import PodStreams, container_of, expect_started, pod_name
from hoplab.api.reading import wish
from hoplab.api.registry import Answer, Target
from hoplab.api.service import Request, Service, verb_of
from hoplab.api.status import ApiError
from hoplab.api.watching import Watcher
from hoplab.errors import HoplabError

LOG = logging.getLogger(__name__)
_HEALTH = ("/healthz", "/livez", "/readyz")
_PROTOBUF = "application/com.github.proto-openapi.spec.v2"


class Front:
    """Answers HTTP requests with a Service, and streams with a PodAccess."""

    def __init__(self, service: Service, access: PodAccess, token: str, limits: Limits) -> None:
        self._service, self._token, self._limits = service, token, limits
        self._access = access
        self._streams = PodStreams(service.registry, access)
        self._lasting = 0

    @property
    def middleware(self) -> Middleware:
        """All of the application: what stands behind it is never asked."""

        @web.middleware
        async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self.handle(request)

        return answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request to any answer; refusals are Status objects, and so is a defect."""
        try:
            self._authenticate(request)
            return await self._route(request)
        except ApiError as error:
            return refusal(error)
        except PodAccessError as error:
            return refusal(status.bad_request(str(error)))
        except web.HTTPRequestEntityTooLarge:
            return refusal(too_large())
        except TimeoutError:
            message = "Timeout: the request did not arrive in time"
            return refusal(ApiError(504, "Timeout", message), close=True)
        except HoplabError as error:
            return refusal(ApiError(500, "InternalError", f"Internal error occurred: {error}"))
        except (web.HTTPException, ConnectionError):
            raise
        except Exception as error:
            LOG.exception("%s %s", request.method, request.rel_url)
            message = f"Internal error occurred: {type(error).__name__}: {error}"
            return refusal(ApiError(500, "InternalError", message))

    def _authenticate(self, request: web.Request) -> None:
        scheme, _space, given = request.headers.get("Authorization", "").partition(" ")
        right = scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token.encode())
        if not right:
            raise ApiError(401, "Unauthorized", "Unauthorized")

    async def _route(self, request: web.Request) -> web.StreamResponse:
        raw = request.raw_path.partition("?")[0]
        path = raw.rstrip("/") or "/"
        if request.method == "GET":
            fixed = self._fixed(path, request)
            if fixed is not None:
                return fixed
        elif request.method not in ("POST", "PUT", "PATCH", "DELETE"):
            raise status.method_not_allowed()
        target = paths.parse(raw)
        query = dict(request.query)
        user = users.asking(
            request.headers.get("Impersonate-User", ""), request.headers.getall("Impersonate-Group", [])
        )
        if target.subresource in ("exec", "attach", "portforward"):
            users.expect_allowed(user, "create" if request.method == "POST" else "get", target)
            with self._counted():
                return await self._streams.handle(request, target)
        asked = Request(
            request.method,
            target,
            query,
            request.headers.get("Content-Type", ""),
            request.headers.get("Accept", ""),
            request.headers.get("User-Agent", ""),
            await self._body(request),
            user,
        )
        verb = verb_of(asked)
        users.expect_allowed(user, verb, target)
        if target.subresource == "log":
            return await self._log(request, target)
        if verb == "watch":
            with self._counted():
                watcher = Watcher(self._service, wish(target, query), asked)
                return await watcher.serve(request)
        return written(self._service.answer(asked))

    def _fixed(self, path: str, request: web.Request) -> web.Response | None:
        """The documents that are the same for all: discovery, OpenAPI, version, health."""
        accept = request.headers.get("Accept", "")
        if path in _HEALTH:
            verbose = f"[+]ping ok\n{path[1:]} check passed\n"
            return web.Response(text=verbose if "verbose" in request.query else "ok")
        if path.removesuffix("/ping") in _HEALTH:
            return web.Response(text="ok")
        if path == "/version":
            return document(version.version())
        if path == "/":
            return document(discovery.root_paths())
        if path in ("/api", "/apis"):
            for each in ("v2", "v2beta1"):
                if f"v={each}" in accept and "as=APIGroupDiscoveryList" in accept:
                    return _aggregated(path == "/api", each, request)
            host = request.headers.get("Host", "")
            return document(discovery.core_versions(host) if path == "/api" else discovery.group_list())
        if path == discovery.CUSTOM_RESOURCES:
            return document(discovery.no_custom_resources())
        if path == "/openapi/v2":
            return _openapi_2(accept)
        if path.startswith("/openapi/v3") or path.count("/") in (2, 3):
            return _by_group(path.strip("/").split("/"))
        return None

    async def _body(self, request: web.Request) -> bytes:
        if (request.content_length or 0) > BODY_BYTES:
            raise too_large()
        if not request.can_read_body:
            return b""
        async with asyncio.timeout(self._limits.body):
            return await request.read()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        if self._lasting >= self._limits.lasting:
            message = f"the lab serves {self._limits.lasting} watches and streams at a time; try again later"
            raise ApiError(429, "TooManyRequests", message, retry_after=1)
        self._lasting += 1
        try:
            yield
        finally:
            self._lasting -= 1

    async def _log(self, request: web.Request, target: Target) -> web.StreamResponse:
        pod = self._service.registry.get(target)
        wanted = logs.options(dict(request.query), self._service.registry.now())
        container = container_of(pod, request.query.get("container", ""))
        if not pod.spec.get("nodeName"):
            return web.Response(text="")  # As in a cluster: nobody has a log, and nobody says so.
        if not wanted.previous:
            expect_started(pod, container)
        with self._counted():
            log = await asyncio.to_thread(self._access.log, pod_name(pod), container, wanted.previous)
            response = web.StreamResponse(headers={"Content-Type": "text/plain"})
            response.enable_chunked_encoding()
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                async with contextlib.aclosing(logs.pieces(log, wanted)) as pieces:
                    async for piece in pieces:
                        await response.write(piece)
                await response.write_eof()
            return response


def too_large() -> ApiError:
    """413."""
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {BODY_BYTES}")


def document(content: Mapping[str, Any], code: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    text = json.dumps(content, separators=(",", ":"))
    return web.Response(status=code, text=text + "\n", content_type="application/json", headers=headers)


def refusal(error: ApiError, *, close: bool = False) -> web.Response:
    """A Status."""
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    response = document(error.document(), error.code, headers)
    if close or error.code == 413:
        response.force_close()
    return response


def written(answer: Answer) -> web.Response:
    """An answer with its warnings."""
    response = document(answer.document, answer.code)
    for text in answer.warnings:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"').encode("ascii", "replace").decode()
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


def _aggregated(core: bool, which: str, request: web.Request) -> web.Response:
    content, tag = discovery.aggregated(core, which)
    kind = f"application/json;g=apidiscovery.k8s.io;v={which};as=APIGroupDiscoveryList"
    headers = {"ETag": f'"{tag}"', "Vary": "Accept"}
    if request.headers.get("If-None-Match") == f'"{tag}"':
        return web.Response(status=304, headers=headers)
    text = json.dumps(content, separators=(",", ":"))
    return web.Response(body=text.encode(), headers={**headers, "Content-Type": kind})


def _openapi_2(accept: str) -> web.Response:
    if _PROTOBUF in accept:
        # Asked for as `@v1.0`, which is no media type: answered in the form that is one, as the real server does.
        kind = f"{_PROTOBUF}.v1.0+protobuf"
        return web.Response(body=openapi_protobuf.document(), headers={"Content-Type": kind})
    return document(openapi_documents.version_2())


def _by_group(parts: list[str]) -> web.Response | None:
    """Documents of one group or version; None for what is no such path."""
    try:
        match parts:
            case ["openapi", "v3"]:
                return document(openapi_documents.index())
            case ["openapi", "v3", "api", which]:
                return _plain_json(openapi_documents.version_3("", which))
            case ["openapi", "v3", "apis", group, which]:
                return _plain_json(openapi_documents.version_3(group, which))
            case ["api", which]:
                return document(discovery.resource_list("", which))
            case ["apis", group]:
                return document(discovery.group(group))
            case ["apis", group, which]:
                return document(discovery.resource_list(group, which))
    except KeyError as error:
        raise status.no_resource() from error
    return None


def _plain_json(content: bytes) -> web.Response:
    return web.Response(body=content, content_type="application/json")
