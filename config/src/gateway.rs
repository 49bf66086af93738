//! A gateway as it is served: every name resolved, every default filled in, every quantity in its type.
//!
//! These are the nouns that the rest of the workspace speaks. Nothing here can be half-made: a [`Gateway`] comes
//! out of `check` whole or not at all, and is never changed afterwards.

mod describe;
mod route;

pub use route::*;

use crate::{ByteSize, LimitName, ListenerName, Place, Rate, Ratio, RouteTable, Secret, ServiceName, written};
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use serde::{Serialize, Serializer};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// Everything that a node serves.
#[derive(Debug)]
pub struct Gateway {
    /// Identifies this content: equal files give equal revisions on every node.
    pub revision: Revision,
    pub node: Node,
    pub listeners: Vec<Arc<Listener>>,
    pub services: Vec<Arc<Service>>,
    /// The named limits; inline ones hang on their route.
    pub limits: Vec<Arc<Limit>>,
    pub routes: RouteTable,
    pub admin: Admin,
    pub telemetry: Telemetry,
    /// Every file that was read for it, secrets included: what to watch for changes.
    pub files: Vec<PathBuf>,
}

/// A hash over the content of a configuration, in hexadecimal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct Revision(pub Arc<str>);

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Node {
    pub name: Arc<str>,
    pub region: Arc<str>,
    pub zone: Arc<str>,
    pub state_dir: Option<PathBuf>,
    /// Threads that serve requests; `None` is one for each core.
    pub workers: Option<usize>,
    /// Over all listeners.
    pub max_connections: usize,
    /// From one address; loopback and trusted proxies are not counted.
    pub max_connections_per_address: usize,
    /// Whose `X-Forwarded-*`, `Forwarded` and PROXY headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a draining node still accepts connections, so that load balancers notice.
    #[serde(serialize_with = "as_written")]
    pub drain_wait: Duration,
    /// How long, after that, requests in flight may take.
    #[serde(serialize_with = "as_written")]
    pub drain_bound: Duration,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Listener {
    pub name: ListenerName,
    pub bind: Vec<SocketAddr>,
    pub http1: bool,
    pub http2: bool,
    pub tls: Option<ListenerTls>,
    /// Networks whose connections must begin with a PROXY header; empty means that none may.
    pub proxy_protocol: Vec<IpNet>,
    /// Whether `/livez`, `/readyz` and `/startupz` are answered here too.
    pub serve_health: bool,
    pub max_connections: usize,
    pub bounds: Bounds,
    pub place: Place,
}

/// How much of anything a caller may send, and how slowly.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Bounds {
    pub head_size: ByteSize,
    pub head_count: usize,
    pub uri_size: ByteSize,
    #[serde(serialize_with = "as_written")]
    pub head_timeout: Duration,
    /// Between requests on one connection.
    #[serde(serialize_with = "as_written")]
    pub keep_alive: Duration,
    /// Between two pieces of a request's body.
    #[serde(serialize_with = "as_written")]
    pub body_idle: Duration,
    /// Bytes a second that a body must reach once it has taken ten seconds.
    pub body_rate_min: ByteSize,
    /// A write that makes no progress for so long ends the connection.
    #[serde(serialize_with = "as_written")]
    pub write_stall: Duration,
    #[serde(serialize_with = "as_written")]
    pub tls_handshake: Duration,
    pub requests_per_connection: u64,
    pub h2_streams: u32,
    /// Control frames within ten seconds without a completed stream.
    pub h2_control_frames: u32,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ListenerTls {
    /// The first is answered to callers that name no host, or an unknown one.
    pub certificates: Vec<CertifiedKeyFiles>,
    pub version_min: TlsVersion,
    pub client_auth: ClientAuth,
    /// PEM file of the authorities that callers' certificates are checked against.
    pub client_ca: Option<PathBuf>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CertifiedKeyFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    None,
    Optional,
    Required,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Service {
    pub name: ServiceName,
    pub endpoints: Vec<Endpoint>,
    pub balance: Balance,
    pub protocol: Protocol,
    pub tls: EndpointTls,
    /// Which `Host` an endpoint sees.
    pub host: HostHeader,
    pub deadlines: Deadlines,
    pub retry: RetryPolicy,
    pub pool: PoolPolicy,
    pub place: Place,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Endpoint {
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: Arc<str>,
    pub port: u16,
    pub weight: u32,
}

impl Endpoint {
    /// `host:port`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }
}

#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The better of two drawn by chance, by peak-EWMA latency times requests in flight.
    PeakEwma,
    RoundRobin,
    LeastRequests,
    /// The same key goes to the same endpoint, which never carries more than `bound` times its fair share.
    Hash {
        key: KeyPart,
        bound: f64,
    },
}

/// What is spoken to an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1 in the clear; whatever ALPN agrees on over TLS.
    Auto,
    H1,
    /// By prior knowledge in the clear, by ALPN over TLS.
    H2,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct EndpointTls {
    /// PEM file of authorities; the system's where absent.
    pub ca: Option<PathBuf>,
    /// What a client certificate is proven with.
    pub identity: Option<ClientIdentity>,
    /// The name asked for and checked; the endpoint's host where absent.
    pub server_name: Option<Arc<str>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct ClientIdentity {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostHeader {
    /// What the caller asked for.
    Keep,
    /// The endpoint's own authority.
    Endpoint,
    Name(#[serde(serialize_with = "header_value")] HeaderValue),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Deadlines {
    /// From the first byte of the request to the last of the answer; `None` lets streams live on their idle time.
    #[serde(serialize_with = "as_written_or_none")]
    pub total: Option<Duration>,
    #[serde(serialize_with = "as_written")]
    pub connect: Duration,
    /// From the request sent to the head of the answer.
    #[serde(serialize_with = "as_written")]
    pub first_byte: Duration,
    /// Between two pieces of the answer's body.
    #[serde(serialize_with = "as_written")]
    pub idle: Duration,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RetryPolicy {
    /// Attempts beyond the first.
    pub max: u32,
    /// Answers of an endpoint that may be tried elsewhere; connection failures always may.
    pub statuses: Vec<u16>,
    /// Share of a service's requests that may be retries, beside `budget_min` a second.
    pub budget: Ratio,
    pub budget_min: u32,
    #[serde(serialize_with = "as_written")]
    pub backoff_min: Duration,
    #[serde(serialize_with = "as_written")]
    pub backoff_max: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct PoolPolicy {
    /// Connections to one endpoint, busy and idle together.
    pub max_connections: usize,
    pub max_idle: usize,
    #[serde(serialize_with = "as_written")]
    pub idle: Duration,
    #[serde(serialize_with = "as_written")]
    pub age_max: Duration,
}

/// The rule: `rate` on average, `burst` at once, counted apart for every value of `key`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Limit {
    pub name: LimitName,
    pub rate: Rate,
    /// At least 1.
    pub burst: u64,
    pub key: Vec<KeyPart>,
    pub mode: LimitMode,
    pub missing: Missing,
    pub place: Place,
}

/// What a limit, a sticky split or a hashing balancer looks at.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPart {
    /// The caller's address; IPv6 by its /64.
    ClientIp,
    Header(#[serde(serialize_with = "header_name")] HeaderName),
    /// A cookie's value.
    Cookie(Arc<str>),
    /// A capture of the route's path.
    Path(Arc<str>),
    Host,
    Route,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitMode {
    Enforce,
    /// Counts and reports, refuses nothing.
    Shadow,
}

/// What happens to a request that has no value for the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// All such requests share one bucket.
    Share,
    Skip,
    Refuse,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Admin {
    /// `None` when `[admin] enabled = false`.
    pub bind: Option<SocketAddr>,
    /// A bearer token; one is made at the start where the file gives none.
    pub token: Option<Secret>,
    /// Whether `/metrics` asks for the token.
    pub metrics_open: bool,
    /// Required off loopback.
    pub tls: Option<ListenerTls>,
}

/// Whether two sockets cannot listen on both: the address that stands for all of a family includes each of it. Port 0
/// is any free one.
pub fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let family = a.is_ipv4() == b.is_ipv4();
    let includes = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && family && includes
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Telemetry {
    pub access_log: AccessLog,
    /// Series beyond it are counted under `_other`.
    pub max_series: usize,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct AccessLog {
    pub to: AccessLogTo,
    /// Share of answers below 400 that are written.
    pub success: Ratio,
    /// Share of the others.
    pub errors: Ratio,
    /// Request headers to write, beside the fixed fields.
    #[serde(serialize_with = "header_names")]
    pub headers: Vec<HeaderName>,
    /// Headers whose value is never written.
    #[serde(serialize_with = "header_names")]
    pub redact: Vec<HeaderName>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogTo {
    Off,
    Stdout,
    File(PathBuf),
}

fn as_written<S: Serializer>(duration: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&written(*duration))
}

fn as_written_or_none<S: Serializer>(duration: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&duration.map_or("none".to_string(), written))
}

fn header_name<S: Serializer>(name: &HeaderName, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(name.as_str())
}

fn header_names<S: Serializer>(names: &[HeaderName], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(names.iter().map(HeaderName::as_str))
}

fn header_value<S: Serializer>(value: &HeaderValue, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&String::from_utf8_lossy(value.as_bytes()))
}
