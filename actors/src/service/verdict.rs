//! What is concluded of an endpoint, in the words in which it is shown.
//!
//! All of it is read from what is published: whoever asks gets an answer, also while the actor that judges is dead or busy.

use super::{
    breaker::Breaker,
    load::{Load, Tally},
};
use serde::{Serialize, Serializer};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// Whether an endpoint gets requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Healthy,
    /// Its time out is over, and a few requests try it.
    HalfOpen,
    /// It failed requests, and others are preferred for a time.
    Ejected,
    /// It failed so large a share of its requests that it is not asked at all for a time.
    Open,
    /// It failed probes.
    Unhealthy,
    /// The configuration or an operator wants it to get no more requests.
    Draining,
}

impl Verdict {
    pub const ALL: [Self; 6] = [Self::Healthy, Self::HalfOpen, Self::Ejected, Self::Open, Self::Unhealthy, Self::Draining];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::HalfOpen => "half_open",
            Self::Ejected => "ejected",
            Self::Open => "open",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
        }
    }
}

/// What led to a verdict. Ejections have the names of Envoy's detectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Why {
    #[serde(rename = "consecutive_5xx")]
    Consecutive5xx = 1,
    ConsecutiveGatewayFailure,
    ConsecutiveLocalOriginFailure,
    SuccessRate,
    FailurePercentage,
    ErrorRatio,
    Probes,
    /// The configuration takes it out of service.
    Drain,
    /// An operator does, for as long as nobody takes it back.
    DrainByHand,
}

impl Why {
    pub(super) const ALL: [Self; 9] = [
        Self::Consecutive5xx,
        Self::ConsecutiveGatewayFailure,
        Self::ConsecutiveLocalOriginFailure,
        Self::SuccessRate,
        Self::FailurePercentage,
        Self::ErrorRatio,
        Self::Probes,
        Self::Drain,
        Self::DrainByHand,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGatewayFailure => "consecutive_gateway_failure",
            Self::ConsecutiveLocalOriginFailure => "consecutive_local_origin_failure",
            Self::SuccessRate => "success_rate",
            Self::FailurePercentage => "failure_percentage",
            Self::ErrorRatio => "error_ratio",
            Self::Probes => "probes",
            Self::Drain => "drain",
            Self::DrainByHand => "drain_by_hand",
        }
    }

    /// Whether it is failed requests that led to it.
    pub fn is_ejection(self) -> bool {
        !matches!(self, Self::Probes | Self::Drain | Self::DrainByHand)
    }

    /// The one with this number, as it stands in a word.
    pub(super) fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|why| *why as u32 == number)
    }
}

/// How an endpoint failed a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// It answered with a status of 500 or above.
    Status(u16),
    /// No connection came about: no address, refused, not in time, or no TLS.
    Connect,
    /// It did not answer in time.
    Timeout,
    /// It broke off, or what it said is no answer.
    Reset,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "answered {status}"),
            Self::Connect => f.write_str("not connected"),
            Self::Timeout => f.write_str("not answered in time"),
            Self::Reset => f.write_str("broken off"),
        }
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// A failure as a number that is zero if there was none.
#[derive(Clone, Copy)]
pub(super) struct Failed(pub(super) u32);

impl Failed {
    pub(super) fn of(failure: Failure) -> Self {
        Self(match failure {
            Failure::Connect => 1,
            Failure::Timeout => 2,
            Failure::Reset => 3,
            Failure::Status(status) => 1 << 16 | u32::from(status),
        })
    }

    pub(super) fn failure(self) -> Option<Failure> {
        match self.0 {
            0 => None,
            1 => Some(Failure::Connect),
            2 => Some(Failure::Timeout),
            3 => Some(Failure::Reset),
            status => Some(Failure::Status(status as u16)),
        }
    }
}

/// Everything that is concluded of the endpoints of a service, in the order of their names.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Verdicts {
    /// How many of those that stay are out, for whatever reason, and how many requests alone may put out.
    pub out: u32,
    pub out_max: u32,
    pub endpoints: Vec<Judged>,
}

/// What is concluded of one endpoint. Times are ages: a node's monotonic clock means nothing elsewhere.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Judged {
    pub endpoint: Arc<str>,
    pub verdict: Verdict,
    /// For how long; absent if it never was another.
    #[serde(rename = "for_ms", serialize_with = "millis", skip_serializing_if = "Option::is_none")]
    pub unchanged_for: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// When it will be tried again.
    #[serde(rename = "tried_in_ms", serialize_with = "millis", skip_serializing_if = "Option::is_none")]
    pub out_for: Option<Duration>,
    /// How often it was out in a row.
    pub times_out: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// What its last failed probe said, where it is probed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_probe_error: Option<LastError>,
    pub in_flight: u32,
    pub requests: Tally,
}

/// A failure and its age.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LastError {
    pub what: Arc<str>,
    #[serde(rename = "age_ms", serialize_with = "age")]
    pub age: Duration,
}

impl Verdicts {
    /// Reads what is published of a service.
    pub fn read<'a>(breaker: &Breaker, endpoints: impl IntoIterator<Item = (&'a Arc<str>, &'a Load)>, now: Instant) -> Self {
        let mut endpoints: Vec<Judged> = endpoints.into_iter().map(|(endpoint, load)| Judged::read(endpoint, load, now)).collect();
        endpoints.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        Self { out: breaker.out(), out_max: breaker.out_max(), endpoints }
    }

    /// What is concluded of the endpoint of that name.
    pub fn of(&self, endpoint: &str) -> Option<&Judged> {
        self.endpoints.binary_search_by(|judged| (*judged.endpoint).cmp(endpoint)).ok().map(|at| &self.endpoints[at])
    }
}

impl Judged {
    fn read(endpoint: &Arc<str>, load: &Load, now: Instant) -> Self {
        let error = |(failure, age): (Failure, Duration)| LastError { what: failure.to_string().into(), age };
        Self {
            endpoint: endpoint.clone(),
            verdict: load.verdict(now),
            unchanged_for: load.unchanged_for(now),
            why: load.why(),
            out_for: load.out_for(now),
            times_out: load.times_out(now),
            last_error: load.last_failure(now).map(error),
            last_probe_error: None,
            in_flight: load.in_flight(),
            requests: load.tally(),
        }
    }
}

fn millis<S: Serializer>(duration: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => age(duration, s),
        None => s.serialize_none(),
    }
}

fn age<S: Serializer>(duration: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(duration.as_millis() as u64)
}

#[cfg(test)]
mod tests;
