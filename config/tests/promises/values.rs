//! What the keys of a file become in a gateway.

use crate::{BASE, gateway};
use shoal_config::{AccessLogTo, Action, Balance, ByteSize, HostHeader, KeyPart, LimitMode, Missing, Protocol, written};
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
