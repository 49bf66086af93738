//! `grpc.health.v1.Health/Check` by hand: one string asked, one number answered. A generated client would be a hundred
//! times as long.

use super::{ProbeError, Reply, Said, USER_AGENT, absolute};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body_util::Full;

/// In front of each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

pub(super) fn check(service: &str, host: &HeaderValue, tls: bool) -> Result<Request<Full<Bytes>>, ProbeError> {
    let mut request = Request::new(Full::new(Bytes::from(question(service))));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = absolute("/grpc.health.v1.Health/Check", host, tls)?;
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
    Ok(request)
}

/// `HealthCheckRequest { string service = 1 }`, of which an empty name is nothing at all.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(PREFIX + 4 + service.len());
    message.extend_from_slice(&[0; PREFIX]);
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        let mut length = service.len();
        while length > 0x7f {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len() - PREFIX).unwrap_or(u32::MAX);
    message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    message
}

pub(super) fn read(said: &Said) -> Result<Reply<'static>, ProbeError> {
    if said.status != 200 {
        return Err(ProbeError::Status(said.status.as_u16()));
    }
    // Whoever fails says so in the head or behind the body.
    let status = said.trailers.as_ref().and_then(status).or_else(|| status(&said.headers));
    let Some(status) = status else { return Err(ProbeError::Broken("the call has no status".to_string())) };
    if status != 0 {
        return Ok(Reply::Grpc { status, serving: 0 });
    }
    let serving = serving(&said.body).ok_or_else(|| ProbeError::Broken("the message is none of grpc.health.v1".to_string()))?;
    Ok(Reply::Grpc { status, serving })
}

fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// `HealthCheckResponse { ServingStatus status = 1 }`; a field that is absent is 0, and others are skipped.
fn serving(body: &[u8]) -> Option<u32> {
    let (prefix, message) = body.split_first_chunk::<PREFIX>()?;
    let [compressed, length @ ..] = *prefix;
    let mut rest = message.get(..usize::try_from(u32::from_be_bytes(length)).ok()?)?;
    if compressed != 0 {
        return None;
    }
    let mut serving = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => serving = u32::try_from(varint(&mut rest)?).ok()?,
            (_, 0) => drop(varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(serving)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for at in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn the_question_is_a_message_of_one_string() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("ab"), [0, 0, 0, 0, 4, 10, 2, b'a', b'b']);
        let long = question(&"x".repeat(300));
        assert_eq!((&long[..8], long.len()), (&[0, 0, 0, 1, 47, 10, 0xac, 2][..], PREFIX + 303));
    }

    #[track_caller]
    fn check(message: &[u8], expected: Option<u32>) {
        let mut body = vec![0, 0, 0, 0, message.len() as u8];
        body.extend_from_slice(message);
        assert_eq!(serving(&body), expected, "{message:?}");
    }

    #[test]
    fn an_answer_is_a_number_whatever_stands_beside_it() {
        check(&[], Some(0));
        check(&[8, 1], Some(1));
        check(&[8, 2], Some(2));
        check(&[8, 3, 8, 1], Some(1));
        check(&[18, 2, 7, 7, 8, 1, 24, 0x80, 1], Some(1));
        check(&[9, 0, 0, 0, 0, 0, 0, 0, 0, 21, 0, 0, 0, 0, 8, 1], Some(1));
    }

    #[test]
    fn what_is_no_answer_is_not_taken_for_one() {
        check(&[8], None);
        check(&[18, 9, 1], None);
        check(&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], None);
        check(&[11], None);
        for body in [&[][..], &[0, 0, 0, 0], &[0, 0, 0, 0, 2, 8], &[1, 0, 0, 0, 2, 8, 1], &[0, 0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(serving(body), None, "{body:?}");
        }
    }

    #[test]
    fn a_call_fails_by_its_status_wherever_that_stands() {
        let said = |status: u16, head: Option<&'static str>, tail: Option<&'static str>| {
            let fields =
                |status: &'static str| HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from_static(status))]);
            let body = vec![0, 0, 0, 0, 2, 8, 1];
            Said {
                status: StatusCode::from_u16(status).expect("a status"),
                headers: head.map(fields).unwrap_or_default(),
                body,
                trailers: tail.map(fields),
            }
        };
        let check = |said: Said, expected: Result<Reply<'static>, ProbeError>| assert_eq!(read(&said), expected);
        check(said(200, None, Some("0")), Ok(Reply::Grpc { status: 0, serving: 1 }));
        check(said(200, Some("12"), None), Ok(Reply::Grpc { status: 12, serving: 0 }));
        check(said(200, None, Some("5")), Ok(Reply::Grpc { status: 5, serving: 0 }));
        check(said(503, None, Some("0")), Err(ProbeError::Status(503)));
        check(said(200, None, None), Err(ProbeError::Broken("the call has no status".to_string())));
    }
}
