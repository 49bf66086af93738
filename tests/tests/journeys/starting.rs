//! A node that cannot start says why in one sentence.

use shoal_tests::{Gateway, certificates::Authority, gateway, get, in_front_of, listener};

async fn refused(text: &str) -> String {
    match Gateway::try_start(text).await {
        Ok(_) => panic!("it starts\n{text}"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("an address");
    let error = refused(&format!("[listen.main]\nbind = \"{address}\"\n{}", in_front_of("http://127.0.0.1:9", ""))).await;
    assert!(error.contains("[listen.main]") && error.contains(&address.to_string()) && error.contains("in use"), "{error}");
    assert_eq!(error.lines().count(), 1);
    let error = refused(&format!("[admin]\nbind = \"{address}\"\n")).await;
    assert!(error.contains("[admin]") && error.contains("in use"), "{error}");
}

#[tokio::test]
async fn files_that_do_not_fit_are_named() {
    let authority = Authority::new();
    let (one, other) = (authority.issue("one", &["a.test"]), authority.issue("other", &["a.test"]));
    std::fs::write(authority.folder().join("noise"), "noise").expect("a file");
    let noise = authority.folder().join("noise");
    for (cert, key, part) in [(&one.cert, &other.key, "other.key"), (&noise, &one.key, "noise"), (&one.cert, &noise, "noise")] {
        let error =
            refused(&(listener(&format!("tls = {{ cert = {cert:?}, key = {key:?} }}")) + &in_front_of("http://127.0.0.1:9", ""))).await;
        assert!(error.contains("[listen.main]") && (error.contains(part) || error.contains("one")), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_not_shown() {
    let authority = Authority::new();
    let files = authority.issue_expired("old", &["a.test"]);
    let error = refused(&(listener(&format!("tls = {}", files.toml())) + &in_front_of("http://127.0.0.1:9", ""))).await;
    assert!(error.contains("old.pem") && error.contains("expired"), "{error}");
}

#[tokio::test]
async fn nothing_is_bound_by_a_node_that_does_not_start() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let free = shoal_tests::origin::nobody().await;
    let text = format!("[listen.a]\nbind = \"{free}\"\n[listen.b]\nbind = \"{}\"\n", taken.local_addr().expect("an address"));
    refused(&text).await;
    assert!(tokio::net::TcpListener::bind(free).await.is_ok(), "the first address is free again");
}

#[tokio::test]
async fn every_problem_of_a_text_is_told_at_once() {
    let problems = gateway::read("[service.up]\nendpoints = [\"http://127.0.0.1:9\"]\n[[route]]\nmatch = \"/a\"\nservice = \"upp\"\nmax_bodi = \"1KiB\"\n[[route]]\nmatch = \"nonsense\"\nservice = \"up\"\n")
        .expect_err("it is full of mistakes");
    for part in ["test.toml:5:", "test.toml:6:", "test.toml:8:", "max_body", "`up`"] {
        assert!(problems.contains(part), "{part}:\n{problems}");
    }
}

#[tokio::test]
async fn a_gateway_without_routes_answers() {
    let gateway = Gateway::start("").await;
    get(gateway.main(), "/").await.refuses(404, "E4040");
}

#[tokio::test]
async fn health_is_answered_on_a_listener_that_serves_it() {
    let gateway = Gateway::start(&(listener("serve = [\"health\"]") + &in_front_of("http://127.0.0.1:9", ""))).await;
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(get(gateway.main(), path).await.status, 200, "{path}");
    }
}
