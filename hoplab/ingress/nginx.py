"""The plan of hosts and locations as text for nginx, and the files that go with it.

nginx picks a server by the Host header, then within it the location: an exact one
(`location = /a`), else the longest that the path begins with, else, where there are any,
the first regular expression in the order of the file.  A path of type Prefix goes by whole
elements, which takes two locations: `= /a` and `/a/`.

Source: nginx.org ngx_http_core_module (server_name, location) and ngx_http_proxy_module; the headers and defaults are
those of ingress-nginx rootfs/etc/nginx/template/nginx.tmpl.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from hoplab.ingress.blocks import (
    canary_maps,
    cors_headers,
    doubled,
    heads,
    indented,
    literal,
    plain_name,
    server_name,
    switch,
    upstream_name,
    with_error_pages,
    zone,
)
from hoplab.ingress.rules import ANY_HOST, Backend, Host, Location, Options, Plan
from hoplab.ingress.settings import Global, Settings
from hoplab.ingress.words import SCRATCH, quoted, temporary_paths

HOME = "/etc/ingress-controller"
"""Folder of everything that the controller writes, in its pod."""
CONFIG = f"{HOME}/nginx.conf"


@dataclass(frozen=True, slots=True)
class Written:
    """Files of the controller's pod (absolute path -> text); CONFIG is one of them."""

    files: Mapping[str, str]

    @property
    def config(self) -> str:
        """The text of nginx.conf."""
        return self.files[CONFIG]


def write(plan: Plan, options: Options, shared: Global) -> Written:
    """Everything that nginx reads (pure)."""
    writer = _Writer(plan, options, shared)
    files = {CONFIG: "\n".join(writer.lines()) + "\n"}
    files |= {f"{HOME}/ssl/{name}": text for name, text in plan.certificates.items()}
    files |= {_users_file(secret): text for secret, text in plan.passwords.items()}
    return Written(files)


def _users_file(secret: str) -> str:
    return f"{HOME}/auth/{secret.replace('/', '-')}"


class _Writer:
    def __init__(self, plan: Plan, options: Options, shared: Global) -> None:
        self._plan, self._options, self._shared = plan, options, shared
        self._locations = [each for host in plan.hosts for each in host.locations]
        self._with_canaries = [each for each in self._locations if each.canary is not None and each.canary.endpoints]

    def lines(self) -> Iterator[str]:
        """The configuration, from top to bottom."""
        yield "# Written by the lab's ingress controller from the cluster's objects, anew at each change."
        yield "daemon off;"
        yield "user root;"
        yield "worker_processes 1;"
        yield f"pid {SCRATCH}/nginx.pid;"
        yield "error_log stderr notice;"
        yield "events { worker_connections 1024; }"
        yield "http {"
        yield from indented([*self._http()])
        yield "}"

    def _http(self) -> Iterator[str]:
        shared = self._shared
        yield from temporary_paths(SCRATCH)
        yield (
            'log_format upstreaminfo \'$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent'
            ' "$http_referer" "$http_user_agent" $request_length $request_time [$proxy_upstream_name] $upstream_addr'
            " $upstream_response_length $upstream_response_time $upstream_status';"
        )
        yield "access_log /dev/stdout upstreaminfo;"
        yield f"server_tokens {switch(shared.server_tokens)};"
        yield f"keepalive_timeout {shared.keep_alive}s;"
        yield "reset_timedout_connection on;"
        yield "server_names_hash_bucket_size 256;"
        yield "variables_hash_max_size 2048;"
        yield f"gzip {switch(shared.use_gzip)};"
        if shared.use_proxy_protocol or shared.use_forwarded_headers:
            source = "proxy_protocol" if shared.use_proxy_protocol else shared.forwarded_for_header
            yield f"real_ip_header {source};"
            yield "real_ip_recursive on;"
            yield from (f"set_real_ip_from {network};" for network in shared.proxy_real_ip_cidr)
        yield "map $http_upgrade $connection_upgrade { default upgrade; '' ''; }"
        yield from self._forwarded_maps()
        yield from self._proxied(shared.location)
        yield "proxy_http_version 1.1;"
        yield "proxy_redirect off;"
        yield from self._limits()
        if shared.http_snippet:
            yield from shared.http_snippet.splitlines()
        yield ""
        for backend, location in self._backends():
            yield from self._upstream(backend, location)
        for number, location in enumerate(self._with_canaries):
            yield from canary_maps(location, number, upstream_name(location))
        for host in self._plan.hosts:
            yield from self._server(host)
        yield f"server {{ listen {self._options.healthz_port}; access_log off; location /healthz {{ return 200; }} }}"

    def _forwarded_maps(self) -> Iterator[str]:
        """What a request says of itself, or what another proxy before this one said of it, where that is believed."""
        if self._shared.use_forwarded_headers:
            yield "map $http_x_forwarded_proto $pass_access_scheme { default $http_x_forwarded_proto; '' $scheme; }"
            yield "map $http_x_forwarded_port $pass_port { default $http_x_forwarded_port; '' $server_port; }"
            yield "map $http_x_forwarded_host $best_http_host { default $http_x_forwarded_host; '' $http_host; }"
        else:
            yield "map $scheme $pass_access_scheme { default $scheme; }"
            yield "map $server_port $pass_port { default $server_port; }"
            yield "map $http_host $best_http_host { default $http_host; }"

    def _limits(self) -> Iterator[str]:
        """A zone of memory for each Ingress that limits requests or connections of a client."""
        for name, settings in {zone(each): each.settings for each in self._locations}.items():
            if settings.limit_rps:
                yield f"limit_req_zone $binary_remote_addr zone={name}-rps:1m rate={settings.limit_rps}r/s;"
            if settings.limit_rpm:
                yield f"limit_req_zone $binary_remote_addr zone={name}-rpm:1m rate={settings.limit_rpm}r/m;"
            if settings.limit_connections:
                yield f"limit_conn_zone $binary_remote_addr zone={name}-conn:1m;"
        yield "limit_req_status 503;"
        yield "limit_conn_status 503;"

    def _backends(self) -> list[tuple[Backend, Location | None]]:
        """Each upstream that has endpoints, with a location that leads to it."""
        found: dict[str, tuple[Backend, Location | None]] = {}
        for location in self._locations:
            if location.backend.endpoints:
                found.setdefault(upstream_name(location), (location.backend, location))
        for location in self._with_canaries:
            assert location.canary is not None
            plain = replace(location, backend=location.canary, settings=Settings())
            found.setdefault(upstream_name(plain), (location.canary, plain))
        if self._plan.default_backend is not None and self._plan.default_backend.endpoints:
            found["upstream-default-backend"] = (self._plan.default_backend, None)
        return list(found.values())

    def _upstream(self, backend: Backend, location: Location | None) -> Iterator[str]:
        name = upstream_name(location) if location is not None else "upstream-default-backend"
        settings = location.settings if location is not None else Settings()
        if settings.cookie:
            # A client that has no cookie yet gets a fresh one; the hash of either picks the endpoint.
            variable = f"$sticky_{plain_name(name)}"
            yield f"map $cookie_{settings.cookie} {variable} {{ default $cookie_{settings.cookie}; '' $request_id; }}"
            yield (
                f"map $cookie_{settings.cookie} {variable}_set {{ default ''; '' "
                f'"{settings.cookie}=$request_id; Path={settings.cookie_path}'
                + (f"; Max-Age={settings.cookie_max_age}" if settings.cookie_max_age else "")
                + '; HttpOnly"; }'
            )
        yield f"upstream {name} {{"
        if settings.cookie:
            yield f"    hash {variable} consistent;"
        elif settings.upstream_hash_by:
            yield f"    hash {quoted(settings.upstream_hash_by)} consistent;"
        # An endpoint that fails is asked again at once: whether it is ready is the cluster's to say, not nginx'.
        yield from (f"    server {endpoint} max_fails=0;" for endpoint in backend.endpoints)
        if self._shared.upstream_keepalive_connections:
            yield f"    keepalive {self._shared.upstream_keepalive_connections};"
        yield "}"

    # Hosts

    def _server(self, host: Host) -> Iterator[str]:
        default = " default_server" if host.name == ANY_HOST else ""
        proxied = " proxy_protocol" if self._shared.use_proxy_protocol else ""
        yield ""
        yield "server {"
        yield f"    server_name {' '.join([server_name(host.name), *host.aliases])};"
        yield '    set $proxy_upstream_name "-";'
        yield f"    listen {self._options.http_port}{default}{proxied};"
        yield f"    listen {self._options.https_port} ssl{default}{proxied};"
        if host.certificate:
            yield f"    ssl_certificate {HOME}/ssl/{host.certificate};"
            yield f"    ssl_certificate_key {HOME}/ssl/{host.certificate};"
            if self._shared.hsts:
                words = f"max-age={self._shared.hsts_max_age}"
                words += "; includeSubDomains" * self._shared.hsts_include_subdomains
                yield f'    set $hsts ""; if ($scheme = https) {{ set $hsts "{words}"; }}'
        else:
            # Nobody could trust a certificate made up for the occasion.
            yield "    ssl_reject_handshake on;"
        for snippet in host.snippets:
            yield from indented(snippet.splitlines())
        if host.app_root:
            yield f"    if ($uri = /) {{ return 302 $pass_access_scheme://$best_http_host{host.app_root}; }}"
        for location in host.locations:
            yield from indented([*self._blocks(location, host)])
        if not any(location.kind != "regex" and location.path == "/" for location in host.locations):
            yield from indented(["location / {", *indented([*self._nobody()]), "}"])
        for location in with_error_pages(host.locations):
            yield from indented([*self._error_page(location)])
        yield "}"

    def _nobody(self) -> Iterator[str]:
        """What no rule takes: the default backend's, or 404 where there is none."""
        yield "set $proxy_upstream_name upstream-default-backend;"
        default = self._plan.default_backend
        if default is None or not default.endpoints:
            yield "return 404;"
            return
        yield "proxy_pass http://upstream-default-backend;"

    # Locations

    def _blocks(self, location: Location, host: Host) -> Iterator[str]:
        body = indented([*self._location(location, host)])
        for head in heads(location, host.locations):
            yield f"location {head} {{"
            yield from body
            yield "}"

    def _location(self, location: Location, host: Host) -> Iterator[str]:
        settings = location.settings
        yield f"# Ingress {location.ingress}, {location.written}"
        yield f"set $proxy_upstream_name {location.backend.upstream};"
        if not settings.access_log:
            yield "access_log off;"
        if host.certificate and self._shared.hsts:
            # Here, since headers of the server don't count in a location that adds one of its own.
            yield "add_header Strict-Transport-Security $hsts always;"
        if settings.force_ssl_redirect or (settings.ssl_redirect and host.certificate):
            yield "if ($pass_access_scheme = http) { return 308 https://$host$request_uri; }"
        if settings.permanent_redirect:
            yield f"return {settings.permanent_redirect_code} {quoted(settings.permanent_redirect)};"
            return
        if settings.temporal_redirect:
            yield f"return 302 {quoted(settings.temporal_redirect)};"
            return
        yield from (f"deny {network};" for network in settings.denied_sources)
        if settings.allowed_sources:
            yield from (f"allow {network};" for network in settings.allowed_sources)
            yield "deny all;"
        if settings.auth_secret:
            yield f"auth_basic {quoted(settings.auth_realm)};"
            yield f"auth_basic_user_file {_users_file(settings.auth_secret)};"
        yield from self._limited(location)
        if settings.cors.enabled:
            yield from cors_headers(settings.cors)
        if not location.backend.endpoints:
            yield from settings.configuration_snippet.splitlines()
            yield "return 503;"
            return
        yield from self._rewrite(location)
        yield from self._own(settings)
        if settings.cookie:
            yield f"add_header Set-Cookie $sticky_{plain_name(upstream_name(location))}_set;"
        if settings.custom_http_errors:
            yield "proxy_intercept_errors on;"
            for code in settings.custom_http_errors:
                yield f"error_page {code} = @error_{plain_name(location.backend.upstream)}_{code};"
        yield from settings.configuration_snippet.splitlines()
        target = upstream_name(location)
        if location in self._with_canaries:
            target = f"$canary_{self._with_canaries.index(location)}"
        yield f"proxy_pass {settings.backend_protocol.lower()}://{target};"

    def _limited(self, location: Location) -> Iterator[str]:
        settings, name = location.settings, zone(location)
        for unit, rate in (("rps", settings.limit_rps), ("rpm", settings.limit_rpm)):
            if rate:
                yield f"limit_req zone={name}-{unit} burst={rate * settings.limit_burst_multiplier} nodelay;"
        if settings.limit_connections:
            yield f"limit_conn {name}-conn {settings.limit_connections};"
        if settings.limit_rate:
            yield f"limit_rate {settings.limit_rate}k;"

    def _rewrite(self, location: Location) -> Iterator[str]:
        settings = location.settings
        if not settings.rewrite_target:
            return
        if not settings.old_rewrite:
            yield f"rewrite {quoted('(?i)' + location.path)} {quoted(settings.rewrite_target)} break;"
            return
        base = "" if location.path == "/" else location.path.rstrip("/")
        target = settings.rewrite_target.rstrip("/")
        yield f"rewrite {quoted(f'(?i)^{literal(base)}/?(.*)$')} {quoted(f'{target}/$1')} break;"

    def _proxied(self, settings: Settings) -> Iterator[str]:
        """How requests are passed on: headers, sizes, times."""
        yield f"client_max_body_size {settings.proxy_body_size};"
        host = quoted(settings.upstream_vhost) if settings.upstream_vhost else "$best_http_host"
        yield f"proxy_set_header Host {host};"
        yield "proxy_set_header X-Request-ID $request_id;"
        yield "proxy_set_header X-Real-IP $remote_addr;"
        whole = self._shared.compute_full_forwarded_for
        yield f"proxy_set_header X-Forwarded-For {'$proxy_add_x_forwarded_for' if whole else '$remote_addr'};"
        yield "proxy_set_header X-Forwarded-Host $best_http_host;"
        yield "proxy_set_header X-Forwarded-Port $pass_port;"
        yield "proxy_set_header X-Forwarded-Proto $pass_access_scheme;"
        yield "proxy_set_header X-Forwarded-Scheme $pass_access_scheme;"
        yield "proxy_set_header X-Scheme $pass_access_scheme;"
        yield "proxy_set_header X-Original-Forwarded-For $http_x_forwarded_for;"
        if settings.x_forwarded_prefix:
            yield f"proxy_set_header X-Forwarded-Prefix {quoted(settings.x_forwarded_prefix)};"
        # Against httpoxy: a client's own header Proxy would become a program's HTTP_PROXY.
        yield 'proxy_set_header Proxy "";'
        yield "proxy_set_header Upgrade $http_upgrade;"
        yield "proxy_set_header Connection $connection_upgrade;"
        yield f"proxy_connect_timeout {settings.proxy_connect_timeout}s;"
        yield f"proxy_send_timeout {settings.proxy_send_timeout}s;"
        yield f"proxy_read_timeout {settings.proxy_read_timeout}s;"
        yield f"proxy_buffering {switch(settings.proxy_buffering)};"
        yield f"proxy_buffer_size {settings.proxy_buffer_size};"
        yield f"proxy_buffers 4 {settings.proxy_buffer_size};"
        yield f"proxy_busy_buffers_size {doubled(settings.proxy_buffer_size)};"
        yield f"proxy_request_buffering {switch(settings.proxy_request_buffering)};"
        yield f"proxy_next_upstream {settings.proxy_next_upstream};"
        yield f"proxy_next_upstream_timeout {settings.proxy_next_upstream_timeout};"
        yield f"proxy_next_upstream_tries {settings.proxy_next_upstream_tries};"

    def _own(self, settings: Settings) -> Iterator[str]:
        """What a location has different from all others; a header of its own hides all that stand above."""
        common, mine = [*self._proxied(self._shared.location)], [*self._proxied(settings)]
        different = [line for line in mine if line not in common]
        headers = any(line.startswith("proxy_set_header") for line in different)
        yield from (line for line in mine if line in different or (headers and line.startswith("proxy_set_header")))

    def _error_page(self, location: Location) -> Iterator[str]:
        """The default backend writes the page for an error; headers tell it which error, and of whom."""
        namespace, _, name = location.ingress.partition("/")
        service = location.backend.service.partition("/")[2]
        for code in location.settings.custom_http_errors:
            yield f"location @error_{plain_name(location.backend.upstream)}_{code} {{"
            told = {
                "X-Code": str(code), "X-Format": "$http_accept", "X-Original-URI": "$request_uri",
                "X-Namespace": namespace, "X-Ingress-Name": name, "X-Service-Name": service,
                "X-Service-Port": location.backend.port, "X-Request-ID": "$request_id", "Host": "$best_http_host",
            }  # fmt: skip
            default = self._plan.default_backend
            if default is None or not default.endpoints:
                yield f"    return {code};"
            else:
                yield "    internal;"
                yield "    proxy_intercept_errors off;"
                yield from (f"    proxy_set_header {header} {value};" for header, value in told.items())
                yield "    rewrite (.*) / break;"
                yield "    proxy_pass http://upstream-default-backend;"
            yield "}"
