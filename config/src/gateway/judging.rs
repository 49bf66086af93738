//! How endpoints are judged: by probes, by what happens to requests, and by how much is in flight.

use super::{as_written, header_value};
use crate::Ratio;
use http::HeaderValue;
use serde::{Serialize, Serializer};
use std::{sync::Arc, time::Duration};

/// Probes of the endpoints of a service.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct HealthPolicy {
    pub probe: ProbeKind,
    /// Where probes go; the endpoint's own port where absent.
    pub port: Option<u16>,
    /// Between two probes of one endpoint by one node, before jitter, and before the number of nodes stretches it.
    #[serde(serialize_with = "as_written")]
    pub interval: Duration,
    /// By how much of itself an interval may be longer or shorter.
    pub jitter: Ratio,
    /// From the beginning of a probe to its outcome, connecting included. Never more than `interval`.
    #[serde(serialize_with = "as_written")]
    pub timeout: Duration,
    /// Failed probes in a row that make an endpoint unhealthy.
    pub unhealthy: u32,
    /// Passed probes in a row that make it healthy again.
    pub healthy: u32,
}

/// What a probe asks, and what it has to be told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// A GET over the service's own protocol and TLS.
    Http {
        path: Arc<str>,
        /// What `Host` says; the endpoint's own authority where absent.
        #[serde(serialize_with = "header_value_or_none")]
        host: Option<HeaderValue>,
        /// Never empty.
        statuses: Vec<StatusRange>,
        /// What the beginning of the body has to contain.
        body: Option<Arc<str>>,
    },
    /// A connection that stands, TLS included.
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The name that is asked for; empty for the endpoint as a whole.
        service: Arc<str>,
    },
}

/// Statuses of HTTP, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatusRange {
    pub first: u16,
    pub last: u16,
}

impl StatusRange {
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last { s.serialize_u16(self.first) } else { s.collect_str(&format_args!("{}-{}", self.first, self.last)) }
    }
}

/// Passive detection: an endpoint that fails requests is ejected for a while. The names are those of Envoy's `OutlierDetection`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct OutlierPolicy {
    /// Answers of 500 to 599 and failures on the way to the endpoint, in a row; 0 is off.
    pub consecutive_5xx: u32,
    /// Answers of 502, 503 and 504 and failures on the way, in a row; 0 is off.
    pub consecutive_gateway_failure: u32,
    /// Failures on the way alone, in a row: not connected, not answered in time, broken off; 0 is off.
    pub consecutive_local_origin_failure: u32,
    /// How often success rates are compared, and how long it takes to forgive one ejection.
    #[serde(serialize_with = "as_written")]
    pub interval: Duration,
    /// The first ejection's length; the second in a row is twice as long, the third three times.
    #[serde(serialize_with = "as_written")]
    pub base_ejection_time: Duration,
    #[serde(serialize_with = "as_written")]
    pub max_ejection_time: Duration,
    /// By how much of itself an ejection may be longer.
    pub max_ejection_time_jitter: Ratio,
    /// Of a service's endpoints, how many may be out at the same time.
    pub max_ejection_percent: Ratio,
    /// Endpoints that stay in whatever their requests say.
    pub min_healthy: u32,
    /// Endpoints with enough requests in an interval that it takes to compare success rates.
    pub success_rate_minimum_hosts: u32,
    pub success_rate_request_volume: u32,
    /// How many standard deviations below the mean are too many, in thousandths.
    pub success_rate_stdev_factor: u32,
    /// Share of requests that must fail in an interval; `None` is off.
    pub failure_percentage_threshold: Option<Ratio>,
    pub failure_percentage_minimum_hosts: u32,
    pub failure_percentage_request_volume: u32,
    /// Whether probes that pass end an ejection early.
    pub successful_active_health_check_uneject_host: bool,
}

/// How much a service may have in flight, and when an endpoint is not asked at all.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct BreakerPolicy {
    /// Requests in flight to all endpoints; `None` is unbounded.
    pub max_requests: Option<u32>,
    /// Requests in flight to one endpoint; `None` is unbounded.
    pub max_requests_per_endpoint: Option<u32>,
    /// Requests of the service that wait for a connection.
    pub max_waiting: u32,
    /// `None` leaves it at caps.
    pub errors: Option<ErrorRatio>,
    /// Requests that an endpoint must answer well before it gets all of its share again, after an ejection too. At least 1.
    pub half_open: u32,
}

/// When an endpoint's breaker opens, and for how long.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ErrorRatio {
    /// Share of requests that fail. Never zero.
    pub ratio: Ratio,
    #[serde(serialize_with = "as_written")]
    pub window: Duration,
    /// Requests in the window before the ratio counts.
    pub min_requests: u32,
    /// The first time; each further one in a row is twice as long.
    #[serde(serialize_with = "as_written")]
    pub open: Duration,
    #[serde(serialize_with = "as_written")]
    pub open_max: Duration,
}

fn header_value_or_none<S: Serializer>(value: &Option<HeaderValue>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => header_value(value, s),
        None => s.serialize_none(),
    }
}
