//! What an operator may ask, and that nobody else may.

use serde_json::json;
use shoal_tests::{Answer, Caller, Gateway, Origin, ask, certificates::Authority, get, in_front_of};
use std::net::SocketAddr;

const ADMIN: &str = "[admin]\nbind = \"127.0.0.1:0\"\ntoken = { env = \"TOKEN\" }\n";
const TOKEN: &str = "authorization: Bearer 0123456789abcdef0123456789abcdef";

async fn call(address: SocketAddr, line: &str, fields: &[&str], body: &str) -> Answer {
    let mut request = format!("{line} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n", body.len());
    for field in fields {
        request += &format!("{field}\r\n");
    }
    ask(address, request + "\r\n" + body).await
}

async fn gateway(more: &str) -> (Gateway, Origin) {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&(ADMIN.to_string() + &in_front_of(&origin.url(), "limit = \"100/s per client_ip\"") + more)).await;
    (gateway, origin)
}

#[tokio::test]
async fn every_page_asks_for_the_token() {
    let (gateway, _origin) = gateway("").await;
    for line in [
        "GET /metrics",
        "GET /v1/config",
        "GET /v1/routes",
        "GET /routes/all",
        "GET /v1/routes/all",
        "GET /v1/upstreams",
        "POST /v1/explain",
        "GET /nothing",
    ] {
        for fields in [&[][..], &["authorization: Bearer wrong"], &["authorization: Basic eDp5"], &[TOKEN, TOKEN]] {
            let answer = call(gateway.admin(), line, fields, "").await;
            assert!(matches!(answer.status, 401 | 429), "{line} with {fields:?}: {}", answer.status);
        }
    }
    // Guessing does not lock out those who know.
    assert_eq!(call(gateway.admin(), "GET /v1/config", &[TOKEN], "").await.status, 200);
}

#[tokio::test]
async fn health_asks_for_nothing() {
    let (gateway, _origin) = gateway("").await;
    for path in ["/livez", "/readyz", "/startupz"] {
        let answer = call(gateway.admin(), &format!("GET {path}"), &[], "").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"), "{path}");
    }
}

#[tokio::test]
async fn a_page_on_the_web_gets_nowhere() {
    let (gateway, _origin) = gateway("").await;
    let address = gateway.admin();
    let rebound = ask(address, format!("GET /v1/config HTTP/1.1\r\nhost: evil.test\r\n{TOKEN}\r\n\r\n")).await;
    assert_eq!(rebound.status, 421);
    assert_eq!(call(address, "GET /v1/config", &[TOKEN, "origin: http://evil.test"], "").await.status, 403);
}

#[tokio::test]
async fn a_route_is_shown_with_everything_about_it() {
    let (gateway, _origin) = gateway("").await;
    for path in ["/routes/all", "/v1/routes/all"] {
        let answer = call(gateway.admin(), &format!("GET {path}"), &[TOKEN], "").await;
        assert_eq!(answer.status, 200);
        let route = answer.json();
        let text = route.to_string();
        assert_eq!(route["id"], "all", "{text}");
        for part in ["/**", "up", "100/s", "test.toml"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let tag = answer.fields.get("etag").expect("a tag").to_string();
        let again = call(gateway.admin(), &format!("GET {path}"), &[TOKEN, &format!("if-none-match: {tag}")], "").await;
        assert_eq!((again.status, again.body.len()), (304, 0));
    }
    assert_eq!(call(gateway.admin(), "GET /routes/none", &[TOKEN], "").await.status, 404);
    let list = call(gateway.admin(), "GET /v1/routes", &[TOKEN], "").await;
    assert!(list.text().contains("\"all\""), "{}", list.text());
}

#[tokio::test]
async fn the_configuration_is_shown_without_its_secrets() {
    let (gateway, _origin) = gateway("").await;
    let config = call(gateway.admin(), "GET /v1/config", &[TOKEN], "").await;
    assert_eq!(config.status, 200);
    assert!(!config.text().contains("0123456789abcdef0123456789abcdef"), "{}", config.text());
    let revision = gateway.running().gateway().revision.0.to_string();
    assert!(config.text().contains(&revision), "{revision}: {}", config.text());
}

#[tokio::test]
async fn a_token_is_made_where_none_is_given() {
    let (one, other) =
        (Gateway::start("[admin]\nbind = \"127.0.0.1:0\"\n").await, Gateway::start("[admin]\nbind = \"127.0.0.1:0\"\n").await);
    assert_ne!(one.admin_token(), other.admin_token());
    assert!(one.admin_token().len() >= 32);
    let bearer = format!("authorization: Bearer {}", one.admin_token());
    assert_eq!(call(one.admin(), "GET /v1/config", &[&bearer], "").await.status, 200);
    assert_eq!(call(other.admin(), "GET /v1/config", &[&bearer], "").await.status, 401);
}

#[tokio::test]
async fn an_explanation_agrees_with_what_happens() {
    let more = "[[route]]\nid = \"here\"\nmatch = \"GET /here\"\nrespond = { status = 204 }\n\
                [[route]]\nid = \"moved\"\nmatch = \"/moved\"\nredirect = { path = \"/here\" }\n\
                [[route]]\nid = \"closed\"\nmatch = \"/closed\"\nrespond = { body = \"x\" }\ndeny = [\"127.0.0.0/8\", \"::1\"]\n";
    let (gateway, _origin) = gateway(more).await;
    for (line, kind, route) in [
        ("GET /here", "respond", json!("here")),
        ("POST /here", "forward", json!("all")),
        ("GET /moved", "redirect", json!("moved")),
        ("GET /elsewhere", "forward", json!("all")),
        ("GET /closed", "reject", json!("closed")),
        ("GET /a%2fb", "reject", json!("all")),
        ("GET /..", "reject", json!(null)),
    ] {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let question = json!({ "method": method, "url": format!("http://shop.test{path}") }).to_string();
        let answer = call(gateway.admin(), "POST /v1/explain", &[TOKEN, "content-type: application/json"], &question).await;
        assert_eq!(answer.status, 200, "{line}: {}", answer.text());
        let explained = answer.json();
        assert_eq!(explained["verdict"]["kind"], kind, "{line}: {explained}");
        assert_eq!(explained["route"].get("id").cloned().unwrap_or_default(), route, "{line}: {explained}");
        let served = ask(gateway.main(), shoal_tests::request(line, &[], "")).await;
        if let Some(status) = explained["verdict"]["status"].as_u64() {
            assert_eq!(u64::from(served.status), status, "{line}: {explained}");
        }
        if kind == "reject" {
            assert_eq!(explained["verdict"]["code"], served.code(), "{line}");
        }
    }
}

#[tokio::test]
async fn asking_changes_nothing() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&(ADMIN.to_string() + &in_front_of(&origin.url(), "limit = \"1/h per client_ip\""))).await;
    let question = json!({ "method": "GET", "url": "http://shop.test/" }).to_string();
    for _ in 0..5 {
        let answer = call(gateway.admin(), "POST /v1/explain", &[TOKEN, "content-type: application/json"], &question).await;
        assert_eq!(answer.json()["verdict"]["kind"], "forward", "{}", answer.text());
    }
    assert_eq!(get(gateway.main(), "/").await.status, 200);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn admin_is_not_reached_through_a_route_nor_a_route_through_admin() {
    let (gateway, origin) = gateway("").await;
    for path in ["/metrics", "/v1/config", "/livez", "/readyz"] {
        assert_eq!(get(gateway.main(), path).await.text(), "ok", "{path} is the endpoint's");
    }
    let before = origin.count();
    assert_eq!(call(gateway.admin(), "GET /anything", &[TOKEN], "").await.status, 404);
    assert_eq!(origin.count(), before);
}

#[tokio::test]
async fn metrics_may_be_left_open() {
    let origin = Origin::ok().await;
    let text = "[admin]\nbind = \"127.0.0.1:0\"\nmetrics = \"open\"\n".to_string() + &in_front_of(&origin.url(), "");
    let gateway = Gateway::start(&text).await;
    assert_eq!(call(gateway.admin(), "GET /metrics", &[], "").await.status, 200);
    assert_eq!(call(gateway.admin(), "GET /v1/config", &[], "").await.status, 401);
}

#[tokio::test]
async fn admin_speaks_tls_where_it_is_told_to() {
    let authority = Authority::new();
    let files = authority.issue("admin", &["127.0.0.1", "admin.test"]);
    let gateway = Gateway::start(&format!("{ADMIN}tls = {}\n", files.toml())).await;
    let mut caller = authority.call(gateway.admin(), "admin.test").await;
    let answer = caller.ask(format!("GET /v1/config HTTP/1.1\r\nhost: admin.test\r\n{TOKEN}\r\n\r\n")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut plain = Caller::connect(gateway.admin()).await;
    let _ = plain.try_send("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(!String::from_utf8_lossy(&plain.end().await).contains(" 200 "));
}

#[tokio::test]
async fn a_slow_caller_does_not_hold_admin() {
    let (gateway, _origin) = gateway("").await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut caller = Caller::connect(gateway.admin()).await;
        caller.send("GET /livez HTT").await;
        slow.push(caller);
    }
    assert_eq!(call(gateway.admin(), "GET /livez", &[], "").await.status, 200);
}
