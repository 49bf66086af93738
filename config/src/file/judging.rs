//! What may be written about how endpoints are judged: `health`, `outlier` and `breaker` of a service.

use super::{
    endpoint::is_authority,
    quantity::Whole,
    reader::{Node, Read, Reader, Words},
    section::section,
    shape::{Shape, Text},
    value::List,
};
use crate::{Ratio, StatusRange, problem::codes};
use http::HeaderValue;
use std::{sync::Arc, time::Duration};
use toml::de::DeValue;

const COUNT: i64 = u32::MAX as i64;

section! {
    /// Asking endpoints how they are. Each node asks on its own and believes what it sees itself.
    HealthTable {
        /// What is asked: a GET, whether a connection stands, or `grpc.health.v1`.
        kind: ProbeWord = "http",
        /// What is got, for `http`. It should fail when the endpoint cannot work, and not when something behind it cannot, or all endpoints fail at once.
        path: ProbePath,
        /// The `Host` of the request, for `http`; the endpoint's own where absent.
        host: ProbeHost,
        /// Statuses that pass, for `http`: numbers and ranges like `"200-299"`, which is what passes where absent.
        statuses: List<Statuses>,
        /// What the first 64 KiB of the body must contain, for `http`.
        body: Words,
        /// The service's name that is asked for, for `grpc`; the endpoint as a whole where absent.
        grpc_service: Words,
        /// The port that is asked, where it is not the endpoint's own.
        port: Whole<1, 65_535>,
        /// Time between two probes. In a cluster it is stretched by the number of nodes, up to ten times, except while a probe disagrees with what
        /// was believed. Too short burdens the endpoint, too long finds out late.
        interval: Duration = "5s",
        /// By how much of itself each interval may be longer or shorter, so that nodes do not ask in step.
        jitter: Ratio = "10%",
        /// How long a probe may take. Too short mistakes a busy endpoint for a dead one.
        timeout: Duration = "1s",
        /// Failed probes in a row before an endpoint counts as unhealthy. 1 believes a single lost packet.
        unhealthy: Whole<1, 100> = 3,
        /// Passed probes in a row before it counts as healthy again. An endpoint that goes to and fro needs more of them each time.
        healthy: Whole<1, 100> = 2,
    }
}

section! {
    /// Ejecting endpoints whose requests fail. Names and meanings are those of Envoy's outlier detection.
    OutlierTable {
        /// Whether endpoints are ejected at all.
        enabled: bool = true,
        /// Answers of 5xx in a row, failures on the way included, that eject an endpoint; 0 turns it off.
        consecutive_5xx: Whole<0, 10_000> = 5,
        /// Answers of 502, 503 and 504 in a row, failures on the way included; 0 turns it off.
        consecutive_gateway_failure: Whole<0, 10_000> = 5,
        /// Failures on the way in a row: no connection, no answer in time, an answer broken off; 0 turns it off.
        consecutive_local_origin_failure: Whole<0, 10_000> = 5,
        /// How often success rates are compared. An ejection is forgotten after as long without another one.
        interval: Duration = "10s",
        /// How long an endpoint is out for the first time; twice as long for the second time in a row, and so on. Then a few requests try it
        /// (`breaker.half_open`). Too long leaves the others with its work after it has recovered.
        base_ejection_time: Duration = "5s",
        /// The longest ejection.
        max_ejection_time: Duration = "300s",
        /// By how much of itself an ejection may be longer, so that nodes do not come back in step.
        max_ejection_time_jitter: Ratio = "10%",
        /// How many of a service's endpoints may be out at once, unhealthy ones counted, rounded down. More than `panic_threshold` leaves has no effect.
        max_ejection_percent: Ratio = "50%",
        /// So many endpoints stay in, however their requests fare. Only an endpoint that cannot even be connected to may go beyond it.
        min_healthy: Whole<0, { COUNT }> = 1,
        /// Endpoints with enough requests that it takes to compare success rates. Among five none can be more than 1.79 standard deviations off.
        success_rate_minimum_hosts: Whole<2, { COUNT }> = 5,
        /// Requests in an interval that make an endpoint's success rate count.
        success_rate_request_volume: Whole<1, { COUNT }> = 100,
        /// How many standard deviations below the mean eject, in thousandths; less than five percentage points below it never do. 0 turns it off.
        success_rate_stdev_factor: Whole<0, 100_000> = 1900,
        /// Share of requests that must fail in an interval to eject, whatever the other endpoints do; off where absent.
        failure_percentage_threshold: Ratio,
        /// Endpoints with enough requests that it takes for that.
        failure_percentage_minimum_hosts: Whole<1, { COUNT }> = 5,
        /// Requests in an interval that make an endpoint's share count.
        failure_percentage_request_volume: Whole<1, { COUNT }> = 50,
        /// Whether probes that pass end an ejection early: as many in a row as `health.healthy`, times the ejections in a row.
        successful_active_health_check_uneject_host: bool = true,
    }
}

section! {
    /// Bounds of what a service carries, and a breaker for each endpoint.
    BreakerTable {
        /// Requests in flight to all endpoints together; beyond it the answer is 503. Unbounded where absent.
        max_requests: Whole<1, { COUNT }>,
        /// Requests in flight to one endpoint; beyond it others are asked. Unbounded where absent.
        max_requests_per_endpoint: Whole<1, { COUNT }>,
        /// Requests that may wait for a connection; beyond it the answer is 503 at once. There is waiting only where `pool.max_connections` are busy.
        max_waiting: Whole<0, { COUNT }> = 1024,
        /// Share of failed requests that opens an endpoint's breaker, so that it is not asked at all, not even if all endpoints' are open. Off where absent.
        error_ratio: Ratio,
        /// The span over which the share is counted. Too short forgets, too long remembers what is over.
        window: Duration = "10s",
        /// Requests in a window before the share counts. Too few, and chance opens it.
        min_requests: Whole<1, 1_000_000> = 20,
        /// How long a breaker is open for the first time; each further time in a row is twice as long.
        open: Duration = "5s",
        /// The longest.
        open_max: Duration = "60s",
        /// Requests that are let through to an endpoint when its time is up, after an ejection too. When all have been answered well it is
        /// back; the first that fails sends it away for longer.
        half_open: Whole<1, 32> = 3,
    }
}

/// What kind of question a probe is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProbeWord {
    Http,
    Tcp,
    Grpc,
}

impl ProbeWord {
    pub(crate) const WORDS: &[&str] = &["http", "tcp", "grpc"];

    pub(crate) fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

impl Read for ProbeWord {
    fn shape() -> Shape {
        Shape::Words(Self::WORDS)
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        match r.text(node, &Self::shape())? {
            "http" => Some(Self::Http),
            "tcp" => Some(Self::Tcp),
            "grpc" => Some(Self::Grpc),
            text => super::value::unknown_word(text, Self::WORDS, node.at, r),
        }
    }
}

/// A path, perhaps with a query, as it stands in a request.
#[derive(Clone, Debug)]
pub(crate) struct ProbePath(pub(crate) Arc<str>);

impl Read for ProbePath {
    fn shape() -> Shape {
        Shape::Text(Text { what: "a path", example: "/healthz", pattern: Some("^/[^ #]*$") })
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        // hyper would drop a fragment without a word.
        if !text.starts_with('/') || text.contains('#') || text.parse::<http::uri::PathAndQuery>().is_err() {
            let message = format!("`{text}` is no path that can be asked for");
            r.found.error(codes::BAD_TEXT, node.at, message).help("a path begins with a slash, and may have a query: \"/healthz?deep=no\"");
            return None;
        }
        Some(Self(text.into()))
    }
}

/// A host, perhaps with a port.
#[derive(Clone, Debug)]
pub(crate) struct ProbeHost(pub(crate) HeaderValue);

impl Read for ProbeHost {
    fn shape() -> Shape {
        Shape::text("a host", "shop.example.com")
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let text = r.text(node, &Self::shape())?;
        let host = HeaderValue::from_str(text).ok().filter(|_| is_authority(text));
        if host.is_none() {
            r.found.error(codes::BAD_HOST, node.at, format!("`{text}` is no host")).help("write a name such as \"shop.example.com\"");
        }
        host.map(Self)
    }
}

/// A status, or a range of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statuses(pub(crate) StatusRange);

impl Statuses {
    pub(crate) const OK: StatusRange = StatusRange { first: 200, last: 299 };

    fn parse(text: &str) -> Option<StatusRange> {
        let (first, last) = text.split_once('-')?;
        let number = |text: &str| text.parse().ok().filter(|_| text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit()));
        let (first, last) = (number(first)?, number(last)?);
        ((100..=last).contains(&first) && last <= 599).then_some(StatusRange { first, last })
    }
}

impl Read for Statuses {
    fn shape() -> Shape {
        let range = Text { what: "a range of statuses", example: "200-299", pattern: Some("^[1-5][0-9]{2}-[1-5][0-9]{2}$") };
        Shape::Any(vec![Whole::<100, 599>::shape(), Shape::Text(range)])
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            DeValue::Integer(_) => {
                let status = Whole::<100, 599>::read(node, r)?.get();
                Some(Self(StatusRange { first: status, last: status }))
            }
            DeValue::String(text) => {
                let range = Self::parse(text);
                if range.is_none() {
                    let finding = r.found.error(codes::BAD_STATUS, node.at, format!("`{text}` is no range of statuses"));
                    finding.help("write the first and the last one, as in \"200-299\", or a number");
                }
                range.map(Self)
            }
            _ => r.wrong_type(node, &Self::shape()),
        }
    }
}
