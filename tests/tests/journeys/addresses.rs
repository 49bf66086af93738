//! Who is believed about where a request comes from, and what the endpoint is told of it.

use shoal_tests::{Gateway, Origin, Recorded, ask, in_front_of, request};

async fn seen(node: &str, fields: &[&str]) -> Recorded {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&(node.to_string() + &in_front_of(&origin.url(), ""))).await;
    assert_eq!(ask(gateway.main(), request("GET /", fields, "")).await.status, 200);
    origin.request()
}

const TRUSTING: &str = "[node]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n";

#[tokio::test]
async fn by_default_nobody_is_believed() {
    let lies = [
        "x-forwarded-for: 192.0.2.9",
        "x-forwarded-proto: https",
        "x-forwarded-host: evil.test",
        "x-forwarded-port: 1",
        "x-forwarded-user: root",
        "x-real-ip: 192.0.2.9",
        "forwarded: for=192.0.2.9;proto=https",
    ];
    let seen = seen("", &lies).await;
    assert_eq!(seen.fields.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.fields.get("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.fields.get("x-forwarded-host"), Some("shop.test"));
    for name in ["x-forwarded-port", "x-forwarded-user", "x-real-ip", "forwarded"] {
        assert!(!seen.fields.has(name), "{name}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_as_far_as_the_chain_is_trusted() {
    for (sent, told) in [
        ("192.0.2.9", "192.0.2.9, 127.0.0.1"),
        ("6.6.6.6, 192.0.2.9", "192.0.2.9, 127.0.0.1"),
        ("6.6.6.6, 192.0.2.9, 10.0.0.7", "192.0.2.9, 10.0.0.7, 127.0.0.1"),
        ("nonsense", "127.0.0.1"),
    ] {
        let seen = seen(TRUSTING, &[&format!("x-forwarded-for: {sent}"), "x-forwarded-proto: https", "x-forwarded-host: www.test"]).await;
        assert_eq!(seen.fields.get("x-forwarded-for"), Some(told), "{sent}");
        assert_eq!(seen.fields.get("x-forwarded-proto"), Some("https"));
        assert_eq!(seen.fields.get("x-forwarded-host"), Some("www.test"));
    }
}

#[tokio::test]
async fn forwarded_is_read_from_a_trusted_proxy_and_written_anew() {
    let seen = seen(TRUSTING, &["forwarded: for=6.6.6.6, for=192.0.2.9;proto=https;host=www.test"]).await;
    assert_eq!(seen.fields.get("forwarded"), Some("for=192.0.2.9;proto=https;host=\"www.test\", for=127.0.0.1"));
    assert_eq!(seen.fields.get("x-forwarded-for"), Some("192.0.2.9, 127.0.0.1"));
    assert_eq!(seen.fields.get("x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn a_malformed_forwarded_is_dropped() {
    let seen = seen(TRUSTING, &["forwarded: for=192.0.2.9;;proto=https"]).await;
    assert!(!seen.fields.has("forwarded"));
    assert_eq!(seen.fields.get("x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn nobody_but_the_gateway_says_who_a_client_is() {
    let lies = ["x-shoal-client: root", "x-jwt-sub: root", "x-api-client: root"];
    for node in ["", TRUSTING] {
        let seen = seen(node, &lies).await;
        for lie in lies {
            let name = lie.split(':').next().expect("a name");
            assert!(!seen.fields.has(name), "{name}");
        }
    }
}

#[tokio::test]
async fn a_limit_counts_the_caller_and_not_the_proxy() {
    let origin = Origin::ok().await;
    let text = TRUSTING.to_string() + &in_front_of(&origin.url(), "limit = \"1/h per client_ip\"");
    let gateway = Gateway::start(&text).await;
    for (from, status) in [("192.0.2.1", 200), ("192.0.2.2", 200), ("192.0.2.1", 429), ("6.6.6.6, 192.0.2.2", 429)] {
        let answer = ask(gateway.main(), request("GET /", &[&format!("x-forwarded-for: {from}")], "")).await;
        assert_eq!(answer.status, status, "{from}");
    }
}
