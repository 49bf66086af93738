//! What the keys of a file become in a gateway.

use crate::{BASE, gateway};
use shoal_config::{
    AccessLogTo, Action, Balance, ByteSize, Endpoint, Family, HostHeader, KeyPart, LimitMode, Locality, Missing, Protocol, Service, written,
};
use std::time::Duration;

#[test]
fn the_ten_lines_of_a_first_gateway_are_enough() {
    let gateway = gateway(
        r#"
[listen.main]
bind = "0.0.0.0:8080"

[service.hello]
endpoints = ["http://127.0.0.1:3000"]

[[route]]
match   = "GET /hello/{name}"
service = "hello"
limit   = ["10/s per client_ip"]
"#,
    );
    let route = gateway.routes.get("get-hello-name").expect("the route is named after its match");
    assert_eq!((route.limits[0].name.as_str(), route.limits[0].burst), ("get-hello-name#1", 10));
    assert_eq!(route.max_body, Some(ByteSize(1 << 20)));
    let listener = &gateway.listeners[0];
    assert!(listener.http1 && listener.http2 && listener.tls.is_none());
    assert_eq!(written(gateway.services[0].deadlines.connect), "1s");
    assert_eq!(gateway.admin.bind.map(|bind| bind.to_string()).as_deref(), Some("127.0.0.1:9901"));
}

#[test]
fn every_choice_of_a_service_is_kept() {
    let text = BASE.replace(
        "[limit.slow]",
        r#"balance = { hash = "header:x-user", bound = 2 }
host = "endpoint"
deadlines = { total = "5s", idle = "1m" }
retry = { max = 0, statuses = [503] }
pool = { max_connections = 8 }
tls = { server_name = "Hello.internal" }
[service.grpc]
endpoints = [{ url = "h2c://[::1]:50051", weight = 3 }, "h2c://b"]
[[route]]
match = "/grpc"
service = "grpc"
deadlines = { total = "none", connect = "2s" }
[limit.slow]"#,
    );
    let gateway = gateway(&text.replace("http://127.0.0.1:3000", "https://hello"));
    let hello = &gateway.services[0];
    assert!(matches!(&hello.balance, Balance::Hash { key: KeyPart::Header(name), bound } if name == "x-user" && *bound == 2.0));
    assert_eq!(hello.host, HostHeader::Endpoint);
    assert_eq!(hello.deadlines.total, Some(Duration::from_secs(5)));
    assert_eq!((hello.retry.max, &hello.retry.statuses[..]), (0, &[503][..]));
    assert_eq!((hello.pool.max_connections, hello.pool.max_idle), (8, 8));
    assert_eq!(hello.endpoints[0].authority(), "hello:443");
    assert_eq!(hello.tls.server_name.as_deref(), Some("hello.internal"));
    let grpc = &gateway.services[1];
    assert_eq!(grpc.protocol, Protocol::H2);
    assert_eq!(grpc.endpoints[0].authority(), "[::1]:50051");
    assert_eq!((grpc.endpoints[0].weight, grpc.endpoints[1].weight), (3, 1));
    let deadlines = gateway.routes.get("grpc").and_then(|route| route.deadlines).expect("the route has deadlines of its own");
    assert_eq!((deadlines.total, written(deadlines.connect), written(deadlines.first_byte)), (None, "2s".to_string(), "30s".to_string()));
}

#[test]
fn an_endpoint_is_as_near_as_it_does_not_say_otherwise() {
    let text = BASE.replace(
        "endpoints = [\"http://127.0.0.1:3000\"]",
        r#"endpoints = [
    "http://a",
    { url = "http://b", region = "west" },
    { url = "http://c", zone = "2" },
    { url = "http://d", region = "north", zone = "1", priority = 3, drain = true },
]"#,
    );
    let gateway = gateway(&format!("[node]\nregion = \"west\"\nzone = \"1\"\n{text}"));
    let endpoints = &gateway.services[0].endpoints;
    let localities: Vec<Locality> = endpoints.iter().map(|endpoint| endpoint.locality(&gateway.node)).collect();
    assert_eq!(localities, [Locality::Zone, Locality::Zone, Locality::Region, Locality::Elsewhere]);
    assert_eq!((endpoints[3].priority, endpoints[3].drain, endpoints[0].priority, endpoints[0].drain), (3, true, 0, false));
    assert_eq!(endpoints[3].identity(), Endpoint::new(false, "d".into(), 80));
}

#[test]
fn endpoints_may_be_behind_a_name() {
    let found = |discovery: &str| {
        let text = BASE.replace("endpoints = [\"http://127.0.0.1:3000\"]", &format!("discovery = {{ {discovery} }}"));
        gateway(&text).services[0].clone()
    };
    let dns = found(r#"name = "Orders.internal", port = 8080, ttl_max = "10s", family = "both""#);
    assert_eq!(dns.endpoints[..], [Endpoint::new(false, "orders.internal".into(), 8080)]);
    assert_eq!((dns.discovery.family, written(dns.discovery.ttl_max), &dns.discovery.srv), (Family::Both, "10s".to_string(), &None));
    let srv = found(r#"kind = "srv", name = "_h2._tcp.orders", scheme = "h2c""#);
    assert!(srv.endpoints.is_empty());
    assert_eq!((srv.protocol, srv.discovery.srv.as_ref().map(|srv| &*srv.name)), (Protocol::H2, Some("_h2._tcp.orders")));
    let tls = found(r#"kind = "srv", name = "_https._tcp.orders", scheme = "https""#);
    assert!(tls.discovery.srv.as_ref().is_some_and(|srv| srv.tls));
}

#[test]
fn the_defaults_of_spreading_are_the_documented_ones() {
    let gateway = gateway(BASE);
    let service = &gateway.services[0];
    let Service { spread, discovery, pool, .. } = &**service;
    assert_eq!((spread.panic_threshold.0, spread.spill, written(spread.hysteresis)), (0.5, 1.4, "30s".to_string()));
    assert_eq!((written(spread.slow_start.window), spread.slow_start.weight_min.0), ("30s".to_string(), 0.1));
    let ttls = [discovery.ttl_min, discovery.ttl_max, discovery.stale].map(written);
    assert_eq!((discovery.family, ttls), (Family::Auto, ["1s", "1m", "5m"].map(String::from)));
    assert_eq!((pool.warm, written(pool.drain)), (0, "30s".to_string()));
    assert!(gateway.node.dns.is_empty() && !gateway.drills.allow);
}

#[test]
fn resolvers_are_asked_on_port_53_and_drills_are_allowed_on_purpose() {
    let gateway = gateway(&format!("[node]\ndns = [\"10.0.0.10\", \"[::1]:5353\"]\n[drills]\nallow = true\n{BASE}"));
    assert_eq!(gateway.node.dns.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.10:53", "[::1]:5353"]);
    assert!(gateway.drills.allow);
    assert_eq!(gateway.describe()["drills"]["allow"], true);
}

#[test]
fn every_choice_of_a_limit_is_kept() {
    let gateway =
        gateway(&BASE.replace(
            "rate = \"1/min\"",
            "rate = \"90/min\"\nkey = [\"client_ip\", \"cookie:sid\"]\nmode = \"shadow\"\nmissing = \"refuse\"",
        ));
    let limit = &gateway.limits[0];
    assert_eq!((limit.burst, limit.mode, limit.missing), (1, LimitMode::Shadow, Missing::Refuse));
    assert_eq!(limit.key, [KeyPart::ClientIp, KeyPart::Cookie("sid".into())]);
}

#[test]
fn redirects_and_answers_are_taken_apart() {
    let text = format!(
        r#"{BASE}
[[route]]
match = "/old/{{rest=**}}"
redirect = {{ to = "https://New.example:8443/new/{{rest}}", status = 301 }}
[[route]]
match = "/login"
redirect = {{ to = "/sign-in?from=old", query = "drop" }}
[[route]]
match = "http.example.com/**"
redirect = {{ scheme = "https" }}
[[route]]
match = "/teapot"
respond = {{ status = 418, body = "short and stout" }}
"#
    );
    let gateway = gateway(&text);
    let redirect = |id: &str| match &gateway.routes.get(id).expect("it is a route").action {
        Action::Redirect(redirect) => {
            let path = redirect.path.as_ref().map(|path| path.to_string());
            format!("{} {:?} {:?} {:?} {:?} {}", redirect.status, redirect.scheme, redirect.host, redirect.port, path, redirect.keep_query)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(redirect("old-rest-all"), r#"301 Some("https") Some("new.example") Some(8443) Some("/new/{rest}") true"#);
    assert_eq!(redirect("login"), r#"308 None None None Some("/sign-in?from=old") false"#);
    assert_eq!(redirect("http.example.com-all"), r#"308 Some("https") None None None true"#);
    match &gateway.routes.get("teapot").expect("it is a route").action {
        Action::Respond(respond) => assert_eq!((respond.status, &*respond.body), (418, "short and stout")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn routes_without_ids_are_told_apart() {
    let route = "[[route]]\nmatch = \"/base\"\nservice = \"hello\"\nheaders = { a = \"X\" }\n";
    let gateway = gateway(&format!("{BASE}{}{}{}", route.replace('X', "1"), route.replace('X', "2"), route.replace('X', "3")));
    let ids: Vec<&str> = gateway.routes.iter().map(|route| route.id.as_str()).collect();
    assert_eq!(ids, ["base", "base-2", "base-3", "base-4"]);
}

#[test]
fn the_four_headers_are_always_redacted() {
    let gateway =
        gateway(&format!("[telemetry]\naccess_log = {{ to = {{ file = \"a.log\" }}, success = \"25%\", redact = [\"x-mine\"] }}\n{BASE}"));
    let redact: Vec<&str> = gateway.telemetry.access_log.redact.iter().map(|name| name.as_str()).collect();
    assert_eq!(redact, ["x-mine", "authorization", "cookie", "set-cookie", "x-api-key"]);
    assert_eq!(gateway.telemetry.access_log.to, AccessLogTo::File("a.log".into()));
    assert_eq!(gateway.telemetry.access_log.success.0, 0.25);
}
