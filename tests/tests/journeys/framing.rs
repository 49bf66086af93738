//! A request that two readers could take for different ones is refused, or made harmless, before an endpoint sees it.

use shoal_tests::{Caller, Gateway, Origin, in_front_of};

/// What may become of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// Nothing of it is forwarded; the answer has this status and ends the connection.
    Refused(u16),
    /// It is forwarded as one request that a strict reader takes, with this body.
    Forwarded(&'static str),
    /// One of both, and the connection ends with it.
    RefusedOrOneOf(&'static str),
}

/// Sends bytes, with a second request behind them, and holds what became of them against what may.
async fn check(sent: &str, fate: Fate) {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(sent).await;
    let answer = caller.answer().await;
    let seen = origin.requests();
    let first = seen.first();
    match fate {
        Fate::Refused(status) => {
            assert_eq!(answer.status, status, "{sent:?}");
            assert_eq!(seen.len(), 0, "{sent:?}: {seen:?}");
            let rest = caller.end().await;
            assert_eq!(rest, b"", "{sent:?}");
        }
        Fate::Forwarded(body) => {
            assert_eq!(answer.status, 200, "{sent:?}: {}", answer.text());
            assert_eq!(first.map(|request| request.text()).as_deref(), Some(body), "{sent:?}");
            assert_eq!(seen.len(), 1, "{sent:?}: {seen:?}");
        }
        Fate::RefusedOrOneOf(body) => {
            match answer.status {
                400 => assert_eq!(seen.len(), 0, "{sent:?}: {seen:?}"),
                status => {
                    assert_eq!(status, 200, "{sent:?}");
                    assert_eq!(first.map(|request| request.text()).as_deref(), Some(body), "{sent:?}");
                }
            }
            let rest = caller.end().await;
            assert_eq!(rest, b"", "{sent:?}: the connection ends");
            assert!(origin.count() <= 1, "{sent:?}: {:?}", origin.requests());
        }
    }
    assert_eq!(origin.take_faults(), Vec::<String>::new(), "{sent:?}");
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: shop.test\r\n{fields}\r\n\r\n{body}")
}

const NEXT: &str = "GET /smuggled HTTP/1.1\r\nhost: shop.test\r\n\r\n";

#[tokio::test]
async fn two_lengths_never_make_two_requests() {
    let chunked_then_next = format!("0\r\n\r\n{NEXT}");
    check(&post("content-length: 5\r\ntransfer-encoding: chunked", &chunked_then_next), Fate::RefusedOrOneOf("")).await;
    check(&post("transfer-encoding: chunked\r\ncontent-length: 5", &chunked_then_next), Fate::RefusedOrOneOf("")).await;
    check(&post("content-length: 5\r\ncontent-length: 6", &format!("hello{NEXT}")), Fate::Refused(400)).await;
    check(&post("content-length: 5, 6", &format!("hello{NEXT}")), Fate::Refused(400)).await;
}

#[tokio::test]
async fn a_length_is_digits() {
    for length in ["+5", "-5", "5 5", "0x5", "5a", "", "18446744073709551616", "５"] {
        check(&post(&format!("content-length: {length}"), "hello"), Fate::Refused(400)).await;
    }
}

#[tokio::test]
async fn chunked_is_the_only_encoding() {
    for encoding in
        ["gzip, chunked", "chunked, chunked", "chunked, gzip", "gzip", "identity", "xchunked", "chunked;q=1", "\"chunked\"", "chun ked", ""]
    {
        check(&post(&format!("transfer-encoding: {encoding}"), "0\r\n\r\n"), Fate::Refused(400)).await;
    }
    check(&post("transfer-encoding: chunked\r\ntransfer-encoding: chunked", "0\r\n\r\n"), Fate::Refused(400)).await;
    check(&post("transfer-encoding: gzip\r\ntransfer-encoding: chunked", "0\r\n\r\n"), Fate::Refused(400)).await;
    check(&post("transfer-encoding: CHUNKED", "5\r\nhello\r\n0\r\n\r\n"), Fate::Forwarded("hello")).await;
    check("POST / HTTP/1.0\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", Fate::Refused(400)).await;
}

#[tokio::test]
async fn a_name_that_looks_like_a_length_is_none() {
    for field in ["transfer_encoding: chunked", "content_length: 5", "transfer-encoding : chunked", "content-length : 5"] {
        check(&post(field, "0\r\n\r\n"), Fate::Refused(400)).await;
    }
}

#[tokio::test]
async fn chunks_are_read_by_the_letter() {
    for body in [
        "5\r\nhello\r\n0x0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
    ] {
        let origin = Origin::ok().await;
        let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(post("transfer-encoding: chunked", body) + NEXT).await;
        let said = String::from_utf8_lossy(&caller.end().await).into_owned();
        // The head has gone on its way before the body was seen to be bad; it must not be completed, nor followed by another.
        assert!(!said.contains(" 200 "), "{body:?}: {said}");
        assert!(origin.requests().iter().all(|request| !request.complete && request.target == "/"), "{body:?}: {:?}", origin.requests());
    }
}

#[tokio::test]
async fn extensions_of_chunks_are_dropped() {
    check(&post("transfer-encoding: chunked", "5;name=value\r\nhello\r\n0;last\r\n\r\n"), Fate::Forwarded("hello")).await;
}

#[tokio::test]
async fn extensions_of_chunks_are_bounded() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    caller.send(post("transfer-encoding: chunked", "")).await;
    let chunk = format!("1;{}\r\nx\r\n", "a".repeat(1000));
    for _ in 0..100 {
        if caller.try_send(&chunk).await.is_err() {
            break;
        }
    }
    let said = String::from_utf8_lossy(&caller.end().await).into_owned();
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
}

#[tokio::test]
async fn a_head_is_read_by_the_letter() {
    for head in [
        "GET / HTTP/1.1\r\nhost: shop.test\r\nx-a: b\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: shop.test\r\n\tx-a: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: shop.test\r\nx-a: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: shop.test\r\nx-a: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: shop.test\r\nx-a : b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: shop.test\r\nx a: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: shop.test\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: shop.test\r\nx-a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: shop.test\r\nx-\u{e9}: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: shop.test\r\nx_a: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: shop.test\r\nx\"a: b\r\n\r\n",
        "GET / \r\nhost: shop.test\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: shop.test\r\n\r\n",
        "GET /\tHTTP/1.1\r\nhost: shop.test\r\n\r\n",
        "GET / HTTP/1.1 \r\nhost: shop.test\r\n\r\n",
        "GET / http/1.1\r\nhost: shop.test\r\n\r\n",
        "GET / HTTP/2.0\r\nhost: shop.test\r\n\r\n",
        "GET / HTTP/1.11\r\nhost: shop.test\r\n\r\n",
        "GET a HTTP/1.1\r\nhost: shop.test\r\n\r\n",
        "G\0T / HTTP/1.1\r\nhost: shop.test\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: shop.test\r\nhost: shop.test\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: shop.test\r\nhost: evil.test\r\n\r\n",
        "GET http://evil.test/ HTTP/1.1\r\nhost: shop.test\r\n\r\n",
        "GET ftp://shop.test/ HTTP/1.1\r\nhost: shop.test\r\n\r\n",
        "GET http://user@shop.test/ HTTP/1.1\r\nhost: shop.test\r\n\r\n",
    ] {
        check(head, Fate::Refused(400)).await;
    }
}

#[tokio::test]
async fn a_host_is_a_name_or_an_address() {
    for host in [
        "",
        " ",
        "a b",
        "a/b",
        "a?b",
        "a#b",
        "user@a",
        "a..b",
        ".a",
        "a,b",
        "[::1",
        "a:b",
        "a:0",
        "a:65536",
        "a:80:80",
        "1.2.3.256",
        "a\u{e9}",
        "%61",
    ] {
        check(&format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"), Fate::Refused(400)).await;
    }
    for host in ["shop.test", "SHOP.test.:80", "127.0.0.1:8080", "[::1]:8080", "a_b.test"] {
        check(&format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"), Fate::Forwarded("")).await;
    }
}

#[tokio::test]
async fn a_target_with_the_same_host_is_taken() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    let answer = caller.ask("GET http://SHOP.test/a?b HTTP/1.1\r\nhost: shop.test\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    let seen = origin.request();
    assert_eq!((seen.target.as_str(), seen.fields.get("host")), ("/a?b", Some("shop.test")));
}

#[tokio::test]
async fn a_line_that_ends_with_lf_alone_never_reaches_an_endpoint_as_such() {
    // hyper reads it as a line end, so that it is written as one; that is harmless. So would be a refusal.
    check("POST / HTTP/1.1\nhost: shop.test\ncontent-length: 5\n\nhello", Fate::Forwarded("hello")).await;
}

#[tokio::test]
async fn a_fragment_does_not_reach_an_endpoint() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    let mut caller = Caller::connect(gateway.main()).await;
    let answer = caller.get("/a#b").await;
    assert!(matches!(answer.status, 200 | 400), "{}", answer.status);
    assert!(origin.requests().iter().all(|request| request.target == "/a"));
}

#[tokio::test]
async fn what_is_no_http_is_answered_and_ended() {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&in_front_of(&origin.url(), "")).await;
    for noise in [
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03 client hello\r\n\r\n",
        "EHLO shop.test\r\n\r\n",
        "\0\0\0\0\0\0\0\0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(noise).await;
        let said = String::from_utf8_lossy(&caller.end().await).into_owned();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{noise:?}: {said}");
    }
    assert_eq!(origin.count(), 0);
}
