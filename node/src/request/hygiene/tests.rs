use super::*;
use config::ByteSize;
use http::{Request, Uri};
use proptest::prelude::*;
use std::time::Duration;

fn bounds() -> Bounds {
    Bounds {
        head_size: ByteSize(1024),
        head_count: 10,
        uri_size: ByteSize(100),
        head_timeout: Duration::ZERO,
        keep_alive: Duration::ZERO,
        body_idle: Duration::ZERO,
        body_rate_min: ByteSize(0),
        write_stall: Duration::ZERO,
        tls_handshake: Duration::ZERO,
        requests_per_connection: 0,
        h2_streams: 0,
        h2_control_frames: 0,
    }
}

/// A head in the notation of HTTP/1: `GET / HTTP/1.1`, then one field a line. With `HTTP/2`, the target is a whole URI.
fn parts(text: &str) -> Parts {
    let mut lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty());
    let mut start = lines.next().expect("a first line").split(' ');
    let mut next = || start.next().expect("method, target, version");
    let (method, target, version) = (next(), next(), next());
    let version = match version {
        "HTTP/1.0" => Version::HTTP_10,
        "HTTP/1.1" => Version::HTTP_11,
        _ => Version::HTTP_2,
    };
    let target: Uri = target.parse().expect("a target");
    let mut request = Request::builder().method(method).uri(target).version(version);
    for line in lines {
        let (name, value) = line.split_once(':').expect("a field");
        // HTTP/1's parser trims a value; HTTP/2 has none that does.
        let value = if version == Version::HTTP_2 { &value[1..] } else { value.trim() };
        request = request.header(HeaderName::from_lowercase(name.as_bytes()).expect("a name"), value);
    }
    request.body(()).expect("a request").into_parts().0
}

fn check(text: &str, expected: Result<&str, HeadError>) {
    let found = inspect(&parts(text), &bounds());
    assert_eq!(found.as_ref().map(Head::host).map_err(|error| *error), expected, "{text}");
}

/// Inspects and strips; what is left, in order of name.
fn check_left(text: &str, trusted: bool, expected: &[&str]) {
    let mut parts = parts(text);
    let head = inspect(&parts, &bounds()).expect("a head that is not refused");
    strip(&mut parts.headers, &head, trusted);
    assert_eq!(shown(&parts.headers), expected, "{text}");
}

fn shown(headers: &HeaderMap) -> Vec<String> {
    let mut shown: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
    shown.sort_unstable();
    shown
}

#[test]
fn an_honest_head_is_taken() {
    check("GET / HTTP/1.1\nhost: example.com", Ok("example.com"));
    check("GET http://Example.com/ HTTP/1.1\nhost: example.com:80", Ok("example.com"));
    check("GET / HTTP/1.0", Ok(""));
    check("GET https://example.com/ HTTP/2", Ok("example.com"));
    check("GET https://example.com:8443/ HTTP/2\nhost: Example.com.:8443", Ok("example.com"));
    check("GET / HTTP/2\nhost: example.com", Ok("example.com"));
    check("POST / HTTP/1.1\nhost: a\ntransfer-encoding: Chunked\ntrailer: x", Ok("a"));
    check("POST / HTTP/1.1\nhost: a\ncontent-length: 18446744073709551615", Ok("a"));
    check("POST https://a/ HTTP/2\nte: trailers", Ok("a"));
    check("GET / HTTP/1.1\nhost: a\nconnection: close,, x-mine", Ok("a"));
}

#[test]
fn a_head_that_leaves_doubt_is_refused() {
    use HeadError::*;
    for (text, error) in [
        ("CONNECT a:80 HTTP/1.1\nhost: a:80", MethodConnect),
        ("TRACE / HTTP/1.1\nhost: a", MethodTrace),
        ("GET a:80 HTTP/1.1\nhost: a:80", TargetForm),
        ("GET ftp://a/ HTTP/1.1\nhost: a", TargetScheme),
        ("GET gopher://a/ HTTP/2", TargetScheme),
        ("GET / HTTP/1.1", HostMissing),
        ("GET http://a/ HTTP/1.1", HostMissing),
        ("GET / HTTP/2", HostMissing),
        ("GET / HTTP/1.1\nhost: a\nhost: a", HostRepeated),
        ("GET / HTTP/1.0\nhost: a\nhost: b", HostRepeated),
        ("GET http://a/ HTTP/1.1\nhost: b", HostDiffers),
        ("GET http://a/ HTTP/1.1\nhost: a:81", HostDiffers),
        ("GET https://a/ HTTP/2\nhost: b", HostDiffers),
        ("GET https://a/ HTTP/2\nhost: a:80", HostDiffers),
        ("GET / HTTP/1.1\nhost:", Host(TargetError::HostEmpty)),
        ("GET / HTTP/1.1\nhost: a b", Host(TargetError::HostName)),
        ("GET / HTTP/1.1\nhost: a, b", Host(TargetError::HostName)),
        ("GET / HTTP/1.1\nhost: u@a", Host(TargetError::Userinfo)),
        ("GET https://u@a/ HTTP/2", Host(TargetError::Userinfo)),
        ("GET http://u@a/ HTTP/1.1\nhost: a", Host(TargetError::Userinfo)),
        ("GET / HTTP/1.1\nhost: a:http", Host(TargetError::Port)),
        ("POST / HTTP/1.1\nhost: a\ntransfer-encoding: gzip, chunked", TransferEncoding),
        ("POST / HTTP/1.1\nhost: a\ntransfer-encoding: chunked, chunked", TransferEncoding),
        ("POST / HTTP/1.1\nhost: a\ntransfer-encoding: chunked\ntransfer-encoding: chunked", TransferEncoding),
        ("POST / HTTP/1.1\nhost: a\ntransfer-encoding: xchunked", TransferEncoding),
        ("POST / HTTP/1.1\nhost: a\ntransfer-encoding: chunked;q=1", TransferEncoding),
        ("POST / HTTP/1.0\nhost: a\ntransfer-encoding: chunked", TransferEncoding),
        ("POST / HTTP/1.1\nhost: a\ntransfer-encoding: chunked\ncontent-length: 1", BothLengths),
        ("POST / HTTP/1.1\nhost: a\ncontent-length: 1\ncontent-length: 1", LengthRepeated),
        ("POST / HTTP/1.1\nhost: a\ncontent-length: +1", LengthInvalid),
        ("POST / HTTP/1.1\nhost: a\ncontent-length: 1, 1", LengthInvalid),
        ("POST / HTTP/1.1\nhost: a\ncontent-length:", LengthInvalid),
        ("POST / HTTP/1.1\nhost: a\ncontent-length: 18446744073709551616", LengthInvalid),
        ("GET / HTTP/1.1\nhost: a\nconnection: close x", Connection),
        ("GET / HTTP/1.1\nhost: a\nconnection: x_y", Connection),
        ("GET / HTTP/1.1\nhost: a\nconnection: Host", Nominated),
        ("GET / HTTP/1.1\nhost: a\nconnection: close, Content-Length", Nominated),
        ("GET / HTTP/1.1\nhost: a\nconnection: close\nconnection: AUTHORIZATION", Nominated),
        ("GET / HTTP/1.1\nhost: a\nconnection: cookie", Nominated),
        ("GET / HTTP/1.1\nhost: a\nconnection: x-forwarded-for", Nominated),
        ("GET / HTTP/1.1\nhost: a\nconnection: forwarded", Nominated),
        ("GET / HTTP/1.1\nhost: a\nconnection: x-shoal-client", Nominated),
        ("GET / HTTP/1.1\nhost: a\nx_forwarded_for: 1", Name),
        ("GET https://a/ HTTP/2\ncontent_length: 1", Name),
        ("GET https://a/ HTTP/2\na\"b: 1", Name),
        ("GET https://a/ HTTP/2\nx:  padded", Value),
        ("GET https://a/ HTTP/2\nx: padded\t", Value),
        ("GET https://a/ HTTP/2\nconnection: close", ConnectionSpecific),
        ("GET https://a/ HTTP/2\nkeep-alive: 1", ConnectionSpecific),
        ("GET https://a/ HTTP/2\nproxy-connection: x", ConnectionSpecific),
        ("GET https://a/ HTTP/2\ntransfer-encoding: chunked", ConnectionSpecific),
        ("GET https://a/ HTTP/2\nupgrade: websocket", ConnectionSpecific),
        ("GET https://a/ HTTP/2\nte: gzip", ConnectionSpecific),
    ] {
        check(text, Err(error));
    }
}

#[test]
fn a_head_beyond_its_bounds_is_refused() {
    check(&format!("GET /{} HTTP/1.1\nhost: a", "x".repeat(99)), Ok("a"));
    check(&format!("GET /{} HTTP/1.1\nhost: a", "x".repeat(100)), Err(HeadError::TargetLength));
    check(&format!("GET / HTTP/1.1\nhost: a{}", "\nx: y".repeat(9)), Ok("a"));
    check(&format!("GET / HTTP/1.1\nhost: a{}", "\nx: y".repeat(10)), Err(HeadError::HeadCount));
    check(&format!("GET / HTTP/1.1\nhost: a\nx: {}", "y".repeat(1006)), Ok("a"));
    check(&format!("GET / HTTP/1.1\nhost: a\nx: {}", "y".repeat(1007)), Err(HeadError::HeadSize));
}

#[test]
fn the_authority_is_what_is_matched() {
    for (text, authority, port) in [
        ("GET / HTTP/1.1\nhost: a.b:8080", "a.b:8080", Some(8080)),
        ("GET / HTTP/1.1\nhost: A.b.:8080", "a.b:8080", Some(8080)),
        ("GET / HTTP/1.1\nhost: A.b", "a.b", None),
        ("GET / HTTP/1.1\nhost: a.b.", "a.b", None),
        ("GET / HTTP/1.1\nhost: [::0:1]:80", "[::1]:80", Some(80)),
        ("GET https://a.b:444/ HTTP/2", "a.b:444", Some(444)),
        ("GET https://A.b/ HTTP/2\nhost: a.b", "a.b", None),
    ] {
        let head = inspect(&parts(text), &bounds()).expect("an honest head");
        assert_eq!((head.authority.expect("a host"), head.port), (HeaderValue::from_static(authority), port), "{text}");
    }
}

#[test]
fn only_a_whole_request_for_a_websocket_is_one() {
    for (text, expected) in [
        ("GET / HTTP/1.1\nhost: a\nconnection: Upgrade\nupgrade: WebSocket", true),
        ("GET / HTTP/1.1\nhost: a\nconnection: keep-alive, upgrade\nupgrade: websocket", true),
        ("GET / HTTP/1.1\nhost: a\nupgrade: websocket", false),
        ("GET / HTTP/1.1\nhost: a\nconnection: upgrade\nupgrade: h2c", false),
        ("GET / HTTP/1.1\nhost: a\nconnection: upgrade\nupgrade: websocket\nupgrade: h2c", false),
        ("POST / HTTP/1.1\nhost: a\nconnection: upgrade\nupgrade: websocket", false),
        ("GET / HTTP/1.0\nhost: a\nconnection: upgrade\nupgrade: websocket", false),
    ] {
        let head = inspect(&parts(text), &bounds()).expect("an honest head");
        assert_eq!(head.upgrade.is_some(), expected, "{text}");
    }
}

#[test]
fn an_extended_connect_is_a_websocket_and_nothing_else() {
    for (protocol, expected) in [("websocket", Ok(Some(Upgrade::WebSocket))), ("connect-udp", Err(HeadError::MethodConnect))] {
        let mut parts = parts("CONNECT https://a/chat HTTP/2");
        parts.extensions.insert(hyper::ext::Protocol::from_static(protocol));
        assert_eq!(inspect(&parts, &bounds()).map(|head| head.upgrade), expected, "{protocol}");
    }
}

#[test]
fn what_belongs_to_the_connection_stays_with_it() {
    check_left(
        "POST / HTTP/1.1
         host: a
         connection: close, x-mine
         keep-alive: 5
         proxy-connection: close
         te: gzip, Trailers
         trailer: x
         x-mine: 1
         x-yours: 2
         transfer-encoding: chunked",
        false,
        &["host: a", "te: trailers", "x-yours: 2"],
    );
    check_left(
        "GET / HTTP/1.1
         host: a
         connection: upgrade, http2-settings
         upgrade: h2c
         http2-settings: x
         proxy-authorization: x
         te: gzip
         expect: 100-continue",
        false,
        &["host: a"],
    );
}

#[test]
fn cookies_are_put_together_again() {
    check_left("GET https://a/ HTTP/2\ncookie: a=1\ncookie: b=2; c=3\ncookie: d=4", false, &["cookie: a=1; b=2; c=3; d=4"]);
    check_left("GET https://a/ HTTP/2\ncookie: a=1; b=2", false, &["cookie: a=1; b=2"]);
}

#[test]
fn only_shoal_says_who_calls() {
    let text = "GET / HTTP/1.1
        host: a
        x-shoal-client: x
        x-jwt-sub: x
        x-api-client: x
        x-api-key: x";
    check_left(text, true, &["host: a", "x-api-key: x"]);
}

#[test]
fn where_a_request_comes_from_is_left_only_to_trusted_proxies() {
    let text = "GET / HTTP/1.1
        host: a
        x-forwarded-for: 1
        x-forwarded-port: 2
        forwarded: x
        x-real-ip: 3";
    check_left(text, false, &["host: a"]);
    check_left(text, true, &["forwarded: x", "host: a", "x-forwarded-for: 1", "x-forwarded-port: 2", "x-real-ip: 3"]);
}

#[test]
fn an_answer_has_one_length() {
    for (status, fields, plain) in [
        (200, "", true),
        (200, "content-length: 5", true),
        (200, "transfer-encoding: Chunked", true),
        (200, "transfer-encoding: chunked\ncontent-length: 5", false),
        (200, "transfer-encoding: gzip", false),
        (200, "transfer-encoding: gzip, chunked", false),
        (200, "transfer-encoding: chunked\ntransfer-encoding: chunked", false),
        (101, "", false),
    ] {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        *response.headers_mut() = parts(format!("GET / HTTP/1.1\n{fields}").trim_end()).headers;
        assert_eq!(is_plain(&response), plain, "{status} {fields}");
    }
}

#[test]
fn an_answer_loses_what_belongs_to_its_connection() {
    let mut headers = parts(
        "GET / HTTP/1.1
         connection: x-mine, content-length, close
         connection: (broken
         content-length: 1
         keep-alive: 5
         transfer-encoding: chunked
         x-mine: 1
         trailer: grpc-status
         upgrade: h2c
         www-authenticate: x",
    )
    .headers;
    strip_response(&mut headers);
    assert_eq!(shown(&headers), ["content-length: 1", "trailer: grpc-status", "www-authenticate: x"]);
}

proptest! {
    #[test]
    fn nothing_that_is_stripped_is_left(names in prop::collection::vec("connection|te|upgrade|x-a|x-forwarded-for|x-jwt-b|keep-alive|trailer|expect", 0..8), value in "[a-z, ]{0,12}") {
        let mut text = "GET / HTTP/1.1\nhost: a".to_string();
        for name in &names {
            text += &format!("\n{name}: {value}");
        }
        let mut parts = parts(&text);
        if let Ok(head) = inspect(&parts, &bounds()) {
            strip(&mut parts.headers, &head, false);
            for (name, value) in &parts.headers {
                let kept = matches!(Field::of(name.as_str()), Field::Ordinary | Field::Host) || (name == TE && value == "trailers");
                prop_assert!(kept, "{} is left", name);
            }
        }
    }

    #[test]
    fn any_head_is_answered(host in "[ -~]{0,20}", connection in "[ -~]{0,20}", te in "[ -~]{0,20}") {
        let text = format!("GET / HTTP/1.1\nhost: {host}\nconnection: {connection}\ntransfer-encoding: {te}");
        let _ = inspect(&parts(&text), &bounds());
    }
}
