//! How much a caller may send: each bound has its status, and what is within it passes.

use shoal_tests::{Caller, Gateway, Origin, ask, get, http2, http2::H2Caller, in_front_of, listener, request, wait::within};

async fn bounded(bounds: &str, keys: &str) -> (Gateway, Origin) {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&(listener(&format!("bounds = {{ {bounds} }}")) + &in_front_of(&origin.url(), keys))).await;
    (gateway, origin)
}

/// Sends a head, and takes what comes back even if the gateway stops reading half-way.
async fn status_of(gateway: &Gateway, head: String) -> u16 {
    let mut caller = Caller::connect(gateway.main()).await;
    let _ = caller.try_send(head).await;
    caller.answer().await.status
}

#[tokio::test]
async fn a_head_beyond_its_bound_is_431() {
    let (gateway, origin) = bounded("head_size = \"8KiB\"", "").await;
    let head = |size: usize| request("GET /", &[&format!("x-a: {}", "b".repeat(size))], "");
    assert_eq!(status_of(&gateway, head(8_000)).await, 200);
    for size in [8_192, 10_000, 40_000, 200_000] {
        assert_eq!(status_of(&gateway, head(size)).await, 431, "{size}");
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn the_default_head_is_32_kib() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    assert_eq!(status_of(&gateway, request("GET /", &[&format!("x-a: {}", "b".repeat(32_000))], "")).await, 200);
    assert_eq!(status_of(&gateway, request("GET /", &[&format!("x-a: {}", "b".repeat(33_000))], "")).await, 431);
}

#[tokio::test]
async fn more_fields_than_the_bound_are_431() {
    for (bounds, within, beyond) in [("head_count = 10", 10, 11), ("head_count = 100", 100, 101), ("head_count = 200", 200, 201)] {
        let (gateway, origin) = bounded(bounds, "").await;
        // `host` is one of them.
        let head = |count: usize| request("GET /", &vec!["x-a: b"; count - 1], "");
        assert_eq!(status_of(&gateway, head(within)).await, 200, "{bounds}");
        assert_eq!(status_of(&gateway, head(beyond)).await, 431, "{bounds}");
        assert_eq!(origin.count(), 1);
    }
}

#[tokio::test]
async fn a_target_beyond_its_bound_is_414() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    assert_eq!(get(gateway.main(), &format!("/{}", "a".repeat(8_000))).await.status, 200);
    get(gateway.main(), &format!("/{}", "a".repeat(8_192))).await.refuses(414, "E4140");
    get(gateway.main(), &format!("/?{}", "a".repeat(20_000))).await.refuses(414, "E4140");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_body_beyond_its_bound_is_413() {
    let (gateway, origin) = bounded("", "max_body = \"10B\"").await;
    assert_eq!(ask(gateway.main(), request("POST /", &["content-length: 10"], "0123456789")).await.status, 200);
    ask(gateway.main(), request("POST /", &["content-length: 11"], "")).await.refuses(413, "E4130");
    assert_eq!(origin.count(), 1, "a length that is too large is refused before anyone is asked");

    let chunked = |body: &str| request("POST /", &["transfer-encoding: chunked"], body);
    assert_eq!(ask(gateway.main(), chunked("5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n")).await.status, 200);
    ask(gateway.main(), chunked("5\r\n01234\r\n6\r\n56789a\r\n0\r\n\r\n")).await.refuses(413, "E4130");
    let seen = origin.requests();
    assert!(seen.iter().all(|request| request.body_size <= 10 && (request.complete || request.body_size < 10)), "{seen:?}");
}

#[tokio::test]
async fn a_body_of_http_2_beyond_its_bound_is_413() {
    let (gateway, _origin) = bounded("", "max_body = \"10B\"").await;
    let mut caller = H2Caller::connect(gateway.main()).await;
    let post = |body: &'static str| http2::request(http::Method::POST, "/").body(http2::full(body)).expect("a request");
    assert_eq!(caller.send(post("0123456789")).await.status, 200);
    assert_eq!(caller.send(post("0123456789a")).await.status, 413);

    let (push, body) = http2::pushed();
    let request = http2::request(http::Method::POST, "/").body(body).expect("a request");
    let answer = async { http2::whole(caller.try_send(request).await.expect("an answer")).await.expect("a whole answer") };
    push.send(hyper::body::Frame::data("01234".into())).expect("the caller takes it");
    push.send(hyper::body::Frame::data("56789a".into())).expect("the caller takes it");
    assert_eq!(within("a refusal", answer).await.status, 413);
    // One stream was refused, not the connection.
    assert_eq!(caller.get("/").await.status, 200);
}

#[tokio::test]
async fn the_default_body_is_one_mib_and_a_route_may_lift_it() {
    let origin = Origin::ok().await;
    let text = in_front_of(&origin.url(), "") + "[[route]]\nmatch = \"/uploads/**\"\nservice = \"up\"\nmax_body = \"unlimited\"\n";
    let gateway = Gateway::start(&text).await;
    let size = (1 << 20) + 1;
    ask(gateway.main(), request("POST /", &[&format!("content-length: {size}")], "")).await.refuses(413, "E4130");
    let answer = ask(gateway.main(), request("POST /uploads/x", &[&format!("content-length: {size}")], &"x".repeat(size))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(origin.request().body_size, size as u64);
}

#[tokio::test]
async fn a_head_of_http_2_beyond_its_bound_is_431() {
    let (gateway, origin) = bounded("head_size = \"8KiB\", head_count = 50", "").await;
    let mut caller = H2Caller::connect(gateway.main()).await;
    let many = (0..60).fold(http2::request(http::Method::GET, "/"), |request, number| request.header(format!("x-{number}"), "a"));
    assert_eq!(caller.send(many.body(http2::nothing()).expect("a request")).await.status, 431);
    let long = http2::request(http::Method::GET, "/").header("x-a", "b".repeat(10_000));
    // Either the limit was announced and the caller keeps to it, or it is told.
    if let Ok(answer) = caller.try_send(long.body(http2::nothing()).expect("a request")).await {
        assert_eq!(answer.status(), 431);
    }
    let target = http2::request(http::Method::GET, &format!("/{}", "a".repeat(8_192)));
    if let Ok(answer) = caller.try_send(target.body(http2::nothing()).expect("a request")).await {
        assert!(matches!(answer.status().as_u16(), 414 | 431), "{}", answer.status());
    }
    assert_eq!(origin.count(), 0);
}
