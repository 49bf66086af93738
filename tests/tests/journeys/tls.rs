//! TLS on both sides: who is shown which certificate, who has to show one, and what happens to a host that none covers.

use http::Method;
use shoal_tests::{
    Caller, Gateway, Origin,
    certificates::{Authority, tls},
    get,
    http2::{self, H2Caller, H2Origin},
    in_front_of, listener, request,
    wait::until,
};

async fn secure(authority: &Authority, keys: &str, names: &[&str]) -> (Gateway, Origin) {
    let origin = Origin::ok().await;
    let files = authority.issue("gateway", names);
    let table = format!("tls = {{ cert = {:?}, key = {:?}{keys} }}", files.cert, files.key);
    let gateway = Gateway::start(&(listener(&table) + &in_front_of(&origin.url(), ""))).await;
    (gateway, origin)
}

#[tokio::test]
async fn alpn_chooses_the_protocol() {
    let authority = Authority::new();
    let (gateway, origin) = secure(&authority, "", &["shop.test"]).await;
    let mut caller = authority.call(gateway.main(), "shop.test").await;
    assert_eq!(caller.get("/").await.status, 200);

    let stream = tls(authority.connector(&["h2", "http/1.1"], None), gateway.main(), "shop.test").await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let get = http::Request::get("https://shop.test/").body(http2::nothing()).expect("a request");
    assert_eq!(H2Caller::over(stream).await.send(get).await.status, 200);

    let stream = tls(authority.connector(&[], None), gateway.main(), "shop.test").await.expect("a handshake");
    let local = stream.get_ref().0.local_addr().expect("an address");
    assert_eq!(Caller::over(Box::new(stream), local).get("/").await.status, 200);
    for seen in origin.requests() {
        assert_eq!(seen.fields.get("x-forwarded-proto"), Some("https"));
    }
}

#[tokio::test]
async fn a_protocol_that_the_listener_does_not_speak_is_not_agreed_on() {
    let authority = Authority::new();
    let origin = Origin::ok().await;
    let files = authority.issue("gateway", &["shop.test"]);
    let gateway = Gateway::start(&(listener(&format!("http = [\"h1\"]\ntls = {}", files.toml())) + &in_front_of(&origin.url(), ""))).await;
    let stream = tls(authority.connector(&["h2", "http/1.1"], None), gateway.main(), "shop.test").await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(tls(authority.connector(&["h2"], None), gateway.main(), "shop.test").await.is_err());
}

#[tokio::test]
async fn a_caller_is_shown_the_certificate_of_the_name_it_asks_for() {
    let authority = Authority::new();
    let origin = Origin::ok().await;
    let tables: Vec<String> = [("a", &["a.test"][..]), ("b", &["b.test", "c.test"]), ("w", &["*.w.test"])]
        .iter()
        .map(|(called, names)| authority.issue(called, names).toml())
        .collect();
    let text = listener(&format!("tls = {{ certificates = [{}] }}", tables.join(", "))) + &in_front_of(&origin.url(), "");
    let gateway = Gateway::start(&text).await;
    let asks = |host: &str| format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
    for (name, host, status) in [
        ("a.test", "a.test", 200),
        ("a.test", "A.test.:443", 200),
        ("b.test", "c.test", 200),
        ("x.w.test", "y.w.test", 200),
        ("a.test", "b.test", 421),
        ("b.test", "a.test", 421),
        ("a.test", "elsewhere.test", 421),
        ("x.w.test", "x.y.w.test", 421),
    ] {
        // The handshake itself says whether the certificate is the right one.
        let mut caller = authority.call(gateway.main(), name).await;
        let answer = caller.ask(asks(host)).await;
        match status {
            421 => answer.refuses(421, "E4210"),
            status => assert_eq!(answer.status, status, "{host} on a connection for {name}"),
        }
    }
    assert!(
        authority.try_call(gateway.main(), "unknown.test", None).await.is_err(),
        "the first certificate is not that of an unknown name"
    );
}

#[tokio::test]
async fn a_misdirected_request_of_http_2_does_not_end_the_connection() {
    let authority = Authority::new();
    let (gateway, _origin) = secure(&authority, "", &["shop.test"]).await;
    let stream = tls(authority.connector(&["h2"], None), gateway.main(), "shop.test").await.expect("a handshake");
    let mut caller = H2Caller::over(stream).await;
    for (host, status) in [("shop.test", 200), ("other.test", 421), ("shop.test", 200)] {
        let get = http::Request::builder().method(Method::GET).uri(format!("https://{host}/")).body(http2::nothing()).expect("a request");
        assert_eq!(caller.send(get).await.status, status, "{host}");
    }
}

#[tokio::test]
async fn a_caller_shows_a_certificate_where_one_is_required() {
    let (authority, other) = (Authority::new(), Authority::new());
    let shown = authority.issue("caller", &["caller.test"]);
    let foreign = other.issue("caller", &["caller.test"]);
    for (auth, without, with_foreign) in [("required", false, false), ("optional", true, false)] {
        let keys = format!(", client_ca = {:?}, client_auth = \"{auth}\"", authority.file());
        let (gateway, _origin) = secure(&authority, &keys, &["shop.test"]).await;
        for (files, expected) in [(Some(&shown), true), (None, without), (Some(&foreign), with_foreign)] {
            // With TLS 1.3 a caller learns of a refusal only when it reads.
            let served = match authority.try_call(gateway.main(), "shop.test", files).await {
                Err(_) => false,
                Ok(mut caller) => {
                    let sent = caller.try_send(request("GET /", &[], "")).await.is_ok();
                    sent && String::from_utf8_lossy(&first_line(&mut caller).await).contains(" 200 ")
                }
            };
            assert_eq!(served, expected, "{auth} with {files:?}");
        }
    }
}

/// What comes first, or nothing where the connection ends.
async fn first_line(caller: &mut Caller) -> Vec<u8> {
    let filled = shoal_tests::wait::within("an answer or an end", caller.wire.fill()).await;
    if filled.is_ok() { std::mem::take(&mut caller.wire.buffer) } else { Vec::new() }
}

#[tokio::test]
async fn what_is_no_tls_is_ended() {
    let authority = Authority::new();
    let (gateway, origin) = secure(&authority, "", &["shop.test"]).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("GET /", &[], "")).await;
    let said = caller.end().await;
    assert!(!String::from_utf8_lossy(&said).contains("HTTP/1.1 200"));
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_ended() {
    let authority = Authority::new();
    let origin = Origin::ok().await;
    let files = authority.issue("gateway", &["shop.test"]);
    let keys = format!("tls = {}\nbounds = {{ tls_handshake = \"200ms\" }}", files.toml());
    let gateway = Gateway::start(&(listener(&keys) + &in_front_of(&origin.url(), ""))).await;
    let mut silent = Caller::connect(gateway.main()).await;
    let mut begun = Caller::connect(gateway.main()).await;
    begun.send([0x16, 3, 1, 2, 0, 1]).await;
    silent.end().await;
    begun.end().await;
    until("both to be forgotten", || gateway.connections() == 0).await;
}

#[tokio::test]
async fn a_changed_certificate_is_shown_from_the_next_connection_on() {
    let (authority, successor) = (Authority::new(), Authority::new());
    let origin = Origin::ok().await;
    let files = authority.issue("gateway", &["shop.test"]);
    let text = listener(&format!("tls = {}", files.toml())) + &in_front_of(&origin.url(), "");
    let gateway = Gateway::start(&text).await;
    let mut before = authority.call(gateway.main(), "shop.test").await;
    assert_eq!(before.get("/").await.status, 200);

    let renewed = successor.issue("gateway", &["shop.test"]);
    std::fs::copy(&renewed.cert, &files.cert).expect("a copy");
    std::fs::copy(&renewed.key, &files.key).expect("a copy");
    gateway.reload(&text).await.expect("the new files are good");
    assert!(authority.try_call(gateway.main(), "shop.test", None).await.is_err(), "the old authority did not issue what is shown");
    assert_eq!(successor.call(gateway.main(), "shop.test").await.get("/").await.status, 200);
    assert_eq!(before.get("/").await.status, 200, "a connection that stands is not touched");

    std::fs::write(&files.key, "no key").expect("a file");
    assert!(gateway.reload(&text).await.is_err());
    assert_eq!(successor.call(gateway.main(), "shop.test").await.get("/").await.status, 200, "what was good goes on");
}

/// A gateway in front of an endpoint that speaks TLS.
async fn to_endpoint(url: String, table: &str) -> Gateway {
    let text = format!("[service.up]\nendpoints = [\"{url}\"]\ntls = {{ {table} }}\n[[route]]\nmatch = \"/**\"\nservice = \"up\"\n");
    Gateway::start(&text).await
}

#[tokio::test]
async fn an_endpoint_is_believed_only_with_the_right_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let files = authority.issue("endpoint", &["inside.test", "127.0.0.1"]);
    let origin = Origin::start_tls(authority.acceptor(&files, &["http/1.1"]), |exchange| {
        Box::pin(async move { exchange.answer("200 OK", "", "ok").await })
    })
    .await;
    let url = format!("https://{}", origin.address);
    for (ca, name, good) in [
        (authority.file(), "", true),
        (authority.file(), ", server_name = \"inside.test\"", true),
        (authority.file(), ", server_name = \"outside.test\"", false),
        (other.file(), "", false),
    ] {
        let gateway = to_endpoint(url.clone(), &format!("ca = {ca:?}{name}")).await;
        let answer = get(gateway.main(), "/").await;
        if good {
            assert_eq!(answer.status, 200, "{ca:?}{name}");
        } else {
            answer.refuses(502, "E5020");
        }
    }
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn an_endpoint_agrees_on_its_protocol_by_alpn() {
    let authority = Authority::new();
    let files = authority.issue("endpoint", &["127.0.0.1"]);
    let h2 = H2Origin::start_tls(authority.acceptor(&files, &["h2"])).await;
    let h1 =
        Origin::start_tls(authority.acceptor(&files, &[]), |exchange| Box::pin(async move { exchange.answer("200 OK", "", "ok").await }))
            .await;
    let table = format!("ca = {:?}", authority.file());
    let gateway = to_endpoint(format!("https://{}", h2.address), &table).await;
    for _ in 0..3 {
        assert_eq!(get(gateway.main(), "/").await.status, 200);
    }
    assert!(h2.requests().iter().all(|request| request.version == http::Version::HTTP_2));
    assert_eq!(h2.requests()[0].uri.scheme_str(), Some("https"));
    let gateway = to_endpoint(format!("https://{}", h1.address), &table).await;
    assert_eq!(get(gateway.main(), "/").await.status, 200);
}

#[tokio::test]
async fn an_endpoint_that_speaks_plain_text_instead_of_tls_is_a_bad_gateway() {
    let authority = Authority::new();
    let origin = Origin::ok().await;
    let gateway = to_endpoint(format!("https://{}", origin.address), &format!("ca = {:?}", authority.file())).await;
    get(gateway.main(), "/").await.refuses(502, "E5020");
    // What arrived was a handshake, which is no request.
    origin.take_faults();
}

#[tokio::test]
async fn a_websocket_reaches_an_endpoint_that_would_rather_speak_http_2() {
    let authority = Authority::new();
    let files = authority.issue("endpoint", &["127.0.0.1"]);
    let origin = Origin::start_tls(authority.acceptor(&files, &["h2", "http/1.1"]), |exchange| {
        Box::pin(async move {
            exchange.hang_up();
            exchange.say(shoal_tests::websocket::welcome()).await?;
            while let Some(text) = shoal_tests::websocket::receive(&mut exchange.wire).await? {
                shoal_tests::websocket::send(&mut exchange.wire, &text, false).await?;
            }
            Ok(())
        })
    })
    .await;
    let gateway = to_endpoint(format!("https://{}", origin.address), &format!("ca = {:?}", authority.file())).await;
    let mut caller = super::websocket::open(&gateway, "/").await;
    super::websocket::echo(&mut caller, "hello").await;
}

#[tokio::test]
async fn a_listener_speaks_the_versions_that_it_is_told_to() {
    let authority = Authority::new();
    for (min, tls12) in [("1.2", true), ("1.3", false)] {
        let (gateway, _origin) = secure(&authority, &format!(", min = \"{min}\""), &["shop.test"]).await;
        assert_eq!(authority.call(gateway.main(), "shop.test").await.get("/").await.status, 200);
        let old = tls(authority.connector_of(&rustls::version::TLS12), gateway.main(), "shop.test").await;
        assert_eq!(old.is_ok(), tls12, "TLS 1.2 where {min} is the least");
    }
}

#[tokio::test]
async fn an_endpoint_is_shown_the_certificate_of_its_service() {
    let authority = Authority::new();
    let (endpoint, gateway_files) = (authority.issue("endpoint", &["127.0.0.1"]), authority.issue("client", &["gateway.test"]));
    let origin =
        Origin::start_tls(authority.demanding(&endpoint), |exchange| Box::pin(async move { exchange.answer("200 OK", "", "ok").await }))
            .await;
    let url = format!("https://{}", origin.address);
    let shown = format!("ca = {:?}, cert = {:?}, key = {:?}", authority.file(), gateway_files.cert, gateway_files.key);
    let gateway = to_endpoint(url.clone(), &shown).await;
    assert_eq!(get(gateway.main(), "/").await.status, 200);
    let gateway = to_endpoint(url, &format!("ca = {:?}", authority.file())).await;
    assert_eq!(get(gateway.main(), "/").await.status, 502);
    assert_eq!(origin.count(), 1);
}
