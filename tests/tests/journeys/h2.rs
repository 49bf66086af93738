//! HTTP/2 on either side, and gRPC from end to end.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Frame;
use shoal_tests::{
    Gateway, Origin, get,
    h2::{self, Framed, block},
    http2::{self, H2Caller, H2Origin},
    in_front_of,
    wait::within,
};

fn h2c(origin: &H2Origin) -> String {
    format!("h2c://{}", origin.address)
}

#[tokio::test]
async fn both_protocols_are_spoken_on_one_port() {
    let origin = Origin::echo().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    assert_eq!(get(gateway.main(), "/").await.status, 200);
    let mut caller = H2Caller::connect(gateway.main()).await;
    let post = http2::request(Method::POST, "/p?q").header("x-a", "b").body(http2::full("hello")).expect("a request");
    let reply = caller.send(post).await;
    assert_eq!((reply.status, reply.text().as_str()), (StatusCode::OK, "hello"));
    assert!(reply.headers.contains_key("x-request-id"));
    let seen = &origin.requests()[1];
    assert_eq!((seen.target.as_str(), seen.fields.get("host"), seen.fields.get("x-a")), ("/p?q", Some("shop.test"), Some("b")));
    assert_eq!(seen.fields.get("x-forwarded-host"), Some("shop.test"));
}

#[tokio::test]
async fn a_connection_carries_many_streams_at_once() {
    let origin = Origin::echo().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let caller = std::sync::Arc::new(tokio::sync::Mutex::new(H2Caller::connect(gateway.main()).await));
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..150 {
        let caller = caller.clone();
        asking.spawn(async move {
            let post = http2::request(Method::POST, "/").body(http2::full(number.to_string())).expect("a request");
            let response = caller.lock().await.try_send(post).await.expect("an answer");
            assert_eq!(http2::whole(response).await.expect("a whole answer").text(), number.to_string());
        });
    }
    asking.join_all().await;
    assert_eq!(gateway.connections(), 1);
}

#[tokio::test]
async fn a_slow_stream_does_not_hold_up_the_others() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            if exchange.request.target == "/slow" { exchange.silence().await } else { exchange.answer("200 OK", "", "ok").await }
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Framed::connect(gateway.main()).await;
    caller.send(&h2::Frame::request(1, "GET", "/slow", false)).await.expect("the gateway reads");
    for stream in [3, 5, 7] {
        caller.send(&h2::Frame::request(stream, "GET", "/quick", false)).await.expect("the gateway reads");
        loop {
            let frame = caller.next_of(h2::HEADERS).await;
            if frame.stream == stream {
                break;
            }
        }
    }
}

#[tokio::test]
async fn grpc_passes_from_end_to_end() {
    let origin = H2Origin::start().await;
    let gateway = Gateway::start(&in_front_of(&h2c(&origin), "")).await;
    let mut caller = H2Caller::connect(gateway.main()).await;
    let (push, body) = http2::pushed();
    let call = http2::request(Method::POST, "/shop.Cart/Watch")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "10S")
        .body(body)
        .expect("a request");
    let response = caller.try_send(call).await.expect("a head before the first message");
    assert_eq!(response.headers().get("content-type").map(|value| value.as_bytes()), Some(&b"application/grpc"[..]));
    let mut answer = response.into_body();
    for message in ["one", "two", "three"] {
        push.send(Frame::data(Bytes::from(message))).expect("the caller takes it");
        let frame = within("an echo", http_body_util::BodyExt::frame(&mut answer)).await.expect("a frame").expect("a frame");
        assert_eq!(frame.into_data().expect("data"), message);
    }
    drop(push);
    let last = within("trailers", http_body_util::BodyExt::frame(&mut answer)).await.expect("a frame").expect("a frame");
    assert_eq!(last.into_trailers().expect("trailers").get("grpc-status").map(|value| value.as_bytes()), Some(&b"0"[..]));

    let seen = &origin.requests()[0];
    assert_eq!(seen.uri.path(), "/shop.Cart/Watch");
    assert_eq!(seen.uri.authority().map(|authority| authority.as_str()), Some("shop.test"));
    assert_eq!(seen.headers.get("te").map(|value| value.as_bytes()), Some(&b"trailers"[..]));
    assert_eq!(seen.headers.get("grpc-timeout").map(|value| value.as_bytes()), Some(&b"10S"[..]));
}

#[tokio::test]
async fn trailers_pass_both_ways_between_connections_of_http_2() {
    let origin = H2Origin::start().await;
    let gateway = Gateway::start(&in_front_of(&h2c(&origin), "")).await;
    let mut caller = H2Caller::connect(gateway.main()).await;
    let (push, body) = http2::pushed();
    push.send(Frame::data(Bytes::from("hello"))).expect("the caller takes it");
    push.send(Frame::trailers(HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), http::HeaderValue::from_static("42"))])))
        .expect("the caller takes it");
    drop(push);
    let reply = caller.send(http2::request(Method::POST, "/").header("te", "trailers").body(body).expect("a request")).await;
    assert_eq!(reply.text(), "hello");
    assert_eq!(origin.trailers()[0].get("x-sum").map(|value| value.as_bytes()), Some(&b"42"[..]));
    assert_eq!(reply.trailers.get("grpc-status").map(|value| value.as_bytes()), Some(&b"0"[..]));
}

#[tokio::test]
async fn a_caller_of_http_1_1_reaches_an_endpoint_of_http_2() {
    let origin = H2Origin::start().await;
    let gateway = Gateway::start(&in_front_of(&h2c(&origin), "")).await;
    let mut caller = shoal_tests::Caller::connect(gateway.main()).await;
    for (field, body) in [("content-length: 5", "hello"), ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")] {
        let answer = caller.ask(shoal_tests::request("POST /p", &[field, "connection: keep-alive"], body)).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{field}");
    }
    let seen = origin.requests();
    assert!(seen.iter().all(|request| request.version == http::Version::HTTP_2 && !request.headers.contains_key("transfer-encoding")));
}

#[tokio::test]
async fn connections_of_http_2_to_an_endpoint_are_shared() {
    let origin = H2Origin::start().await;
    let gateway = Gateway::start(&in_front_of(&h2c(&origin), "")).await;
    let mut asking = tokio::task::JoinSet::new();
    let address = gateway.main();
    for _ in 0..30 {
        asking.spawn(async move { get(address, "/").await.status });
    }
    assert!(asking.join_all().await.into_iter().all(|status| status == 200));
    assert_eq!(origin.requests().len(), 30);
}

#[tokio::test]
async fn a_refused_grpc_call_has_a_status_of_grpc() {
    let nobody = shoal_tests::origin::nobody().await;
    let text = in_front_of(&format!("h2c://{nobody}"), "").replace("/**", "/shop.Cart/**");
    let gateway = Gateway::start(&text).await;
    let mut caller = H2Caller::connect(gateway.main()).await;
    for (path, status) in [("/shop.Cart/Add", "14"), ("/other.Service/Call", "12")] {
        let call =
            http2::request(Method::POST, path).header("content-type", "application/grpc+proto").body(http2::full("x")).expect("a request");
        let refused = caller.send(call).await;
        assert_eq!((refused.status, refused.header("grpc-status")), (StatusCode::OK, Some(status)), "{path}");
        assert!(refused.header("content-type").is_some_and(|kind| kind.starts_with("application/grpc")), "{:?}", refused.headers);
        assert!(refused.headers.contains_key("x-request-id") && refused.body.is_empty());
    }
    // Who speaks no gRPC gets a problem.
    let refused = caller.get("/shop.Cart/Add").await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (StatusCode::BAD_GATEWAY, Some("E5020")));
}

/// Sends one header block on a connection of its own; true if the endpoint was asked.
async fn reaches(fields: &[(&str, &str)], body: Option<&[u8]>) -> bool {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Framed::connect(gateway.main()).await;
    let end = if body.is_some() { 0 } else { h2::END_STREAM };
    caller.send(&h2::Frame::new(h2::HEADERS, h2::END_HEADERS | end, 1, block(fields))).await.expect("the gateway reads");
    if let Some(body) = body {
        let _ = caller.send(&h2::Frame::new(h2::DATA, h2::END_STREAM, 1, body)).await;
    }
    // Whatever it is, it is answered: with a head, a reset or a goodbye.
    within("an answer", async {
        while let Some(frame) = caller.next().await {
            if matches!(frame.kind, h2::HEADERS | h2::RST_STREAM | h2::GOAWAY) {
                return;
            }
        }
    })
    .await;
    // A further request on another connection: by then the first would have arrived.
    assert_eq!(get(gateway.main(), "/after").await.status, 200);
    origin.requests().iter().any(|request| request.target != "/after" && request.complete)
}

#[tokio::test]
async fn a_head_of_http_2_is_read_by_the_letter() {
    let good = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "shop.test")];
    let with = |more: &[(&'static str, &'static str)]| [&good[..], more].concat();
    assert!(reaches(&good, None).await);
    assert!(reaches(&with(&[("te", "trailers"), ("cookie", "a=b"), ("host", "shop.test")]), None).await);
    for bad in [
        with(&[("connection", "keep-alive")]),
        with(&[("keep-alive", "timeout=5")]),
        with(&[("proxy-connection", "keep-alive")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "websocket")]),
        with(&[("te", "gzip")]),
        with(&[("X-Upper", "a")]),
        with(&[("x a", "b")]),
        with(&[("x:a", "b")]),
        with(&[("x_a", "b")]),
        with(&[("x-a", "b\r\nc: d")]),
        with(&[("x-a", "b\nc")]),
        with(&[("x-a", "b\0c")]),
        with(&[("x-a", " b")]),
        with(&[("host", "evil.test")]),
        with(&[("host", "shop.test"), ("host", "shop.test")]),
        with(&[(":path", "/twice")]),
        with(&[("x-a", "b"), (":late", "c")]),
        with(&[("content-length", "5")]),
        with(&[("content-length", "0"), ("content-length", "5")]),
        vec![(":method", "GET"), (":scheme", "http"), (":path", "/")],
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "shop.test")],
        vec![(":method", "GET"), (":path", "/"), (":authority", "shop.test")],
        vec![(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "shop.test")],
        vec![(":method", "GET"), (":scheme", "http"), (":path", "a"), (":authority", "shop.test")],
        vec![(":method", "GET"), (":scheme", "http"), (":path", "/ HTTP/1.1\r\nx: y"), (":authority", "shop.test")],
        vec![(":method", "GET"), (":scheme", "ftp"), (":path", "/"), (":authority", "shop.test")],
        vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "user@shop.test")],
        vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a b")],
        vec![(":method", "GE T"), (":scheme", "http"), (":path", "/"), (":authority", "shop.test")],
        vec![(":method", "CONNECT"), (":authority", "shop.test:80")],
        vec![(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), (":authority", "shop.test")],
        vec![(":method", "TRACE"), (":scheme", "http"), (":path", "/"), (":authority", "shop.test")],
    ] {
        assert!(!reaches(&bad, None).await, "{bad:?}");
    }
}

#[tokio::test]
async fn a_body_of_http_2_is_as_long_as_it_says() {
    let post = |length: &'static str| {
        [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "shop.test"), ("content-length", length)]
    };
    assert!(reaches(&post("5"), Some(b"hello")).await);
    assert!(reaches(&post("0"), Some(b"")).await);
    assert!(!reaches(&post("0"), Some(b"GET /smuggled HTTP/1.1\r\nhost: shop.test\r\n\r\n")).await);
    assert!(!reaches(&post("4"), Some(b"hello")).await);
    assert!(!reaches(&post("6"), Some(b"hello")).await);
}

#[tokio::test]
async fn a_body_without_a_length_is_sent_on_in_chunks() {
    let origin = Origin::echo().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = H2Caller::connect(gateway.main()).await;
    for method in [Method::POST, Method::GET] {
        let (push, body) = http2::pushed();
        push.send(Frame::data(Bytes::from("hel"))).expect("the caller takes it");
        push.send(Frame::data(Bytes::from("lo"))).expect("the caller takes it");
        drop(push);
        let before = origin.count();
        assert_eq!(caller.send(http2::request(method.clone(), "/").body(body).expect("a request")).await.text(), "hello", "{method}");
        assert_eq!(origin.requests()[before].fields.get("transfer-encoding"), Some("chunked"), "{method}");
    }
}

#[tokio::test]
async fn trailers_of_an_answer_of_http_1_1_reach_a_caller_of_http_2() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange
                .say("HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n")
                .await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let reply = H2Caller::connect(gateway.main()).await.get("/").await;
    assert_eq!((reply.text().as_str(), reply.trailers.get("x-sum").map(|value| value.as_bytes())), ("hello", Some(&b"42"[..])));
}

#[tokio::test]
async fn a_head_request_of_http_2_says_how_long_the_body_would_be() {
    let origin = Origin::start(|exchange| Box::pin(async move { exchange.answer("200 OK", "", "hello").await })).await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = H2Caller::connect(gateway.main()).await;
    let reply = caller.send(http2::request(Method::HEAD, "/").body(http2::nothing()).expect("a request")).await;
    assert_eq!((reply.status, reply.header("content-length"), reply.body.len()), (StatusCode::OK, Some("5"), 0));
}

#[tokio::test]
async fn an_upload_that_is_refused_is_answered_whole_and_only_then_stopped() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "max_body = \"1KiB\"")).await;
    let mut caller = Framed::connect(gateway.main()).await;
    caller.send(&h2::Frame::request(1, "POST", "/", true)).await.expect("the gateway reads");
    caller.send(&h2::Frame::new(h2::DATA, 0, 1, vec![b'x'; 16_000])).await.expect("the gateway reads");
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|(kind, _)| *kind != h2::RST_STREAM) {
        let frame = caller.next().await.expect("only the stream ends");
        if frame.stream == 1 && frame.kind != h2::WINDOW_UPDATE {
            kinds.push((frame.kind, frame.flags & h2::END_STREAM != 0));
            if frame.kind == h2::RST_STREAM {
                // RFC 9113 8.1: it says that there is nothing wrong with the answer.
                assert_eq!(frame.reason(), 0);
            }
        }
    }
    assert_eq!(kinds, [(h2::HEADERS, false), (h2::DATA, true), (h2::RST_STREAM, false)]);
    assert_eq!(origin.requests().iter().filter(|request| request.complete).count(), 0);
}

#[tokio::test]
async fn a_stream_that_its_caller_resets_lets_the_endpoint_go() {
    let origin = Origin::start(|exchange| Box::pin(exchange.silence())).await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Framed::connect(gateway.main()).await;
    caller.send(&h2::Frame::request(1, "GET", "/", false)).await.expect("the gateway reads");
    origin.until("the request", |_| true).await;
    caller.send(&h2::Frame::new(h2::RST_STREAM, 0, 1, 8_u32.to_be_bytes())).await.expect("the gateway reads");
    shoal_tests::wait::until("the endpoint to be let go", || origin.open() == 0).await;
    assert_eq!(gateway.connections(), 1);
}

#[tokio::test]
async fn an_answer_that_breaks_off_resets_its_stream() {
    let origin = Origin::start(|exchange| {
        Box::pin(async move {
            exchange.hang_up();
            exchange.say("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello").await
        })
    })
    .await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = H2Caller::connect(gateway.main()).await;
    // Its head may be lost with it, if both come at once.
    if let Ok(response) = caller.try_send(http2::request(Method::GET, "/").body(http2::nothing()).expect("a request")).await {
        assert!(http2::whole(response).await.is_err());
    }
    assert!(!caller.is_over(), "the connection is not to blame");
}

#[tokio::test]
async fn an_endpoint_that_takes_few_streams_at_once_gets_more_connections() {
    let origin = H2Origin::start_with_streams(2).await;
    let gateway = Gateway::start(&in_front_of(&h2c(&origin), "deadlines = { first_byte = \"2s\" }")).await;
    // One request makes the connection and learns how many streams it may have; the others stay open.
    assert_eq!(get(gateway.main(), "/").await.status, 200);
    let mut caller = H2Caller::connect(gateway.main()).await;
    let mut open = Vec::new();
    for _ in 0..6 {
        let (push, body) = http2::pushed();
        push.send(Frame::data(Bytes::from("x"))).expect("the caller takes it");
        let response = caller.try_send(http2::request(Method::POST, "/").body(body).expect("a request")).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        open.push((push, response));
    }
}
