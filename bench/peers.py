"""How each proxy is told to do what a scenario asks for.

One thread, keep-alive to the origin with room for 512 idle connections, no limit on requests a connection, and
nothing that the scenario does not ask for: Envoy runs without its request ids and extra headers, HAProxy reuses
connections always, nginx buffers nothing on disk, shoal's access log is off except where it is measured.
"""

import json
import os
import pathlib

from scenarios import TENANT

HERE = pathlib.Path(__file__).resolve().parent
HOME = pathlib.Path(os.environ.get("BENCH_HOME", pathlib.Path.home() / ".cache/shoal-bench"))
CERT, KEY, PEM = (HOME / "certs" / name for name in ("bench.crt", "bench.key", "bench.pem"))
FOREVER = 1_000_000_000
RATE = 100_000


def shoal_binary():
    target = os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target")
    return pathlib.Path(os.environ.get("SHOAL", pathlib.Path(target) / "release/shoal"))


def route(index):
    return f"/svc{index:05d}/"


def write(name, text):
    path = HOME / "run" / name
    path.write_text(text)
    return str(path)


def log_of(peer):
    return HOME / "run" / f"{peer}.access.log"


def origin(port):
    """Answers 1 KiB to everything but the two large files. Not a peer: what all of them stand in front of."""
    config = f"""
worker_processes 1; daemon off; master_process off; pid {HOME}/run/origin.pid; error_log /dev/null;
worker_rlimit_nofile 20000;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests {FOREVER}; keepalive_timeout 600s; sendfile on; tcp_nodelay on;
  default_type text/plain; open_file_cache max=16;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ return 200 "{'x' * 1024}"; }}
    location = /64k {{ root {HOME}/data; }}
    location = /1m {{ root {HOME}/data; }}
  }}
}}
"""
    return ["nginx", "-c", write("origin.conf", config)]


def nginx(scenario, port, origin, metrics):
    forward = 'proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;'
    http, server, locations = [], [], [f"location / {{ {forward} }}"]
    if scenario.limit:
        http.append(f"limit_req_zone $http_x_api_key zone=keys:64m rate={RATE}r/s;")
        server.append(f"limit_req zone=keys burst={RATE} nodelay;")
    if scenario.tls:
        server.append(f"ssl_certificate {CERT}; ssl_certificate_key {KEY}; ssl_protocols TLSv1.2 TLSv1.3;")
    if scenario.routes:
        rewrite = 'proxy_set_header X-Route "matched"; proxy_set_header X-Tenant "";'
        guard = f'if ($http_x_tenant != "{TENANT}") {{ return 404; }}'
        locations = [f"location {route(i)} {{ {guard} {forward} {rewrite} }}" for i in range(scenario.routes)]
        locations.append("location / { return 404; }")
    if scenario.watched:
        http.append("""log_format line '$remote_addr [$time_iso8601] "$request" $status $body_bytes_sent $request_time "$http_user_agent"';""")
        http.append(f"access_log {log_of('nginx')} line buffer=64k flush=1s;")
        http.append(f"server {{ listen 127.0.0.1:{metrics}; location = /metrics {{ stub_status; }} }}")
    else:
        http.append("access_log off;")
    listen = " ssl" * scenario.tls + " http2" * scenario.h2
    joined = "\n    "
    config = f"""
worker_processes 1; daemon off; master_process off; pid {HOME}/run/nginx.pid; error_log /dev/null;
worker_rlimit_nofile 20000;
events {{ worker_connections 17000; }}
http {{
  keepalive_requests {FOREVER}; keepalive_timeout 600s; tcp_nodelay on; proxy_max_temp_file_size 0;
  proxy_buffer_size 16k; proxy_buffers 16 16k;
  {(chr(10) + '  ').join(http)}
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 512; keepalive_requests {FOREVER}; }}
  server {{
    listen 127.0.0.1:{port}{listen} backlog=4096;
    server_name bench.local;
    {joined.join(server + locations)}
  }}
}}
"""
    return ["nginx", "-c", write(f"nginx.{scenario.name}.conf", config)]


def haproxy(scenario, port, origin, metrics):
    front, backends, log = [], [], ""
    if scenario.limit:
        front += [
            "stick-table type string len 32 size 100k expire 60s store http_req_rate(1s)",
            "http-request track-sc0 req.hdr(x-api-key)",
            f"http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {RATE} }}",
        ]
    if scenario.routes:
        routes = write("haproxy.routes.map", "".join(f"{route(i)} route{i}\n" for i in range(scenario.routes)))
        front += [
            f"http-request deny deny_status 404 unless {{ hdr(x-tenant) {TENANT} }}",
            f"use_backend %[path,map_beg({routes},none)]",
        ]
        for i in range(scenario.routes):
            backends.append(f"""
backend route{i}
  http-request set-header X-Route matched
  http-request del-header X-Tenant
  server origin 127.0.0.1:{origin}""")
        backends.append("\nbackend none\n  http-request deny deny_status 404")
    if scenario.watched:
        log = "  log stdout format raw local0 info\n  option httplog"
        backends.append(f"""
frontend metrics
  bind 127.0.0.1:{metrics}
  no log
  http-request use-service prometheus-exporter if {{ path /metrics }}""")
    bind = f" ssl crt {PEM}" * scenario.tls + " proto h2" * scenario.h2
    joined = "\n  "
    config = f"""
global
  nbthread 1
  maxconn 9980
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
  option http-keep-alive
  http-reuse always
{log}
frontend main
  bind 127.0.0.1:{port}{bind} backlog 4096
  {joined.join(front)}
  default_backend origin
backend origin
  server origin 127.0.0.1:{origin}
{''.join(backends)}
"""
    return ["haproxy", "-f", write(f"haproxy.{scenario.name}.cfg", config)]


def envoy(scenario, port, origin, metrics):
    kind = "type.googleapis.com/envoy."
    filters = []
    if scenario.limit:
        bucket = {"max_tokens": RATE, "tokens_per_fill": RATE, "fill_interval": "1s"}
        whole = {"default_value": {"numerator": 100}}
        filters.append({
            "name": "limit",
            "typed_config": {
                "@type": kind + "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
                "stat_prefix": "limit",
                "token_bucket": {**bucket, "max_tokens": 100 * RATE, "tokens_per_fill": 100 * RATE},
                "filter_enabled": whole,
                "filter_enforced": whole,
                "max_dynamic_descriptors": 20_000,
                "rate_limits": [{"actions": [{"request_headers": {"header_name": "x-api-key", "descriptor_key": "key"}}]}],
                "descriptors": [{"entries": [{"key": "key"}], "token_bucket": bucket}],
            },
        })
    filters.append({
        "name": "router",
        "typed_config": {"@type": kind + "extensions.filters.http.router.v3.Router", "suppress_envoy_headers": True},
    })
    action = {"cluster": "origin", "timeout": "0s"}
    routes = [{"match": {"prefix": "/"}, "route": action}]
    if scenario.routes:
        predicate = {"name": "x-tenant", "string_match": {"exact": TENANT}}
        routes = [
            {
                "match": {"prefix": route(i), "headers": [predicate]},
                "route": action,
                "request_headers_to_add": [{"header": {"key": "x-route", "value": "matched"}}],
                "request_headers_to_remove": ["x-tenant"],
            }
            for i in range(scenario.routes)
        ]
    manager = {
        "@type": kind + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "HTTP2" if scenario.h2 else "HTTP1",
        "generate_request_id": False,
        "stream_idle_timeout": "0s",
        "common_http_protocol_options": {"idle_timeout": "600s"},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": filters,
    }
    if scenario.watched:
        logger = {"@type": kind + "extensions.access_loggers.file.v3.FileAccessLog", "path": str(log_of("envoy"))}
        manager["access_log"] = [{"name": "file", "typed_config": logger}]
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    if scenario.tls:
        pair = {"certificate_chain": {"filename": str(CERT)}, "private_key": {"filename": str(KEY)}}
        versions = {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}
        chain["transport_socket"] = {
            "name": "tls",
            "typed_config": {
                "@type": kind + "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {"tls_params": versions, "tls_certificates": [pair]},
            },
        }
    at = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    cluster = {
        "name": "origin",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {
            "thresholds": [{"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}]
        },
        "load_assignment": {
            "cluster_name": "origin",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(origin)}}]}],
        },
    }
    listener = {"name": "main", "address": at(port), "filter_chains": [chain], "tcp_backlog_size": 4096}
    config = {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
    if scenario.watched:
        config["admin"] = {"address": at(metrics)}
    path = write(f"envoy.{scenario.name}.json", json.dumps(config, indent=1))
    return [str(HOME / "bin/envoy"), "-c", path, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]


def shoal(scenario, port, origin, metrics):
    tls = f'{{ cert = "{CERT}", key = "{KEY}" }}' if scenario.tls else '"none"'
    http = '"h2"' if scenario.h2 else '"h1"'
    limit = '\nlimit = ["keys"]' if scenario.limit else ""
    routes = f'[[route]]\nmatch = "/**"\nservice = "origin"{limit}\n'
    if scenario.routes:
        routes = "\n".join(
            f"""[[route]]
match = "{route(i)}**"
headers = {{ x-tenant = "{TENANT}" }}
service = "origin"
request = {{ set = {{ x-route = "matched" }}, remove = ["x-tenant"] }}{limit}
"""
            for i in range(scenario.routes)
        )
    named = f'[limit.keys]\nrate = "{RATE}/s"\nburst = {RATE}\nkey = "header:x-api-key"\n' if scenario.limit else ""
    log = '{ to = "off" }'
    admin = "enabled = false"
    if scenario.watched:
        log = f'{{ to = {{ file = "{log_of("shoal")}" }}, success = "100%", errors = "100%" }}'
        admin = f'bind = "127.0.0.1:{metrics}"\nmetrics = "open"'
    config = f"""
[node]
workers = 1
drain = {{ wait = "0s", bound = "1s" }}

[listen.main]
bind = "127.0.0.1:{port}"
http = [{http}]
tls = {tls}
bounds = {{ requests_per_connection = {FOREVER} }}

[service.origin]
endpoints = ["http://127.0.0.1:{origin}"]
protocol = "h1"
pool = {{ max_connections = 1024, max_idle = 512 }}

{named}
{routes}
[admin]
{admin}

[telemetry]
access_log = {log}
"""
    return [str(shoal_binary()), "run", "-c", write(f"shoal.{scenario.name}.toml", config)]


PEERS = {"nginx": nginx, "haproxy": haproxy, "envoy": envoy, "shoal": shoal}
