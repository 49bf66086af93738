//! Every answer of admin that is not what was asked for, with its status and code.
//!
//! None of them tells more than the caller sent, except to those who have shown the token.

use crate::problem::{self, Problem, Value};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use std::time::Duration;

#[derive(Debug)]
pub(super) enum Refusal {
    /// No name to be called by, two that differ, or one that is none.
    NoName,
    /// A name that is not the node's.
    Name,
    Origin,
    NoToken,
    WrongToken,
    TooManyWrongTokens {
        wait: Duration,
    },
    Encoding,
    NoPage,
    NoRoute {
        id: String,
    },
    Method {
        allowed: &'static [Method],
    },
    Parameter {
        detail: String,
    },
    MediaType,
    TooLarge,
    NotJson {
        detail: String,
    },
    /// JSON, but not a question that can be answered.
    Question {
        detail: String,
    },
    Drills,
    NoActor {
        id: String,
    },
    /// It was there, and has left the tree.
    ActorGone {
        id: String,
        /// How its last life ended, and when.
        ended: Option<String>,
    },
    /// A drill for an actor that has no life to be drilled.
    NobodyThere {
        id: String,
        state: &'static str,
        /// The highest one above it that does not run either.
        above: Option<Above>,
    },
    NoCluster,
    NoMember {
        name: String,
    },
    /// Nobody is in that region.
    NoRegion {
        name: String,
    },
    /// A member that did not answer, and since when it has not been seen.
    Unreachable {
        member: String,
        why: String,
        gone: Option<Duration>,
    },
    /// Nobody who is alive is forgotten.
    Alive {
        names: String,
    },
    NoService {
        service: String,
    },
    NoEndpoint {
        service: String,
        endpoint: String,
    },
    /// No other endpoint is well.
    LastEndpoint {
        service: String,
        endpoint: String,
    },
    /// It is the configuration that takes the endpoint out of service.
    DrainedByFile {
        endpoint: String,
    },
}

/// Who does not run, so that nobody below it does.
#[derive(Debug)]
pub(super) struct Above {
    pub(super) id: String,
    pub(super) state: &'static str,
    /// When it is started again.
    pub(super) again: Option<Duration>,
}

impl Refusal {
    fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoName => (StatusCode::BAD_REQUEST, "E9001"),
            Self::Name => (StatusCode::MISDIRECTED_REQUEST, "E9002"),
            Self::Origin => (StatusCode::FORBIDDEN, "E9003"),
            Self::NoToken => (StatusCode::UNAUTHORIZED, "E9004"),
            Self::WrongToken => (StatusCode::UNAUTHORIZED, "E9005"),
            Self::TooManyWrongTokens { .. } => (StatusCode::TOO_MANY_REQUESTS, "E9006"),
            Self::Encoding => (StatusCode::BAD_REQUEST, "E9007"),
            Self::NoPage => (StatusCode::NOT_FOUND, "E9008"),
            Self::NoRoute { .. } => (StatusCode::NOT_FOUND, "E9009"),
            Self::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "E9010"),
            Self::Parameter { .. } => (StatusCode::BAD_REQUEST, "E9011"),
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "E9012"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "E9013"),
            Self::NotJson { .. } => (StatusCode::BAD_REQUEST, "E9014"),
            Self::Question { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "E9015"),
            Self::Drills => (StatusCode::FORBIDDEN, "E9016"),
            Self::NoActor { .. } => (StatusCode::NOT_FOUND, "E9017"),
            Self::ActorGone { .. } => (StatusCode::GONE, "E9018"),
            Self::NobodyThere { .. } => (StatusCode::CONFLICT, "E9019"),
            Self::NoCluster => (StatusCode::NOT_FOUND, "E9030"),
            Self::NoMember { .. } | Self::NoRegion { .. } => (StatusCode::NOT_FOUND, "E9031"),
            Self::Unreachable { .. } => (StatusCode::GATEWAY_TIMEOUT, "E9032"),
            Self::Alive { .. } => (StatusCode::CONFLICT, "E9033"),
            Self::NoService { .. } => (StatusCode::NOT_FOUND, "E9020"),
            Self::NoEndpoint { .. } => (StatusCode::NOT_FOUND, "E9021"),
            Self::LastEndpoint { .. } => (StatusCode::CONFLICT, "E9022"),
            Self::DrainedByFile { .. } => (StatusCode::CONFLICT, "E9023"),
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::NoName => "the request names no host, or not exactly one",
            Self::Name => "the node does not answer to this host",
            Self::Origin => "another site may not ask this",
            Self::NoToken => "this needs the admin token",
            Self::WrongToken => "the token is wrong",
            Self::TooManyWrongTokens { .. } => "too many wrong tokens",
            Self::Encoding => "the path is not valid",
            Self::NoPage => "there is no such page",
            Self::NoRoute { .. } => "there is no such route",
            Self::Method { .. } => "the page does not know this method",
            Self::Parameter { .. } => "a parameter is wrong",
            Self::MediaType => "the body must be application/json",
            Self::TooLarge => "the body is too large",
            Self::NotJson { .. } => "the body is not JSON",
            Self::Question { .. } => "the question cannot be answered",
            Self::Drills => "this node allows no drills",
            Self::NoActor { .. } => "there is no such actor",
            Self::ActorGone { .. } => "the actor has left the tree",
            Self::NobodyThere { .. } => "the actor is not running",
            Self::NoCluster => "this node is in no cluster",
            Self::NoMember { .. } | Self::NoRegion { .. } => "there is no such member",
            Self::Unreachable { .. } => "the member cannot be reached",
            Self::Alive { .. } => "nobody who is alive is forgotten",
            Self::NoService { .. } => "there is no such service",
            Self::NoEndpoint { .. } => "the service has no such endpoint",
            Self::LastEndpoint { .. } => "no other endpoint is well",
            Self::DrainedByFile { .. } => "the configuration drains this endpoint",
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Name => Some("call it by its address, by localhost, or by a name of its certificate".into()),
            Self::NoToken => Some("send `Authorization: Bearer TOKEN`, as printed at the start or set in [admin]".into()),
            Self::Encoding => Some("a % is followed by two hexadecimal digits, and the whole is UTF-8".into()),
            Self::NoRoute { id } => Some(format!("no route has the id `{id}`; /v1/routes lists them")),
            Self::Parameter { detail } | Self::NotJson { detail } | Self::Question { detail } => Some(detail.clone()),
            Self::Drills => Some("write `[drills] allow = true` into its file; a reload is enough".into()),
            Self::NoActor { id } => Some(format!("no actor has the id `{id}`; /v1/actors lists them")),
            Self::ActorGone { id, ended } => {
                let ended = ended.as_ref().map(|ended| format!("; it ended: {ended}")).unwrap_or_default();
                Some(format!("`{id}` was looked after until the configuration named it no more{ended}"))
            }
            Self::NoCluster => Some("write `[cluster]` into its file and start it again".into()),
            Self::NoMember { name } => Some(format!("nobody here is called `{name}`; /v1/members lists all")),
            Self::NoRegion { name } => Some(format!("nobody here is in the region `{name}`; /v1/members lists all")),
            Self::Unreachable { member, why, gone } => {
                let gone = gone.map(|gone| format!("; not seen for {} s", gone.as_secs())).unwrap_or_default();
                Some(format!("`{member}` did not answer: {why}{gone}"))
            }
            Self::Alive { names } => {
                Some(format!("still alive: {names}; each can be told to leave by its own admin listener: `shoal leave --admin ADDR`"))
            }
            Self::NobodyThere { id, state, above: None } => Some(format!("`{id}` is {state}; wait until it runs again")),
            Self::NobodyThere { id, state, above: Some(Above { id: reason, state: theirs, again }) } => {
                let again = again.map(|again| format!(" and is started again in {} s", again.as_secs() + 1)).unwrap_or_default();
                Some(format!("`{id}` is {state}, because `{reason}` above it is {theirs}{again}; wait until that runs again"))
            }
            Self::NoService { service } => Some(format!("no service is called `{service}`; /v1/upstreams lists them")),
            Self::NoEndpoint { service, endpoint } => {
                Some(format!("`{service}` has no endpoint `{endpoint}`; /v1/upstreams lists them, by their addresses"))
            }
            Self::LastEndpoint { service, endpoint } => Some(format!(
                "without `{endpoint}`, requests to `{service}` would go to endpoints that are not well, or would go on to it where all \
                 are draining; wait until another is healthy, or insist with `force`"
            )),
            Self::DrainedByFile { endpoint } => Some(format!("take `drain = true` of `{endpoint}` out of the file and reload")),
            Self::TooLarge => Some(format!("at most {} bytes are read", super::BODY_MAX)),
            Self::NoName
            | Self::Origin
            | Self::WrongToken
            | Self::TooManyWrongTokens { .. }
            | Self::NoPage
            | Self::Method { .. }
            | Self::MediaType => None,
        }
    }

    pub(super) fn response(&self, request_id: &str) -> Response<Bytes> {
        let (status, code) = self.code();
        let kind = format!("/errors/{code}");
        let detail = self.detail();
        let seconds = match self {
            Self::TooManyWrongTokens { wait } => Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
            _ => None,
        };
        let extra = seconds.map(|seconds| ("retry_after_s", Value::Number(seconds)));
        let problem = Problem {
            status,
            code,
            kind: &kind,
            title: self.title(),
            detail: detail.as_deref(),
            request_id,
            trace_id: None,
            extra: extra.as_slice(),
        };
        let mut response = Response::new(problem.body());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        match self {
            Self::NoToken => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"shoal admin\""));
            }
            Self::WrongToken => {
                let challenge = HeaderValue::from_static("Bearer realm=\"shoal admin\", error=\"invalid_token\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            Self::Method { allowed } => {
                let allowed: Vec<_> = allowed.iter().map(Method::as_str).collect();
                headers.insert(header::ALLOW, HeaderValue::from_str(&allowed.join(", ")).expect("methods are tokens"));
            }
            _ => {}
        }
        if let Some(seconds) = seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
