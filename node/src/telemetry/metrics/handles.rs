//! The cells that a revision holds, found once, so that counting a request looks nothing up.
//!
//! A route makes its cells when it first needs them: most of ten thousand routes are quiet, and a reload should not pay
//! for them.

use super::{
    ACTOR_MAILBOX_DEPTH, ACTOR_MAILBOX_FILL, ACTOR_RESTARTS, BREAKER_OPEN, CONFIG_APPLY, CONFIG_INFO, CONNECTIONS, CONNECTIONS_ENDED,
    CONNECTIONS_REFUSED, Counter, Gauge, HTTP_CLIENT_ACTIVE_REQUESTS, HTTP_CLIENT_OPEN_CONNECTIONS, HTTP_CLIENT_REQUEST_DURATION,
    HTTP_REQUEST_BYTES, HTTP_RESPONSE_BYTES, HTTP_RESPONSES, HTTP_SERVER_ACTIVE_REQUESTS, HTTP_SERVER_REQUEST_DURATION, Metrics, NONE,
    OVERHEAD_TIME, RATELIMIT_DECISIONS, REJECTIONS, RETRIES, TELEMETRY_DROPPED, TLS_CERT_NOT_AFTER, UPSTREAM_EJECTIONS, UPSTREAM_ENDPOINTS,
    UPSTREAM_PANIC, UPSTREAM_PROBES,
};
use crate::telemetry::histogram::Histogram;
use http::{Method, StatusCode};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What a route counts.
#[derive(Debug)]
pub struct RouteMetrics {
    metrics: Arc<Metrics>,
    /// Its id.
    route: Arc<str>,
    /// Its path as written in `match`.
    template: Arc<str>,
    cells: OnceLock<Box<RouteCells>>,
}

#[derive(Debug)]
struct RouteCells {
    durations: [[OnceLock<Arc<Histogram>>; 5]; 8],
    codes: Slots<u16, 12>,
    bytes_in: Counter,
    bytes_out: Counter,
}

/// One request and its answer, when both have ended.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    pub method: &'a Method,
    pub status: StatusCode,
    /// From the first byte of the head to the last byte of the answer.
    pub duration: Duration,
    /// Of the request's body.
    pub bytes_in: u64,
    /// Of the answer's body.
    pub bytes_out: u64,
}

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "_OTHER"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl RouteMetrics {
    pub fn new(metrics: &Arc<Metrics>, route: impl Into<Arc<str>>, template: impl Into<Arc<str>>) -> Self {
        Self { metrics: metrics.clone(), route: route.into(), template: template.into(), cells: OnceLock::new() }
    }

    /// What requests count for which there is no route.
    pub fn none(metrics: &Arc<Metrics>) -> Self {
        Self::new(metrics, NONE, NONE)
    }

    pub fn record(&self, exchange: Exchange<'_>) {
        let cells = self.cells();
        let (method, class, code) = (method_index(exchange.method), class_index(exchange.status), exchange.status.as_u16());
        cells.durations[method][class]
            .get_or_init(|| {
                let values = [&*self.template, &*self.route, METHODS[method], CLASSES[class]];
                self.metrics.histogram(&HTTP_SERVER_REQUEST_DURATION, &values)
            })
            .record(exchange.duration);
        cells.codes.add(code, || self.metrics.counter(&HTTP_RESPONSES, &[&self.route, exchange.status.as_str()]));
        if exchange.bytes_in > 0 {
            cells.bytes_in.add(exchange.bytes_in);
        }
        if exchange.bytes_out > 0 {
            cells.bytes_out.add(exchange.bytes_out);
        }
    }

    fn cells(&self) -> &RouteCells {
        self.cells.get_or_init(|| {
            Box::new(RouteCells {
                durations: Default::default(),
                codes: Slots::default(),
                bytes_in: self.metrics.counter(&HTTP_REQUEST_BYTES, &[&self.route]),
                bytes_out: self.metrics.counter(&HTTP_RESPONSE_BYTES, &[&self.route]),
            })
        })
    }
}

fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::PATCH => 4,
        Method::DELETE => 5,
        Method::OPTIONS => 6,
        _ => 7,
    }
}

/// A status above 599 has no class; it is no success, whatever else it is.
fn class_index(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100 - 1).min(4)
}

/// What a service counts. Everything is asked for at once: services are few.
#[derive(Debug)]
pub struct ServiceMetrics {
    metrics: Arc<Metrics>,
    service: Arc<str>,
    pub request_duration: Arc<Histogram>,
    pub open_connections: Gauge,
    pub active_requests: Gauge,
    retries: [Counter; 3],
}

/// How an attempt beyond the first went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    Success,
    Failure,
    /// It was not made, because the service's budget was spent.
    OverBudget,
}

impl ServiceMetrics {
    pub fn new(metrics: &Arc<Metrics>, service: impl Into<Arc<str>>) -> Self {
        let service = service.into();
        Self {
            request_duration: metrics.histogram(&HTTP_CLIENT_REQUEST_DURATION, &[&service]),
            open_connections: metrics.gauge(&HTTP_CLIENT_OPEN_CONNECTIONS, &[&service]),
            active_requests: metrics.gauge(&HTTP_CLIENT_ACTIVE_REQUESTS, &[&service]),
            retries: ["success", "failure", "over_budget"].map(|result| metrics.counter(&RETRIES, &[&service, result])),
            metrics: metrics.clone(),
            service,
        }
    }

    pub fn retried(&self, retry: Retry) {
        self.retries[retry as usize].add(1);
    }

    /// How many endpoints there are in each region and state, as `healthy`; there are no others. Looks up: not for the request path.
    pub fn endpoints(&self, counts: &BTreeMap<(Arc<str>, &'static str), usize>) {
        let told = self.metrics.gauges(&UPSTREAM_ENDPOINTS, &self.service);
        for (values, gauge) in told {
            if !counts.keys().any(|(region, state)| *values[1] == **region && *values[2] == **state) {
                gauge.set(0.0);
            }
        }
        for ((region, state), count) in counts {
            self.metrics.gauge(&UPSTREAM_ENDPOINTS, &[&self.service, region, state]).set(*count as f64);
        }
    }

    /// How many levels panic, and how many breakers are open.
    pub fn trouble(&self, panicking: usize, open: usize) {
        self.metrics.gauge(&UPSTREAM_PANIC, &[&self.service]).set(panicking as f64);
        self.metrics.gauge(&BREAKER_OPEN, &[&self.service]).set(open as f64);
    }

    /// How often endpoints were taken out so far, for a reason.
    pub fn ejections(&self, reason: &'static str, count: u64) {
        self.metrics.counter(&UPSTREAM_EJECTIONS, &[&self.service, reason]).reach(count);
    }

    /// How many probes have passed and failed so far.
    pub fn probes(&self, passed: u64, failed: u64) {
        self.metrics.counter(&UPSTREAM_PROBES, &[&self.service, "passed"]).reach(passed);
        self.metrics.counter(&UPSTREAM_PROBES, &[&self.service, "failed"]).reach(failed);
    }
}

/// What a listener counts.
#[derive(Debug)]
pub struct ListenerMetrics {
    pub connections: Gauge,
    pub active_requests: Gauge,
    refused: [Counter; Refused::ALL.len()],
    ended: [Counter; Ended::ALL.len()],
}

/// Why a connection that was being served did not end by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Between requests for longer than `keep_alive`.
    Idle,
    /// A head did not arrive in time.
    HeadTimeout,
    /// The caller did not read.
    WriteStall,
    /// A head was too large for the codec to look at.
    HeadTooLarge,
    /// What came is not HTTP.
    Malformed,
    /// Too many control frames of HTTP/2.
    Flood,
    /// The caller went away in the middle of something, or the network did.
    Broken,
}

impl Ended {
    const ALL: [Self; 7] =
        [Self::Idle, Self::HeadTimeout, Self::WriteStall, Self::HeadTooLarge, Self::Malformed, Self::Flood, Self::Broken];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::HeadTimeout => "head_timeout",
            Self::WriteStall => "write_stall",
            Self::HeadTooLarge => "head_too_large",
            Self::Malformed => "malformed",
            Self::Flood => "h2_flood",
            Self::Broken => "broken",
        }
    }
}

/// Why a connection was closed before its first request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// As many as the node may have are open.
    NodeFull,
    /// As many as the listener may have are open.
    ListenerFull,
    /// As many as one address may have are open.
    AddressFull,
    /// A PROXY header was due and did not come, or came and was not allowed.
    ProxyHeader,
    TlsHandshake,
    /// The handshake, the PROXY header or the first head did not arrive in time.
    Slow,
    /// The node is leaving.
    Draining,
    /// The kernel had no file descriptor or memory for it.
    Resources,
}

impl Refused {
    const ALL: [Self; 8] = [
        Self::NodeFull,
        Self::ListenerFull,
        Self::AddressFull,
        Self::ProxyHeader,
        Self::TlsHandshake,
        Self::Slow,
        Self::Draining,
        Self::Resources,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::NodeFull => "node_full",
            Self::ListenerFull => "listener_full",
            Self::AddressFull => "address_full",
            Self::ProxyHeader => "proxy_header",
            Self::TlsHandshake => "tls_handshake",
            Self::Slow => "slow",
            Self::Draining => "draining",
            Self::Resources => "resources",
        }
    }
}

impl ListenerMetrics {
    pub fn new(metrics: &Arc<Metrics>, listener: &str) -> Self {
        Self {
            connections: metrics.gauge(&CONNECTIONS, &[listener]),
            active_requests: metrics.gauge(&HTTP_SERVER_ACTIVE_REQUESTS, &[listener]),
            refused: Refused::ALL.map(|reason| metrics.counter(&CONNECTIONS_REFUSED, &[listener, reason.as_str()])),
            ended: Ended::ALL.map(|reason| metrics.counter(&CONNECTIONS_ENDED, &[listener, reason.as_str()])),
        }
    }

    pub fn refused(&self, reason: Refused) {
        self.refused[reason as usize].add(1);
    }

    pub fn ended(&self, reason: Ended) {
        self.ended[reason as usize].add(1);
    }
}

/// What a limit counts.
#[derive(Debug)]
pub struct LimitMetrics {
    pub allow: Counter,
    pub deny: Counter,
    pub shadow_deny: Counter,
}

impl LimitMetrics {
    pub fn new(metrics: &Arc<Metrics>, limit: &str) -> Self {
        let decisions = |result| metrics.counter(&RATELIMIT_DECISIONS, &[limit, result, "local_only"]);
        Self { allow: decisions("allow"), deny: decisions("deny"), shadow_deny: decisions("shadow_deny") }
    }
}

/// What the node counts whatever its configuration.
#[derive(Debug)]
pub struct NodeMetrics {
    metrics: Arc<Metrics>,
    pub overhead: Arc<Histogram>,
    pub config_applied: Counter,
    pub config_rejected: Counter,
    pub access_log_dropped: Counter,
    rejections: Slots<&'static str, 48>,
}

impl NodeMetrics {
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            metrics: metrics.clone(),
            overhead: metrics.histogram(&OVERHEAD_TIME, &[]),
            config_applied: metrics.counter(&CONFIG_APPLY, &["applied"]),
            config_rejected: metrics.counter(&CONFIG_APPLY, &["rejected"]),
            access_log_dropped: metrics.counter(&TELEMETRY_DROPPED, &["access_log"]),
            rejections: Slots::default(),
        }
    }

    /// Counts an answer that the node gave by itself.
    pub fn rejected(&self, code: &'static str) {
        self.rejections.add(code, || self.metrics.counter(&REJECTIONS, &[code]));
    }

    /// Which configuration is served from now on.
    pub fn config(&self, version: &str, hash: &str) {
        self.metrics.inform(&CONFIG_INFO, &[version, hash]);
    }

    /// How much waits for the actors of a class, and how full the fullest mailbox is.
    pub fn mailboxes(&self, class: &'static str, depth: u64, fill: f64) {
        self.metrics.gauge(&ACTOR_MAILBOX_DEPTH, &[class]).set(depth as f64);
        self.metrics.gauge(&ACTOR_MAILBOX_FILL, &[class]).set(fill);
    }

    /// How often actors of a class were started again so far.
    pub fn restarts(&self, class: &'static str, reason: &'static str, count: u64) {
        self.metrics.counter(&ACTOR_RESTARTS, &[class, reason]).reach(count);
    }

    /// Until when a certificate holds. One that expired before 1970 is as good as one that expired then.
    pub fn certificate(&self, name: &str, not_after: SystemTime) {
        let seconds = not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.metrics.gauge(&TLS_CERT_NOT_AFTER, &[name]).set(seconds as f64);
    }
}

/// Counters by a key of which few values occur: a scan finds them without a lock. Whatever comes when all slots are
/// taken is looked up each time, which is slower and counts the same.
#[derive(Debug)]
struct Slots<K, const N: usize>([OnceLock<(K, Counter)>; N]);

impl<K, const N: usize> Default for Slots<K, N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| OnceLock::new()))
    }
}

impl<K: Copy + PartialEq, const N: usize> Slots<K, N> {
    fn add(&self, key: K, find: impl Fn() -> Counter) {
        for slot in &self.0 {
            // Another thread may take an empty slot for a key of its own: then the search goes on.
            let (taken_for, counter) = slot.get_or_init(|| (key, find()));
            if *taken_for == key {
                return counter.add(1);
            }
        }
        find().add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(method: &Method, status: u16) -> Exchange<'_> {
        let status = StatusCode::from_u16(status).expect("a status");
        Exchange { method, status, duration: Duration::from_millis(3), bytes_in: 10, bytes_out: 200 }
    }

    #[test]
    fn a_request_is_counted_by_class_and_by_code() {
        let metrics = Arc::new(Metrics::new(1_000));
        let route = RouteMetrics::new(&metrics, "stock", "/v1/stock/{sku}");
        route.record(exchange(&Method::GET, 200));
        route.record(exchange(&Method::GET, 204));
        route.record(exchange(&Method::from_bytes(b"BREW").expect("a token"), 418));
        route.record(exchange(&Method::PUT, 799));

        let count = |method, class| {
            metrics.histogram(&HTTP_SERVER_REQUEST_DURATION, &["/v1/stock/{sku}", "stock", method, class]).snapshot().count()
        };
        assert_eq!((count("GET", "2xx"), count("_OTHER", "4xx"), count("PUT", "5xx")), (2, 1, 1));
        let code = |code| metrics.counter(&HTTP_RESPONSES, &["stock", code]).get();
        assert_eq!((code("200"), code("204"), code("418"), code("799")), (1, 1, 1, 1));
        assert_eq!(metrics.counter(&HTTP_REQUEST_BYTES, &["stock"]).get(), 40);
        assert_eq!(metrics.counter(&HTTP_RESPONSE_BYTES, &["stock"]).get(), 800);
    }

    #[test]
    fn more_codes_than_slots_are_counted_the_same() {
        let metrics = Arc::new(Metrics::new(10_000));
        let route = RouteMetrics::new(&metrics, "stock", "/");
        for _ in 0..2 {
            for code in 200..260 {
                route.record(exchange(&Method::GET, code));
            }
        }
        for code in 200..260 {
            assert_eq!(metrics.counter(&HTTP_RESPONSES, &["stock", &code.to_string()]).get(), 2, "{code}");
        }
    }

    #[test]
    fn handles_of_the_next_revision_count_on() {
        let metrics = Arc::new(Metrics::new(1_000));
        for _ in 0..3 {
            RouteMetrics::new(&metrics, "stock", "/").record(exchange(&Method::GET, 200));
            ServiceMetrics::new(&metrics, "inventory").retried(Retry::OverBudget);
            ListenerMetrics::new(&metrics, "main").refused(Refused::Resources);
            LimitMetrics::new(&metrics, "partner").shadow_deny.add(1);
            NodeMetrics::new(&metrics).rejected("E4290");
        }
        for (family, values) in [
            (&HTTP_RESPONSES, &["stock", "200"][..]),
            (&RETRIES, &["inventory", "over_budget"]),
            (&CONNECTIONS_REFUSED, &["main", "resources"]),
            (&RATELIMIT_DECISIONS, &["partner", "shadow_deny", "local_only"]),
            (&REJECTIONS, &["E4290"]),
        ] {
            assert_eq!(metrics.counter(family, values).get(), 3, "{}", family.name);
        }
    }

    #[test]
    fn reasons_are_where_their_counters_are() {
        for (index, reason) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.as_str());
        }
        for (index, reason) in Ended::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.as_str());
        }
    }

    #[test]
    fn only_one_configuration_is_told_of() {
        let metrics = Arc::new(Metrics::new(1_000));
        let node = NodeMetrics::new(&metrics);
        node.config("1", "a1f3c9");
        node.config("2", "b2e4d8");
        let page = metrics.render();
        assert!(page.contains("shoal_config_info{version=\"2\",hash=\"b2e4d8\"} 1\n") && !page.contains("a1f3c9"), "{page}");
    }
}
