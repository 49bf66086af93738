//! PROXY headers: mandatory where a listener asks for them, from the networks that it names, and nowhere else.

use shoal_tests::{Caller, Gateway, Origin, certificates::Authority, in_front_of, listener, request};

async fn behind(networks: &str) -> (Gateway, Origin) {
    let origin = Origin::ok().await;
    let gateway = Gateway::start(&(listener(&format!("proxy_protocol = [{networks}]")) + &in_front_of(&origin.url(), ""))).await;
    (gateway, origin)
}

/// Version 2: the signature, command and family, and what follows them.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(rest.len()).expect("a short rest").to_be_bytes());
    header.extend(rest);
    header
}

fn v2_of_v4() -> Vec<u8> {
    v2(1, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0x10, 0, 0, 80])
}

#[tokio::test]
async fn the_header_says_who_calls() {
    let (gateway, origin) = behind("\"127.0.0.0/8\"").await;
    let mut v6 = Vec::new();
    v6.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    v6.extend([0; 16]);
    v6.extend([0x10, 0, 0, 80]);
    // A TLV behind the addresses says something that nobody asked for.
    let mut tlv = vec![192, 0, 2, 8, 10, 0, 0, 1, 0x10, 0, 0, 80];
    tlv.extend([4, 0, 3, 1, 2, 3]);
    for (header, expected) in [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 4096 80\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4096 80\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec(), "127.0.0.1"),
        (v2_of_v4(), "192.0.2.7"),
        (v2(1, 0x21, &v6), "2001:db8::7"),
        (v2(0, 0, &[]), "127.0.0.1"),
        (v2(1, 0x11, &tlv), "192.0.2.8"),
    ] {
        let before = origin.count();
        let mut caller = Caller::connect(gateway.main()).await;
        caller.send(&header).await;
        assert_eq!(caller.get("/").await.status, 200, "{expected}");
        assert_eq!(caller.get("/").await.status, 200, "a header is there once for a connection");
        let seen = origin.requests();
        assert_eq!(seen[before].fields.get("x-forwarded-for"), Some(expected), "{header:?}");
        assert_eq!(seen[before + 1].fields.get("x-forwarded-for"), Some(expected));
    }
}

#[tokio::test]
async fn a_header_may_arrive_in_any_pieces() {
    let (gateway, origin) = behind("\"127.0.0.0/8\"").await;
    for header in [b"PROXY TCP4 192.0.2.7 10.0.0.1 4096 80\r\n".to_vec(), v2_of_v4()] {
        let mut bytes = header;
        bytes.extend(request("GET /", &[], "").bytes());
        let mut caller = Caller::connect(gateway.main()).await;
        for byte in &bytes {
            caller.send([*byte]).await;
        }
        assert_eq!(caller.answer().await.status, 200);
        assert_eq!(Caller::connect(gateway.main()).await.ask(bytes).await.status, 200, "in one piece with its request");
    }
    assert!(origin.requests().iter().all(|request| request.fields.get("x-forwarded-for") == Some("192.0.2.7")));
}

#[tokio::test]
async fn a_connection_without_the_header_is_ended() {
    let (gateway, origin) = behind("\"127.0.0.0/8\"").await;
    for bytes in [
        request("GET /", &[], "").into_bytes(),
        b"PROXY TCP4 192.0.2.7\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.777 10.0.0.1 1 1\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1 1\nGET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        b"proxy TCP4 192.0.2.7 10.0.0.1 1 1\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat(),
        v2(1, 0x11, &[0; 5000]),
        v2(7, 0x11, &[0; 12]),
    ] {
        let mut caller = Caller::connect(gateway.main()).await;
        let _ = caller.try_send(&bytes).await;
        let said = String::from_utf8_lossy(&caller.end().await).into_owned();
        assert!(!said.contains(" 200 "), "{said}");
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn a_network_that_is_not_listed_may_not_send_one() {
    let (gateway, origin) = behind("\"10.0.0.0/8\"").await;
    for bytes in [request("GET /", &[], ""), format!("PROXY TCP4 192.0.2.7 10.0.0.1 1 1\r\n{}", request("GET /", &[], ""))] {
        let mut caller = Caller::connect(gateway.main()).await;
        let _ = caller.try_send(&bytes).await;
        assert_eq!(caller.end().await, b"");
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn where_it_is_off_the_header_is_no_request() {
    let (gateway, origin) = behind("").await;
    for header in [b"PROXY TCP4 192.0.2.7 10.0.0.1 1 1\r\n".to_vec(), v2_of_v4()] {
        let mut caller = Caller::connect(gateway.main()).await;
        let _ = caller.try_send([header, request("GET /", &[], "").into_bytes()].concat()).await;
        let said = String::from_utf8_lossy(&caller.end().await).into_owned();
        assert!(!said.contains(" 200 "), "{said}");
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let authority = Authority::new();
    let files = authority.issue("gateway", &["shop.test"]);
    let origin = Origin::ok().await;
    let keys = format!("proxy_protocol = [\"127.0.0.0/8\"]\ntls = {}", files.toml());
    let gateway = Gateway::start(&(listener(&keys) + &in_front_of(&origin.url(), ""))).await;
    let mut stream = tokio::net::TcpStream::connect(gateway.main()).await.expect("the gateway listens");
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"PROXY TCP4 192.0.2.7 10.0.0.1 1 1\r\n").await.expect("the gateway reads");
    let local = stream.local_addr().expect("an address");
    let name = rustls_pki_types::ServerName::try_from("shop.test").expect("a name");
    let stream = authority.connector(&["http/1.1"], None).connect(name, stream).await.expect("a handshake");
    assert_eq!(Caller::over(Box::new(stream), local).get("/").await.status, 200);
    assert_eq!(origin.request().fields.get("x-forwarded-for"), Some("192.0.2.7"));
}

#[tokio::test]
async fn a_proxied_address_that_is_trusted_is_believed_further() {
    let origin = Origin::ok().await;
    let text = "[node]\ntrusted_proxies = [\"192.0.2.0/24\"]\n".to_string()
        + &listener("proxy_protocol = [\"127.0.0.0/8\"]")
        + &in_front_of(&origin.url(), "");
    let gateway = Gateway::start(&text).await;
    for (source, expected) in [("192.0.2.7", "198.51.100.1, 192.0.2.7"), ("203.0.113.9", "203.0.113.9")] {
        let before = origin.count();
        let ask = format!("PROXY TCP4 {source} 10.0.0.1 1 1\r\n{}", request("GET /", &["x-forwarded-for: 198.51.100.1"], ""));
        assert_eq!(Caller::connect(gateway.main()).await.ask(ask).await.status, 200);
        assert_eq!(origin.requests()[before].fields.get("x-forwarded-for"), Some(expected));
    }
}
