//! How long a caller may take: whoever is too slow is told so where that is possible, and always ended.

use shoal_tests::{
    Caller, Gateway, Origin, get,
    h2::{self, Frame, Framed},
    http2::H2Caller,
    in_front_of, listener, request,
    wait::until,
};
use std::{
    io,
    time::{Duration, Instant},
};

async fn bounded(bounds: &str) -> (Gateway, Origin) {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&(listener(&format!("bounds = {{ {bounds} }}")) + &in_front_of(&origin.url(), ""))).await;
    (gateway, origin)
}

#[tokio::test]
async fn a_head_that_takes_too_long_is_408() {
    let (gateway, origin) = bounded("head_timeout = \"200ms\"").await;
    for begun in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nhost: shop.test\r\nx-a: "] {
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(begun).await;
        let said = String::from_utf8_lossy(&caller.end().await).into_owned();
        // One byte could still be the beginning of something else than HTTP/1.1, which has no 408.
        assert!(said.starts_with("HTTP/1.1 408 ") || (begun.len() == 1 && said.is_empty()), "{begun:?}: {said}");
    }
    until("their connections to be forgotten", || gateway.connections() == 0).await;
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn a_head_that_trickles_is_not_given_more_time() {
    let (gateway, _origin) = bounded("head_timeout = \"300ms\"").await;
    let mut caller = Caller::connect(gateway.main()).await;
    let began = Instant::now();
    for byte in request("GET /", &["x-a: a-field-that-takes-its-time-to-arrive-byte-by-byte"], "").bytes() {
        if caller.try_send([byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let said = String::from_utf8_lossy(&caller.end().await).into_owned();
    assert!(!said.contains(" 200 "), "{said}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_second_head_has_as_long_as_the_first() {
    let (gateway, _origin) = bounded("head_timeout = \"200ms\", keep_alive = \"60s\"").await;
    let mut caller = Caller::connect(gateway.main()).await;
    assert_eq!(caller.get("/").await.status, 200);
    caller.send("GET /slow HTTP/1.1\r\n").await;
    let said = String::from_utf8_lossy(&caller.end().await).into_owned();
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_is_ended() {
    let (gateway, _origin) = bounded("head_timeout = \"200ms\"").await;
    let mut caller = Caller::connect(gateway.main()).await;
    assert_eq!(caller.end().await, b"");
    until("the connection to be forgotten", || gateway.connections() == 0).await;
}

#[tokio::test]
async fn an_idle_connection_is_kept_as_long_as_the_bound_says() {
    let (gateway, _origin) = bounded("head_timeout = \"100ms\", keep_alive = \"800ms\"").await;
    let mut caller = Caller::connect(gateway.main()).await;
    for _ in 0..3 {
        assert_eq!(caller.get("/").await.status, 200);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(caller.get("/").await.status, 200);
    assert_eq!(caller.end().await, b"", "an idle connection is closed without a word");
}

#[tokio::test]
async fn an_idle_connection_of_http_2_is_kept_as_long_as_the_bound_says() {
    let (gateway, _origin) = bounded("head_timeout = \"200ms\", keep_alive = \"1500ms\"").await;
    let mut caller = Framed::connect(gateway.main()).await;
    caller.send(&Frame::request(1, "GET", "/", false)).await.expect("the gateway reads");
    caller.next_of(h2::DATA).await;
    // A ping is no head that has begun.
    for ping in 0..3_u64 {
        caller.send(&Frame::new(h2::PING, 0, 0, ping.to_be_bytes())).await.expect("the gateway reads");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    caller.send(&Frame::request(3, "GET", "/", false)).await.expect("the gateway reads");
    let answer = loop {
        let frame = caller.next_of(h2::HEADERS).await;
        if frame.stream == 3 {
            break frame;
        }
    };
    assert_eq!(answer.stream, 3);
    assert_eq!(caller.end().await, Some(0), "an idle connection is ended with a GOAWAY");
}

#[tokio::test]
async fn a_connection_of_http_2_that_asks_for_nothing_is_ended() {
    let (gateway, _origin) = bounded("head_timeout = \"200ms\"").await;
    let mut caller = Framed::connect(gateway.main()).await;
    caller.end().await;
    let mut begun = Framed::connect(gateway.main()).await;
    // A header block that is never completed.
    let begin = Frame { flags: h2::END_STREAM, ..Frame::request(1, "GET", "/", false) };
    begun.send(&begin).await.expect("the gateway reads");
    begun.end().await;
}

#[tokio::test]
async fn a_body_that_stands_still_is_408() {
    let (gateway, origin) = bounded("body_idle = \"200ms\"").await;
    for (fields, piece) in [("content-length: 10", "hello"), ("transfer-encoding: chunked", "5\r\nhello\r\n")] {
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(request("POST /", &[fields], piece)).await;
        caller.answer().await.refuses(408, "E4080");
        caller.end().await;
    }
    assert!(origin.requests().iter().all(|request| !request.complete));
}

#[tokio::test]
async fn a_body_that_moves_may_take_longer() {
    let (gateway, origin) = bounded("body_idle = \"250ms\", head_timeout = \"200ms\"").await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("POST /", &["content-length: 10"], "")).await;
    for byte in b"0123456789" {
        tokio::time::sleep(Duration::from_millis(60)).await;
        caller.send([*byte]).await;
    }
    assert_eq!(caller.answer().await.status, 200);
    assert_eq!(origin.request().text(), "0123456789");
}

#[tokio::test]
async fn a_body_slower_than_its_least_rate_is_408() {
    let (gateway, _origin) = bounded("body_idle = \"5s\", body_rate_min = \"10KiB\"").await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(request("POST /", &["content-length: 100000"], "")).await;
    let trickle = async {
        loop {
            if caller.try_send("x").await.is_err() {
                return;
            }
            // Once the ten seconds of grace are over, the next byte is one too late.
            if tokio::time::timeout(Duration::from_millis(400), caller.wire.fill()).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), trickle).await.expect("the body is refused");
    let said = String::from_utf8_lossy(&caller.wire.buffer).into_owned();
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
}

/// An endpoint whose answer never ends.
async fn endless() -> Origin {
    Origin::start(|exchange| {
        Box::pin(async move {
            exchange.say(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", u64::MAX / 2)).await?;
            loop {
                exchange.say([b'x'; 16 * 1024]).await?;
            }
            #[expect(unreachable_code, reason = "it gives the type of the loop that only an error ends")]
            io::Result::Ok(())
        })
    })
    .await
}

#[tokio::test]
async fn a_caller_that_reads_nothing_is_ended() {
    let origin = endless().await;
    let gateway = Gateway::start(&(listener("bounds = { write_stall = \"400ms\" }") + &in_front_of(&origin.url(), ""))).await;
    let mut caller = Caller::connect_narrow(gateway.main()).await;
    caller.send(request("GET /", &[], "")).await;
    until("the connection to be ended", || origin.count() == 1 && gateway.connections() == 0).await;
    until("the endpoint to be let go", || origin.open() == 0).await;
}

#[tokio::test]
async fn a_caller_of_http_2_that_opens_no_window_is_ended() {
    let origin = endless().await;
    let gateway = Gateway::start(&(listener("bounds = { write_stall = \"400ms\" }") + &in_front_of(&origin.url(), ""))).await;
    let mut caller = Framed::connect(gateway.main()).await;
    caller.send(&Frame::request(1, "GET", "/", false)).await.expect("the gateway reads");
    // It reads what it is sent and answers pings, and yet never takes more than the first 64 KiB.
    let ended = async {
        while let Some(frame) = caller.next().await {
            if frame.kind == h2::RST_STREAM || frame.kind == h2::GOAWAY {
                return;
            }
        }
    };
    shoal_tests::wait::within("the stream to be ended", ended).await;
    until("the endpoint to be let go", || origin.open() == 0).await;
}

#[tokio::test]
async fn a_slow_reader_is_served_to_the_end() {
    let body: &'static str = Box::leak("0123456789abcdef".repeat(64 * 1024).into_boxed_str());
    let origin = Origin::saying("200 OK", body).await;
    let gateway = Gateway::start(
        &(listener("bounds = { write_stall = \"500ms\", keep_alive = \"300ms\", head_timeout = \"300ms\" }")
            + &in_front_of(&origin.url(), "")),
    )
    .await;
    let mut caller = Caller::connect_narrow(gateway.main()).await;
    caller.wire.gulp = 64 * 1024;
    caller.send(request("GET /", &[], "")).await;
    let (_, mut decoder) = caller.begin().await;
    let mut size = 0;
    while let Some(piece) = caller.piece(&mut decoder).await.expect("the answer goes on") {
        size += piece.len();
        if size < 200 * 1024 {
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }
    assert_eq!(size, body.len());
}

#[tokio::test]
async fn honest_callers_are_served_beside_slow_ones() {
    let (gateway, _origin) = bounded("head_timeout = \"2s\"").await;
    let mut slow = Vec::new();
    for number in 0..200 {
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(if number % 2 == 0 { "GET / HT" } else { "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 5\r\n\r\n" }).await;
        slow.push(caller);
    }
    for _ in 0..20 {
        assert_eq!(get(gateway.main(), "/").await.status, 200);
    }
    let mut h2 = H2Caller::connect(gateway.main()).await;
    assert_eq!(h2.get("/").await.status, 200);
    drop(slow);
    until("the slow ones to be forgotten", || gateway.connections() <= 1).await;
}
