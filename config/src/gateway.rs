//! A gateway as it is served: every name resolved, every default filled in, every quantity in its type.
//!
//! These are the nouns that the rest of the workspace speaks. Nothing here can be half-made: a [`Gateway`] comes
//! out of `check` whole or not at all, and is never changed afterwards.

mod cluster;
mod describe;
mod judging;
mod route;

pub use cluster::*;
pub use judging::*;
pub use route::*;

use crate::{ByteSize, LimitName, ListenerName, Place, Rate, Ratio, RouteTable, Secret, ServiceName, written};
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use serde::{Serialize, Serializer};
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// Everything that a node serves.
#[derive(Debug)]
pub struct Gateway {
    /// Identifies this content: equal files give equal revisions on every node.
    pub revision: Revision,
    pub node: Node,
    /// `None` where the node is alone.
    pub cluster: Option<Cluster>,
    pub listeners: Vec<Arc<Listener>>,
    pub services: Vec<Arc<Service>>,
    /// The named limits; inline ones hang on their route.
    pub limits: Vec<Arc<Limit>>,
    pub routes: RouteTable,
    pub admin: Admin,
    pub telemetry: Telemetry,
    pub drills: Drills,
    /// Every file that was read for it, secrets included: what to watch for changes.
    pub files: Vec<PathBuf>,
    /// What it was read from, as it was written: the file that was named and those that it includes, without what those refer to.
    pub sources: Vec<(PathBuf, Arc<str>)>,
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
    /// Resolvers to ask, in this order; empty means those of the system.
    pub dns: Vec<SocketAddr>,
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
    /// A host that is a name stands for all of its addresses. Empty only where `discovery` has an SRV lookup.
    pub endpoints: Vec<Endpoint>,
    pub discovery: DiscoveryPolicy,
    pub balance: Balance,
    pub spread: SpreadPolicy,
    pub protocol: Protocol,
    pub tls: EndpointTls,
    /// Which `Host` an endpoint sees.
    pub host: HostHeader,
    pub deadlines: Deadlines,
    pub retry: RetryPolicy,
    pub pool: PoolPolicy,
    /// `None` where nobody probes.
    pub health: Option<HealthPolicy>,
    /// `None` where nobody is ejected.
    pub outlier: Option<OutlierPolicy>,
    pub breaker: BreakerPolicy,
    pub place: Place,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Endpoint {
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: Arc<str>,
    pub port: u16,
    /// Of each of its addresses.
    pub weight: u32,
    /// The node's own where absent.
    pub region: Option<Arc<str>>,
    /// The node's own where absent.
    pub zone: Option<Arc<str>>,
    /// Higher ones are asked when lower ones cannot carry the load.
    pub priority: u16,
    /// Whether it is leaving and gets nothing new.
    pub drain: bool,
}

/// How far away an endpoint is, nearest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Locality {
    Zone,
    Region,
    Elsewhere,
}

impl Endpoint {
    /// One of which nothing is known but how it is reached.
    pub fn new(tls: bool, host: Arc<str>, port: u16) -> Self {
        Self { tls, host, port, weight: 1, region: None, zone: None, priority: 0, drain: false }
    }

    /// Who it is, without what only says how often it is asked.
    pub fn identity(&self) -> Self {
        Self::new(self.tls, Arc::clone(&self.host), self.port)
    }

    /// Its address, if it has one without being looked up.
    pub fn address(&self) -> Option<SocketAddr> {
        self.host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, self.port))
    }

    /// How far it is from a node. What it does not say is taken to be as near as can be.
    pub fn locality(&self, node: &Node) -> Locality {
        let same = |its: &Option<Arc<str>>, own: &Arc<str>| its.as_ref().is_none_or(|its| its == own);
        match (same(&self.region, &node.region), same(&self.zone, &node.zone)) {
            (true, true) => Locality::Zone,
            (true, false) => Locality::Region,
            (false, _) => Locality::Elsewhere,
        }
    }

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

/// How requests are spread over endpoints that are not alike: some sick, some new, some far away.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct SpreadPolicy {
    /// Share of a level that must be healthy for health to count there; Envoy's `healthy_panic_threshold`.
    pub panic_threshold: Ratio,
    pub slow_start: SlowStart,
    /// How many times its share a healthy endpoint is trusted with before a farther level helps; Envoy's `overprovisioning_factor`.
    pub spill: f64,
    /// How long a level must have been able to carry more before it is given more.
    #[serde(serialize_with = "as_written")]
    pub hysteresis: Duration,
}

/// How the weight of an endpoint grows that is new or healthy again.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct SlowStart {
    /// Zero where the whole weight counts at once.
    #[serde(serialize_with = "as_written")]
    pub window: Duration,
    /// What it begins with.
    pub weight_min: Ratio,
}

/// How names are looked up.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct DiscoveryPolicy {
    /// Records that say where the endpoints are; there are no others then.
    pub srv: Option<SrvLookup>,
    pub family: Family,
    /// How long an answer counts at least and at most, whatever it says itself.
    #[serde(serialize_with = "as_written")]
    pub ttl_min: Duration,
    #[serde(serialize_with = "as_written")]
    pub ttl_max: Duration,
    /// How long the addresses of a name that is said to be gone stay in use.
    #[serde(serialize_with = "as_written")]
    pub stale: Duration,
}

/// RFC 2782.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct SrvLookup {
    pub name: Arc<str>,
    /// Whether what it finds is reached over TLS.
    pub tls: bool,
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4 if there is any, IPv6 otherwise: one host is seldom meant to be two endpoints.
    Auto,
    Ipv4,
    Ipv6,
    Both,
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
    /// Connections that are kept open whether or not they are needed; at most `max_idle`.
    pub warm: usize,
    #[serde(serialize_with = "as_written")]
    pub idle: Duration,
    #[serde(serialize_with = "as_written")]
    pub age_max: Duration,
    /// How long requests may still be in flight once the endpoint has left.
    #[serde(serialize_with = "as_written")]
    pub drain: Duration,
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
    pub scope: Scope,
    pub place: Place,
}

/// Among whom a limit is counted together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Each node for itself.
    Node,
    /// All nodes of the cluster.
    Cluster,
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

/// Breaking things on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Drills {
    /// Whether an operator may kill and stall parts of the node.
    pub allow: bool,
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
