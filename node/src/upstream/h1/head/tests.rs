use super::*;
use proptest::prelude::*;

const GET: Asked = Asked { head_only: false, upgrade: false };
const HEAD: Asked = Asked { head_only: true, upgrade: false };
const UPGRADE: Asked = Asked { head_only: false, upgrade: true };

/// What `parse` makes of a head, in a word or two.
fn read(text: &str, asked: Asked) -> String {
    match parse(&Bytes::copy_from_slice(text.as_bytes()), asked) {
        Err(error) => format!("{error:?}"),
        Ok(Parsed::Partial) => "partial".to_owned(),
        Ok(Parsed::Interim(length)) => format!("interim {length}"),
        Ok(Parsed::Final(Answered { head, length, remaining, persistent })) => {
            assert_eq!(length, text.find("\r\n\r\n").map_or(0, |end| end + 4), "{text:?}");
            let remaining = match remaining {
                Remaining::Done => "nothing".to_owned(),
                Remaining::Length(length) => length.to_string(),
                Remaining::Chunked(_) => "chunks".to_owned(),
                Remaining::UntilClose => "until close".to_owned(),
            };
            format!("{} {remaining}{}", head.status.as_u16(), if persistent { "" } else { ", closes" })
        }
    }
}

#[test]
fn an_answer_ends_where_its_head_says() {
    for (fields, asked, expected) in [
        ("200 OK\r\ncontent-length: 5", GET, "200 5"),
        ("200 OK\r\ncontent-length: 0", GET, "200 nothing"),
        ("200 OK\r\ncontent-length: 5", HEAD, "200 nothing"),
        ("200 OK\r\ntransfer-encoding: Chunked", GET, "200 chunks"),
        ("200 OK\r\ntransfer-encoding: chunked", HEAD, "200 nothing"),
        ("200 OK\r\nx: y", GET, "200 until close, closes"),
        ("204 No Content\r\nx: y", GET, "204 nothing"),
        ("304 Not Modified\r\ncontent-length: 100", GET, "304 nothing"),
        ("200 OK\r\ncontent-length: 5\r\nconnection: x, Close", GET, "200 5, closes"),
        ("101 Switching Protocols\r\nupgrade: websocket", UPGRADE, "101 nothing, closes"),
        ("101 Switching Protocols\r\nupgrade: websocket", GET, "Upgrade"),
        ("200 OK\r\ncontent-length: 5\r\ncontent-length: 5", GET, "Length"),
        ("200 OK\r\ncontent-length: 5, 5", GET, "Length"),
        ("200 OK\r\ncontent-length: +5", GET, "Length"),
        ("200 OK\r\ncontent-length:", GET, "Length"),
        ("200 OK\r\ncontent-length: 18446744073709551616", GET, "Length"),
        ("200 OK\r\ncontent-length: 5", HEAD, "200 nothing"),
        ("200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5", GET, "Encoding"),
        ("200 OK\r\ntransfer-encoding: gzip, chunked", GET, "Encoding"),
        ("200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked", GET, "Encoding"),
        ("200 OK\r\nx: a\r\n folded", GET, "Malformed(HeaderName)"),
        ("200 OK\r\nx : a", GET, "Malformed(HeaderName)"),
        ("099 Low\r\nx: a", GET, "Malformed(Status)"),
    ] {
        assert_eq!(read(&format!("HTTP/1.1 {fields}\r\n\r\n"), asked), expected, "{fields:?}");
    }
}

#[test]
fn http_1_0_keeps_a_connection_only_if_it_says_so_and_has_no_chunks() {
    for (fields, expected) in [
        ("content-length: 5", "200 5, closes"),
        ("content-length: 5\r\nconnection: Keep-Alive", "200 5"),
        ("transfer-encoding: chunked", "Encoding"),
    ] {
        assert_eq!(read(&format!("HTTP/1.0 200 OK\r\n{fields}\r\n\r\n"), GET), expected, "{fields:?}");
    }
}

#[test]
fn a_head_is_read_when_it_is_whole_and_not_before() {
    let head = "HTTP/1.1 200 Fine\r\ncontent-length: 5\r\n\r\n";
    for end in 0..head.len() {
        assert_eq!(read(&head[..end], GET), "partial", "{end}");
    }
    assert_eq!(read("\r\nHTTP/1.1 200 OK\r\n\r\n", GET), "Malformed(NewLine)");
    assert_eq!(read("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", GET), "interim 40");
}

#[test]
fn an_answer_keeps_the_words_of_its_status() {
    for (line, expected) in [("200 OK", None), ("200 Fine", Some("Fine")), ("299", Some(""))] {
        let bytes = Bytes::from(format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n"));
        let Ok(Parsed::Final(answered)) = parse(&bytes, GET) else { panic!("{line} is an answer") };
        let reason = answered.head.extensions.get::<ReasonPhrase>().map(|reason| reason.as_bytes().to_vec());
        assert_eq!(reason.as_deref(), expected.map(str::as_bytes), "{line}");
    }
}

#[test]
fn a_request_says_its_host_first_and_its_length_once() {
    let post = |length: Option<u64>, method: Method, fields: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let path = PathAndQuery::from_static("/a?b=c");
        let host = HeaderValue::from_static("shop.test");
        let head = RequestHead { method: &method, path: &path, host: &host, headers: &headers, upgrade: false };
        let mut out = Vec::new();
        head.write(head.framing(length), &mut out);
        String::from_utf8(out).expect("what was put in is text")
    };
    let lying = [("x", "1"), ("host", "other.test"), ("content-length", "7"), ("transfer-encoding", "gzip"), ("x", "2")];
    assert_eq!(post(Some(0), Method::GET, &[]), "GET /a?b=c HTTP/1.1\r\nhost: shop.test\r\n\r\n");
    assert_eq!(post(Some(0), Method::POST, &[]), "POST /a?b=c HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(post(Some(0), Method::GET, &lying[2..3]), "GET /a?b=c HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(post(Some(5), Method::PUT, &lying), "PUT /a?b=c HTTP/1.1\r\nhost: shop.test\r\nx: 1\r\nx: 2\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(
        post(None, Method::GET, &lying),
        "GET /a?b=c HTTP/1.1\r\nhost: shop.test\r\nx: 1\r\nx: 2\r\ntransfer-encoding: chunked\r\n\r\n"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(start in "(HTTP/1\\.[01] [0-9]{3} ?)?", rest in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from([start.as_bytes(), &rest].concat());
        let _ = parse(&bytes, UPGRADE);
    }
}
