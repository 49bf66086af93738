//! The body of every answer that a node gives by itself and that is not good news (RFC 9457).

use crate::json;
use bytes::Bytes;
use http::StatusCode;

/// What an answer with a [`Problem`] in it is labelled with.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Text of a caller in a detail is cut after so many bytes.
const TEXT_MAX: usize = 1024;

/// What went wrong with one request, for whoever sent it.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    pub status: StatusCode,
    /// As in `shoal error CODE`.
    pub code: &'a str,
    /// The `type`: IANA's where one is registered, `/errors/CODE` otherwise.
    pub kind: &'a str,
    /// The same for every problem of the code.
    pub title: &'a str,
    /// What was wrong this time, and what would be right.
    pub detail: Option<&'a str>,
    pub request_id: &'a str,
    pub trace_id: Option<&'a str>,
    /// Members of this kind of problem, such as `retry_after_s`.
    pub extra: &'a [(&'a str, Value<'a>)],
}

/// The value of an extra member.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Text(&'a str),
    Number(u64),
    Flag(bool),
    Texts(&'a [&'a str]),
}

impl Problem<'_> {
    pub fn body(&self) -> Bytes {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(b"{\"type\":");
        json::text(&mut out, self.kind.as_bytes(), TEXT_MAX);
        member(&mut out, "title", Value::Text(self.title));
        member(&mut out, "status", Value::Number(self.status.as_u16().into()));
        member(&mut out, "code", Value::Text(self.code));
        if let Some(detail) = self.detail {
            member(&mut out, "detail", Value::Text(detail));
        }
        member(&mut out, "request_id", Value::Text(self.request_id));
        if let Some(trace_id) = self.trace_id {
            member(&mut out, "trace_id", Value::Text(trace_id));
        }
        for (name, value) in self.extra {
            member(&mut out, name, *value);
        }
        out.extend_from_slice(b"}\n");
        Bytes::from(out)
    }
}

fn member(out: &mut Vec<u8>, name: &str, value: Value<'_>) {
    out.push(b',');
    json::text(out, name.as_bytes(), TEXT_MAX);
    out.push(b':');
    match value {
        Value::Text(text) => json::text(out, text.as_bytes(), TEXT_MAX),
        Value::Number(number) => json::number(out, number),
        Value::Flag(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
        Value::Texts(texts) => {
            out.push(b'[');
            for (index, text) in texts.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                json::text(out, text.as_bytes(), TEXT_MAX);
            }
            out.push(b']');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_problem_reads_like_this() {
        let problem = Problem {
            status: StatusCode::TOO_MANY_REQUESTS,
            code: "E4290",
            kind: "/errors/E4290",
            title: "too many requests",
            detail: Some("limit `partner` allows 100/s"),
            request_id: "0198c0de",
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
            extra: &[("retry_after_s", Value::Number(1)), ("limits", Value::Texts(&["a", "b"])), ("shadow", Value::Flag(false))],
        };
        assert_eq!(
            problem.body(),
            "{\"type\":\"/errors/E4290\",\"title\":\"too many requests\",\"status\":429,\"code\":\"E4290\",\
             \"detail\":\"limit `partner` allows 100/s\",\"request_id\":\"0198c0de\",\
             \"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"retry_after_s\":1,\"limits\":[\"a\",\"b\"],\"shadow\":false}\n"
        );
    }

    proptest! {
        #[test]
        fn whatever_a_caller_sent_stays_inside_its_member(detail in ".*", request_id in ".*") {
            let problem = Problem {
                status: StatusCode::BAD_REQUEST,
                code: "E4000",
                kind: "about:blank",
                title: "bad request",
                detail: Some(&detail),
                request_id: &request_id,
                trace_id: None,
                extra: &[],
            };
            let read: serde_json::Value = serde_json::from_slice(&problem.body()).expect("JSON");
            prop_assert_eq!(read.as_object().expect("an object").len(), 6);
            if detail.len() <= TEXT_MAX {
                prop_assert_eq!(&read["detail"], &detail);
            }
        }
    }
}
