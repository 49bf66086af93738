//! How many connections there may be, and how long each is used.

use shoal_tests::{Caller, Gateway, Origin, get, http2::H2Caller, in_front_of, listener, request, wait::until};

#[tokio::test]
async fn a_listener_takes_no_more_connections_than_it_may() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&(listener("max_connections = 3") + &in_front_of(&origin.url(), ""))).await;
    full_at_three(&gateway).await;
}

#[tokio::test]
async fn a_node_takes_no_more_connections_than_it_may() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&("[node]\nmax_connections = 3\n".to_string() + &in_front_of(&origin.url(), ""))).await;
    full_at_three(&gateway).await;
}

async fn full_at_three(gateway: &Gateway) {
    let mut callers = Vec::new();
    for _ in 0..3 {
        let mut caller = Caller::connect(gateway.main()).await;
        assert_eq!(caller.get("/").await.status, 200);
        callers.push(caller);
    }
    let mut fourth = Caller::connect(gateway.main()).await;
    assert_eq!(fourth.end().await, b"", "one too many is closed at once");
    for caller in &mut callers {
        assert_eq!(caller.get("/").await.status, 200, "those before it are not touched");
    }
    callers.pop();
    until("room", || gateway.connections() == 2).await;
    assert_eq!(get(gateway.main(), "/").await.status, 200);
}

#[tokio::test]
async fn one_address_takes_no_more_connections_than_it_may() {
    let origin = Origin::ok().await;
    let text = "[node]\nmax_connections_per_address = 2\n".to_string()
        + &listener("proxy_protocol = [\"127.0.0.0/8\"]")
        + &in_front_of(&origin.url(), "");
    let gateway = Gateway::start(&text).await;
    let from = |address: &str| format!("PROXY TCP4 {address} 10.0.0.1 1000 80\r\n{}", request("GET /", &[], ""));
    let mut callers = Vec::new();
    for address in ["192.0.2.1", "192.0.2.1", "192.0.2.2"] {
        let mut caller = Caller::connect(gateway.main()).await;
        assert_eq!(caller.ask(from(address)).await.status, 200);
        callers.push(caller);
    }
    let mut third = Caller::connect(gateway.main()).await;
    let _ = third.try_send(from("192.0.2.1")).await;
    assert_eq!(third.end().await, b"");
    callers.remove(0);
    until("room", || gateway.connections() == 2).await;
    assert_eq!(Caller::connect(gateway.main()).await.ask(from("192.0.2.1")).await.status, 200);
}

#[tokio::test]
async fn a_caller_with_a_network_of_addresses_takes_no_more_than_one_with_a_single_one() {
    let origin = Origin::ok().await;
    let text = "[node]\nmax_connections_per_address = 2\n".to_string()
        + &listener("proxy_protocol = [\"127.0.0.0/8\"]")
        + &in_front_of(&origin.url(), "");
    let gateway = Gateway::start(&text).await;
    let from = |address: &str| format!("PROXY TCP6 {address} 2001:db8::1 1000 80\r\n{}", request("GET /", &[], ""));
    let mut callers = Vec::new();
    for address in ["2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:2::1"] {
        let mut caller = Caller::connect(gateway.main()).await;
        assert_eq!(caller.ask(from(address)).await.status, 200);
        callers.push(caller);
    }
    let mut third = Caller::connect(gateway.main()).await;
    let _ = third.try_send(from("2001:db8:0:1:ffff::3")).await;
    assert_eq!(third.end().await, b"");
}

#[tokio::test]
async fn loopback_is_not_counted_by_address() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&("[node]\nmax_connections_per_address = 1\n".to_string() + &in_front_of(&origin.url(), ""))).await;
    let mut callers = Vec::new();
    for _ in 0..5 {
        let mut caller = Caller::connect(gateway.main()).await;
        assert_eq!(caller.get("/").await.status, 200);
        callers.push(caller);
    }
}

#[tokio::test]
async fn a_connection_is_closed_politely_after_its_last_request() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&(listener("bounds = { requests_per_connection = 3 }") + &in_front_of(&origin.url(), ""))).await;
    let mut caller = Caller::connect(gateway.main()).await;
    for count in 1..=3 {
        let answer = caller.get("/").await;
        assert_eq!((answer.status, answer.fields.has("connection")), (200, count == 3));
    }
    assert_eq!(caller.end().await, b"");

    let mut caller = H2Caller::connect(gateway.main()).await;
    for _ in 0..3 {
        assert_eq!(caller.get("/").await.status, 200);
    }
    caller.end().await;
}

#[tokio::test]
async fn a_caller_that_says_close_is_taken_at_its_word() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    let answer = caller.ask(request("GET /", &["connection: close"], "")).await;
    assert_eq!((answer.status, answer.fields.get("connection")), (200, Some("close")));
    assert_eq!(caller.end().await, b"");
}

#[tokio::test]
async fn a_listener_speaks_only_what_it_is_told_to() {
    let origin = Origin::ok().await;
    let h1 = Gateway::start(&(listener("http = [\"h1\"]") + &in_front_of(&origin.url(), ""))).await;
    assert_eq!(get(h1.main(), "/").await.status, 200);
    let mut caller = Caller::connect(h1.main()).await;
    caller.send(shoal_tests::h2::PREFACE).await;
    let said = String::from_utf8_lossy(&caller.end().await).into_owned();
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");

    let h2 = Gateway::start(&(listener("http = [\"h2\"]") + &in_front_of(&origin.url(), ""))).await;
    assert_eq!(H2Caller::connect(h2.main()).await.get("/").await.status, 200);
    let mut caller = Caller::connect(h2.main()).await;
    caller.send(request("GET /", &[], "")).await;
    let said = String::from_utf8_lossy(&caller.end().await).into_owned();
    assert!(!said.contains(" 200 "), "{said}");
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn a_listener_may_have_several_addresses() {
    let origin = Origin::ok().await;
    let text = "[listen.main]\nbind = [\"127.0.0.1:0\", \"[::1]:0\"]\n".to_string() + &in_front_of(&origin.url(), "");
    let gateway = Gateway::start(&text).await;
    let addresses = gateway.running().addresses();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    for (_, address) in addresses {
        assert_eq!(get(address, "/").await.status, 200, "{address}");
    }
}
