//! Routes: what a request must be, what is done with it, and what is changed on the way.

use crate::{ByteSize, Deadlines, KeyPart, Limit, ListenerName, Place, RetryPolicy, RouteId, Service};
use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use std::sync::Arc;

/// A match, what happens to a request that meets it, and what it may cost.
#[derive(Debug)]
pub struct Route {
    pub id: RouteId,
    /// Its place in its table, which gives it: whatever belongs to routes can be kept in a list beside it.
    pub number: usize,
    pub matcher: Matcher,
    pub action: Action,
    /// Taken all or nothing, in this order.
    pub limits: Vec<Arc<Limit>>,
    pub networks: Networks,
    pub request: RequestRewrite,
    pub response: ResponseRewrite,
    /// `None` is unlimited.
    pub max_body: Option<ByteSize>,
    /// Overrides the service's.
    pub deadlines: Option<Deadlines>,
    pub retry: Option<RetryPolicy>,
    /// Whether `%2F` and `%5C` in a path are passed on as they are; otherwise they are refused.
    pub encoded_slash: bool,
    /// Whether `;` in a path is passed on as it is; otherwise it is refused.
    pub semicolon: bool,
    /// Whether a request may become a WebSocket.
    pub websocket: bool,
    pub place: Place,
}

/// What a request must be for a route to take it.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// As written in `match`.
    pub written: Arc<str>,
    /// Empty means any.
    pub methods: Vec<Method>,
    pub host: HostPattern,
    pub path: PathPattern,
    pub headers: Vec<(HeaderName, ValueMatch)>,
    pub query: Vec<(Arc<str>, ValueMatch)>,
    /// Must match the whole normalised path.
    pub path_regex: Option<regex::Regex>,
    /// Higher wins among equals. `None` counts as 0 but does not excuse a tie.
    pub priority: Option<i32>,
    /// Listeners it is served on; empty means all.
    pub listeners: Vec<ListenerName>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HostPattern {
    Any,
    /// Lower case, without a trailing dot or a port.
    Exact(Arc<str>),
    /// `*.example.com` is kept as `example.com`; it stands for one or more labels before it.
    Wildcard(Arc<str>),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PathPattern {
    pub segments: Vec<Segment>,
    /// `**` or `{name=**}` at the end.
    pub rest: Option<Rest>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Segment {
    Literal(Arc<str>),
    Capture(Arc<str>),
}

/// The tail of a path, possibly empty. The name is empty for a plain `**`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rest(pub Arc<str>);

#[derive(Clone, Debug)]
pub enum ValueMatch {
    Exact(Arc<str>),
    Regex(regex::Regex),
    Present,
    Absent,
}

#[derive(Clone, Debug)]
pub enum Action {
    Forward(Forward),
    Redirect(Redirect),
    Respond(Respond),
}

/// One or more services with weights that are not all zero.
#[derive(Clone, Debug)]
pub struct Forward {
    pub split: Vec<(Arc<Service>, u32)>,
    /// What decides, instead of chance, which service of a split a caller stays with.
    pub sticky: Option<KeyPart>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// A location, or parts of one, with captures in braces.
    pub scheme: Option<Arc<str>>,
    pub host: Option<Arc<str>>,
    pub port: Option<u16>,
    pub path: Option<Template>,
    pub keep_query: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Respond {
    pub status: u16,
    pub body: Arc<str>,
    pub content_type: HeaderValue,
}

/// Text with captures of the route's path in it: `/v2/{name}`. Captures are written back percent-encoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template(pub Vec<TemplatePart>);

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TemplatePart {
    Literal(Arc<str>),
    Capture(Arc<str>),
}

/// Deny wins; an empty `allow` allows everyone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Networks {
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestRewrite {
    pub headers: HeaderEdits,
    pub path: Option<PathRewrite>,
    /// Parameters set and removed, in this order: remove, then set.
    pub query_set: Vec<(Arc<str>, Arc<str>)>,
    pub query_remove: Vec<Arc<str>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathRewrite {
    /// The whole path is made from the template.
    To(Template),
    /// Whole segments at the beginning are taken away.
    StripPrefix(Arc<str>),
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ResponseRewrite {
    pub headers: HeaderEdits,
}

/// Applied in this order: remove, set, add.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeaderEdits {
    pub remove: Vec<HeaderName>,
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderEdits {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}
