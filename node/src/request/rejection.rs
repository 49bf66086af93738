//! Everything that shoal answers by itself because a request cannot go on. This is the only list of such answers, and
//! the only place that gives them a status.

use crate::{
    problem::{self, Problem, Value},
    request::{Answer, Trip, admit::RateLimitFields, answer::AnswerError, hygiene::HeadError, target::TargetError},
};
use actors::service::Refused;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use std::time::Duration;

/// Why a request ends here. Each has one status, one code and one sentence.
#[derive(Clone, Debug)]
pub(crate) enum Rejection {
    /// The head says two things, or something that no endpoint should see.
    BadRequest(&'static str),
    /// The path cannot be normalised, or holds what its route does not allow.
    BadTarget(&'static str),
    Method,
    NotImplemented,
    HeadTooLarge,
    UriTooLong,
    /// The host is not one that the connection's certificate covers.
    Misdirected,
    NoRoute,
    /// By the route's networks.
    Network,
    BodyTooLarge,
    BodyTooSlow,
    /// The caller went away while its body was being read.
    CallerGone,
    Limited(Limited),
    /// The key of a limit is missing, and the limit refuses what it cannot count.
    LimitKey,
    /// No endpoint could be reached.
    Unreachable,
    /// All connections to the chosen endpoints are busy.
    Busy,
    /// As many requests to the service are in flight as may be.
    Full,
    /// As many requests wait for a connection to the service as may.
    WaitingFull,
    /// The breakers of all endpoints that are left are open.
    Open,
    /// The service has no endpoint, because its name has none yet or none any more.
    NoEndpoint,
    /// The endpoint's answer was none.
    BadGateway,
    FirstByte,
    Deadline,
    Upgrade,
}

/// What a refused caller is told about its limit.
#[derive(Clone, Debug)]
pub(crate) struct Limited {
    pub(crate) policy: config::LimitName,
    pub(crate) retry_after: Duration,
    pub(crate) fields: Option<RateLimitFields>,
}

struct Shape {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    grpc: u8,
}

const fn shape(status: StatusCode, code: &'static str, title: &'static str, grpc: u8) -> Shape {
    Shape { status, code, title, grpc }
}

impl Rejection {
    fn shape(&self) -> Shape {
        match self {
            Self::BadRequest(_) => shape(StatusCode::BAD_REQUEST, "E4000", "malformed request", 13),
            Self::BadTarget(_) => shape(StatusCode::BAD_REQUEST, "E4001", "malformed request target", 13),
            Self::Method => shape(StatusCode::METHOD_NOT_ALLOWED, "E4050", "method not allowed", 12),
            Self::NotImplemented => shape(StatusCode::NOT_IMPLEMENTED, "E5010", "method not implemented", 12),
            Self::HeadTooLarge => shape(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "E4310", "request head too large", 8),
            Self::UriTooLong => shape(StatusCode::URI_TOO_LONG, "E4140", "request target too long", 8),
            Self::Misdirected => shape(StatusCode::MISDIRECTED_REQUEST, "E4210", "host not served on this connection", 14),
            Self::NoRoute => shape(StatusCode::NOT_FOUND, "E4040", "no route", 12),
            Self::Network => shape(StatusCode::FORBIDDEN, "E4030", "address not allowed", 7),
            Self::BodyTooLarge => shape(StatusCode::PAYLOAD_TOO_LARGE, "E4130", "request body too large", 8),
            Self::BodyTooSlow => shape(StatusCode::REQUEST_TIMEOUT, "E4080", "request body too slow", 4),
            Self::CallerGone => shape(StatusCode::BAD_REQUEST, "E4990", "request body ended early", 1),
            Self::Limited(_) => shape(StatusCode::TOO_MANY_REQUESTS, "E4290", "limit exceeded", 8),
            Self::LimitKey => shape(StatusCode::TOO_MANY_REQUESTS, "E4291", "request has no value for the key of its limit", 8),
            Self::Unreachable => shape(StatusCode::BAD_GATEWAY, "E5020", "no endpoint reachable", 14),
            Self::BadGateway => shape(StatusCode::BAD_GATEWAY, "E5021", "endpoint gave no valid answer", 14),
            Self::Busy => shape(StatusCode::SERVICE_UNAVAILABLE, "E5030", "all connections to the service are busy", 14),
            Self::Full => shape(StatusCode::SERVICE_UNAVAILABLE, "E5031", "service has as many requests as it may have", 14),
            Self::WaitingFull => shape(StatusCode::SERVICE_UNAVAILABLE, "E5032", "too many requests wait for the service", 14),
            Self::Open => shape(StatusCode::SERVICE_UNAVAILABLE, "E5033", "service fails and is given time to recover", 14),
            Self::NoEndpoint => shape(StatusCode::SERVICE_UNAVAILABLE, "E5034", "service has no endpoint", 14),
            Self::FirstByte => shape(StatusCode::GATEWAY_TIMEOUT, "E5040", "endpoint did not answer in time", 4),
            Self::Deadline => shape(StatusCode::GATEWAY_TIMEOUT, "E5041", "deadline passed", 4),
            Self::Upgrade => shape(StatusCode::FORBIDDEN, "E4031", "upgrade not allowed on this route", 7),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.shape().status
    }

    pub(crate) fn code(&self) -> &'static str {
        self.shape().code
    }

    /// What a person can do about it. Says nothing of what lies behind the gateway.
    pub(crate) fn detail(&self) -> &'static str {
        match self {
            Self::BadRequest(what) | Self::BadTarget(what) => what,
            Self::Method => "the method is never forwarded",
            Self::NotImplemented => "the method is not known here",
            Self::HeadTooLarge => "send fewer or shorter header fields",
            Self::UriTooLong => "send parameters in the body instead",
            Self::Misdirected => "open a connection for this host",
            Self::NoRoute => "nothing is served at this address",
            Self::Network => "this address may not be used from where you are",
            Self::BodyTooLarge => "the body is larger than this address accepts",
            Self::BodyTooSlow => "the body stood still, or came slower than this address accepts",
            Self::CallerGone => "the body ended before it was complete",
            Self::Limited(_) => "wait as long as Retry-After says",
            Self::LimitKey => "send what the limit counts by",
            Self::Unreachable => "try again later",
            Self::BadGateway => "what answers at this address answered badly",
            Self::Busy | Self::Full | Self::WaitingFull | Self::Open | Self::NoEndpoint => "try again later",
            Self::FirstByte | Self::Deadline => "what answers at this address took too long",
            Self::Upgrade => "this address does not speak WebSocket",
        }
    }

    /// Whether the connection can carry another request after it: not if part of this one is still to come.
    fn closes(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_) | Self::HeadTooLarge | Self::UriTooLong | Self::BodyTooLarge | Self::BodyTooSlow | Self::CallerGone
        )
    }

    /// Becomes a problem document (RFC 9457), or a trailers-only answer where the caller speaks gRPC.
    pub(crate) fn into_response(self, trip: &Trip, grpc: bool) -> Response<Answer> {
        let shape = self.shape();
        let mut response = if grpc { self.grpc(&shape) } else { self.problem(&shape, trip) };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match &self {
            Self::Limited(limited) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds_up(limited.retry_after)));
                if let Some(fields) = &limited.fields {
                    fields.clone().write(headers);
                }
            }
            Self::Busy | Self::Full | Self::WaitingFull | Self::Open | Self::NoEndpoint => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(1_u64));
            }
            Self::Method => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
            }
            _ => {}
        }
        if self.closes() && trip.is_h1() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn problem(&self, shape: &Shape, trip: &Trip) -> Response<Answer> {
        // The quota problem type is IANA's; the others are documented by their code.
        let limited = matches!(self, Self::Limited(_));
        let kind = if limited { Kind::Quota } else { Kind::Code };
        let policies: [&str; 1];
        let extra: &[(&str, Value<'_>)] = match self {
            Self::Limited(limited) => {
                policies = [limited.policy.as_str()];
                &[("violated-policies", Value::Texts(&policies)), ("retry_after_s", Value::Number(seconds_up(limited.retry_after)))]
            }
            _ => &[],
        };
        let body = Problem {
            status: shape.status,
            code: shape.code,
            kind: &kind.uri(shape.code),
            title: shape.title,
            detail: Some(self.detail()),
            request_id: trip.request_id().as_str(),
            trace_id: Some(&trip.trace().trace_id.text()),
            extra,
        }
        .body();
        let head_only = trip.method() == Method::HEAD;
        let length = body.len();
        let mut response = Response::new(Answer::whole(if head_only { Bytes::new() } else { body }));
        *response.status_mut() = shape.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        response
    }

    fn grpc(&self, shape: &Shape) -> Response<Answer> {
        let mut response = Response::new(Answer::whole(Bytes::new()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(u16::from(shape.grpc)));
        headers.insert("grpc-message", HeaderValue::from_static(shape.title));
        if let Self::Limited(limited) = self {
            let millis = u64::try_from(limited.retry_after.as_millis()).unwrap_or(u64::MAX);
            headers.insert("grpc-retry-pushback-ms", HeaderValue::from(millis));
        }
        response
    }
}

impl From<HeadError> for Rejection {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::MethodConnect => Self::NotImplemented,
            HeadError::MethodTrace => Self::Method,
            HeadError::TargetLength => Self::UriTooLong,
            HeadError::HeadSize | HeadError::HeadCount => Self::HeadTooLarge,
            error => Self::BadRequest(error.as_str()),
        }
    }
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::EndpointFull | Refused::ServiceFull => Self::Full,
            Refused::WaitingFull => Self::WaitingFull,
            Refused::HalfOpen | Refused::Open => Self::Open,
            Refused::Nobody => Self::NoEndpoint,
        }
    }
}

impl From<TargetError> for Rejection {
    fn from(error: TargetError) -> Self {
        Self::BadTarget(error.as_str())
    }
}

enum Kind {
    Quota,
    Code,
}

impl Kind {
    fn uri(&self, code: &'static str) -> std::borrow::Cow<'static, str> {
        match self {
            Self::Quota => "https://iana.org/assignments/http-problem-types#quota-exceeded".into(),
            Self::Code => format!("/errors/{code}").into(),
        }
    }
}

/// What the access log calls a request whose caller did not wait for an answer.
pub(crate) const CALLER_GONE: &str = "E4990";

/// The status that nobody was sent: nginx's, which people know how to read.
pub(crate) fn caller_gone() -> StatusCode {
    StatusCode::from_u16(499).expect("499 is a status")
}

/// The code of an answer that was begun and could not be finished.
pub(crate) fn broken_off(error: &AnswerError) -> &'static str {
    match error {
        AnswerError::Broken(_) => "E5022",
        AnswerError::Deadline => "E5041",
        AnswerError::Idle => "E5042",
    }
}

/// Whole seconds, rounded up: a caller that waits so long is not refused for coming early.
pub(crate) fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
