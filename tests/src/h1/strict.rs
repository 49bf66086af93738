//! What a request of the gateway must be, so that no endpoint can read it in two ways.

use super::Head;

pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Everything about a forwarded head that RFC 9110 or RFC 9112 forbids, or that belongs to the caller's connection.
pub fn request_faults(head: &Head) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |what: String| faults.push(what);
    let parts: Vec<&str> = head.start.split(' ').collect();
    match parts.as_slice() {
        [method, target, "HTTP/1.1"] => {
            if method.is_empty() || !method.bytes().all(is_token) {
                fault(format!("the method {method:?}"));
            }
            if !target.starts_with('/') || !is_target(target) {
                fault(format!("the target {target:?}"));
            }
        }
        _ => fault(format!("the request line {:?}", head.start)),
    }
    match head.fields.all("host").as_slice() {
        [host] if !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte)) => {}
        hosts => fault(format!("the hosts {hosts:?}")),
    }
    if let Err(what) = head.framing() {
        fault(what);
    }
    for name in ["keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate", "http2-settings", "trailer", "expect"] {
        if head.fields.has(name) {
            fault(format!("{name}, which is no endpoint's business"));
        }
    }
    for te in head.fields.all("te") {
        if te != "trailers" {
            fault(format!("te: {te}"));
        }
    }
    let upgrade = head.fields.all("upgrade");
    match (head.fields.all("connection").as_slice(), upgrade.as_slice()) {
        ([], []) | (["upgrade"], ["websocket"]) => {}
        (connection, upgrade) => fault(format!("connection {connection:?} and upgrade {upgrade:?}")),
    }
    for (name, _) in &head.fields.0 {
        if name.contains('_') {
            fault(format!("an underscore in {name}"));
        }
    }
    faults
}

/// Whether a target is a path and a query (RFC 3986 3.3, 3.4).
fn is_target(target: &str) -> bool {
    let bytes = target.as_bytes();
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)),
        byte => byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@?".contains(byte),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &str, expected: usize) {
        let head = Head::parse(request.replace('\n', "\r\n").as_bytes()).expect("a head");
        assert_eq!(request_faults(&head).len(), expected, "{request:?}: {:?}", request_faults(&head));
    }

    #[test]
    fn a_fault_is_found_once() {
        check("GET /a?b=c HTTP/1.1\nhost: x\n\n", 0);
        check("POST / HTTP/1.1\nhost: x:80\ntransfer-encoding: chunked\n\n", 0);
        check("GET / HTTP/1.1\nhost: x\nconnection: upgrade\nupgrade: websocket\n\n", 0);
        check("GET / HTTP/1.0\nhost: x\n\n", 1);
        check("GET http://x/ HTTP/1.1\nhost: x\n\n", 1);
        check("GET /%zz HTTP/1.1\nhost: x\n\n", 1);
        check("GET / HTTP/1.1\n\n", 1);
        check("GET / HTTP/1.1\nhost: x\nhost: x\n\n", 1);
        check("GET / HTTP/1.1\nhost: x\ncontent-length: 1\ntransfer-encoding: chunked\n\n", 1);
        check("GET / HTTP/1.1\nhost: x\nconnection: keep-alive\n\n", 1);
        check("GET / HTTP/1.1\nhost: x\nte: gzip\n\n", 1);
        check("GET / HTTP/1.1\nhost: x\na_b: c\n\n", 1);
    }
}
