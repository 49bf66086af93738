//! Every metric there is: its name, what kind it is, its unit, its labels and what it tells.
//!
//! `docs/metrics.md` is written from this table, and so are the `# HELP` lines. Names of HTTP are OpenTelemetry's,
//! mapped to Prometheus in the standard way; everything else begins with `shoal_`, or with `process_` where every
//! Prometheus client has the same.
//!
//! No label carries a caller, a key, a path or an address: the number of series is bounded by the configuration.

use self::{
    Kind::{Counter, Gauge},
    Noun::{Certificate, Limit, Listener, Route, Service},
    Values::{Closed, Derived, Named},
};
use crate::telemetry::histogram::{self, Bounds};

#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    pub labels: &'static [Label],
    help: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram(&'static Bounds),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// How many; the help says of what.
    Count,
    Bytes,
    /// Counters and histograms of seconds count nanoseconds and are divided when they are shown.
    Seconds,
}

#[derive(Debug)]
pub struct Label {
    pub name: &'static str,
    pub values: Values,
}

/// Where the values of a label come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Values {
    /// As many as the configuration has of the noun: beyond the cap on series they are counted under `_other`, and
    /// they are retired when the noun is gone.
    Named(Noun),
    /// Follows from another label of the same family, and goes where that goes.
    Derived,
    /// From a small set that no configuration can enlarge: always told apart.
    Closed,
}

/// What an operator names, as it appears in labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Noun {
    Route,
    Service,
    Limit,
    Listener,
    Certificate,
}

impl Family {
    pub fn help(&self) -> &'static str {
        self.help.trim_start()
    }
}

impl Kind {
    /// How many lines one series takes in the exposition, which is what the cap counts.
    pub fn weight(self) -> usize {
        match self {
            Self::Counter | Self::Gauge => 1,
            // The buckets, the one above them, the sum and the count.
            Self::Histogram(bounds) => bounds.len() + 3,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Counter => "counter",
            Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

macro_rules! families {
    ($($(#[doc = $help:literal])+ $constant:ident: $kind:expr, $unit:ident, $name:literal { $($label:ident: $values:expr),* };)*) => {
        $(
            $(#[doc = $help])+
            pub static $constant: Family = Family {
                name: $name,
                kind: $kind,
                unit: Unit::$unit,
                labels: &[$(Label { name: stringify!($label), values: $values }),*],
                help: concat!($($help),+),
            };
        )*

        /// All of them, in the order of the exposition.
        pub static FAMILIES: &[&Family] = &[$(&$constant),*];
    };
}

const REQUEST: Kind = Kind::Histogram(&histogram::REQUEST);
const OVERHEAD: Kind = Kind::Histogram(&histogram::OVERHEAD);

families! {
    /// Requests from the first byte of the head to the last byte of the answer, by route, method and status class.
    HTTP_SERVER_REQUEST_DURATION: REQUEST, Seconds, "http_server_request_duration_seconds" {
        http_route: Derived, shoal_route: Named(Route), http_request_method: Closed, http_response_status_class: Closed
    };
    /// Requests that are being answered right now.
    HTTP_SERVER_ACTIVE_REQUESTS: Gauge, Count, "http_server_active_requests" { shoal_listener: Named(Listener) };
    /// Answers by exact status code; the route is `_none` where no route matched.
    HTTP_RESPONSES: Counter, Count, "shoal_http_responses_total" { route: Named(Route), code: Closed };
    /// Bytes of request bodies. Stands for the histogram `http.server.request.body.size`, at a twentieth of its series.
    HTTP_REQUEST_BYTES: Counter, Bytes, "shoal_http_request_bytes_total" { route: Named(Route) };
    /// Bytes of answers' bodies. Stands for the histogram `http.server.response.body.size`, at a twentieth of its series.
    HTTP_RESPONSE_BYTES: Counter, Bytes, "shoal_http_response_bytes_total" { route: Named(Route) };
    /// What the node itself adds to a request: the time from its head to that of its answer, without what endpoints took.
    OVERHEAD_TIME: OVERHEAD, Seconds, "shoal_overhead_seconds" {};
    /// Answers that the node gave by itself instead of an endpoint, by error code.
    REJECTIONS: Counter, Count, "shoal_rejections_total" { code: Closed };

    /// Attempts at endpoints, from the request sent to the end of the answer, by service.
    HTTP_CLIENT_REQUEST_DURATION: REQUEST, Seconds, "http_client_request_duration_seconds" { shoal_service: Named(Service) };
    /// Connections to the endpoints of a service, busy and idle.
    HTTP_CLIENT_OPEN_CONNECTIONS: Gauge, Count, "http_client_open_connections" { shoal_service: Named(Service) };
    /// Requests that endpoints of a service are answering right now.
    HTTP_CLIENT_ACTIVE_REQUESTS: Gauge, Count, "http_client_active_requests" { shoal_service: Named(Service) };
    /// Attempts beyond the first: `success` and `failure` were made, `over_budget` was not allowed.
    RETRIES: Counter, Count, "shoal_retries_total" { service: Named(Service), result: Closed };
    /// Endpoints of a service by region and verdict; it exists with or without probes.
    UPSTREAM_ENDPOINTS: Gauge, Count, "shoal_upstream_endpoints" { service: Named(Service), region: Closed, state: Closed };
    /// Levels of a service in which health is ignored because too few endpoints are well and nobody can help.
    UPSTREAM_PANIC: Gauge, Count, "shoal_upstream_panic" { service: Named(Service) };
    /// Times that endpoints of a service were taken out because requests failed, by what led to it.
    UPSTREAM_EJECTIONS: Counter, Count, "shoal_upstream_ejections_total" { service: Named(Service), reason: Closed };
    /// Probes of the endpoints of a service, by result.
    UPSTREAM_PROBES: Counter, Count, "shoal_upstream_probes_total" { service: Named(Service), result: Closed };
    /// Endpoints of a service whose breaker is open, so that they are not asked at all.
    BREAKER_OPEN: Gauge, Count, "shoal_breaker_open" { service: Named(Service) };

    /// Decisions of limits. `shadow_deny` would have been refused if the limit were enforced; `local_only` was decided from this node's own counts.
    RATELIMIT_DECISIONS: Counter, Count, "shoal_ratelimit_decisions_total" { policy: Named(Limit), result: Closed, basis: Closed };

    /// Connections that are open on a listener.
    CONNECTIONS: Gauge, Count, "shoal_connections" { listener: Named(Listener) };
    /// Connections that were closed before their first request, by reason.
    CONNECTIONS_REFUSED: Counter, Count, "shoal_connections_refused_total" { listener: Named(Listener), reason: Closed };
    /// Connections that the node ended, or that ended in an error, once they were being served, by reason.
    CONNECTIONS_ENDED: Counter, Count, "shoal_connections_ended_total" { listener: Named(Listener), reason: Closed };
    /// When a certificate expires, in seconds since 1970.
    TLS_CERT_NOT_AFTER: Gauge, Seconds, "shoal_tls_cert_not_after_timestamp_seconds" { name: Named(Certificate) };

    /// Messages that wait in the mailboxes of all actors of a class.
    ACTOR_MAILBOX_DEPTH: Gauge, Count, "shoal_actor_mailbox_depth" { class: Closed };
    /// How full the fullest mailbox of a class is, from 0 to 1.
    ACTOR_MAILBOX_FILL: Gauge, Count, "shoal_actor_mailbox_fill_ratio" { class: Closed };
    /// Actors that were started again, by class and by how the life before ended: `panicked`, `failed`, `killed`, `escalated`, or without a failure.
    ACTOR_RESTARTS: Counter, Count, "shoal_actor_restarts_total" { class: Closed, reason: Closed };

    /// The configuration that is served, always 1.
    CONFIG_INFO: Gauge, Count, "shoal_config_info" { version: Closed, hash: Closed };
    /// Configurations that were offered: `applied` is served, `rejected` had errors and the last good one keeps serving.
    CONFIG_APPLY: Counter, Count, "shoal_config_apply_total" { result: Closed };

    /// Members of the cluster, this node among them, by whether they are heard of: `alive`, `gone` or `left`.
    CLUSTER_MEMBERS: Gauge, Count, "shoal_cluster_members" { seen: Closed };
    /// Regions of the cluster, this node's own among them, by whether any of their representatives is heard of: `yes` or `no`.
    CLUSTER_REGIONS: Gauge, Count, "shoal_cluster_regions" { reachable: Closed };
    /// Peers that this node has a link to, and peers that it should have one to and does not: `up` or `down`.
    CLUSTER_LINKS: Gauge, Count, "shoal_cluster_links" { state: Closed };
    /// Pairs of members of this node's region that are alive, of which one does not see the other.
    CLUSTER_VIEWS_DISAGREE: Gauge, Count, "shoal_cluster_views_disagree" {};
    /// Different configurations that members serve; more than one should not last.
    CLUSTER_CONFIGURATIONS: Gauge, Count, "shoal_cluster_configurations" {};
    /// How far the wall clock of the linked peer that is furthest off is from this node's.
    CLUSTER_CLOCK_OFFSET: Gauge, Seconds, "shoal_cluster_clock_offset_max_seconds" {};
    /// When the certificate that this node shows its peers expires, in seconds since 1970.
    CLUSTER_CERT_NOT_AFTER: Gauge, Seconds, "shoal_cluster_cert_not_after_timestamp_seconds" {};
    /// Certificates that took the place of the one before.
    CLUSTER_CERT_RENEWALS: Counter, Count, "shoal_cluster_certificate_renewals_total" {};
    /// Whether what the node should remember is not on its disk: 1 or 0.
    CLUSTER_MEMORY_TROUBLE: Gauge, Count, "shoal_cluster_memory_trouble" {};
    /// Frames on peer links, by kind and direction: `in` or `out`.
    CLUSTER_FRAMES: Counter, Count, "shoal_cluster_frames_total" { kind: Closed, direction: Closed };
    /// Bytes of these frames.
    CLUSTER_FRAME_BYTES: Counter, Bytes, "shoal_cluster_frame_bytes_total" { kind: Closed, direction: Closed };
    /// Links that there will not be, by reason and by who says so: `here` or `there`.
    CLUSTER_REFUSED: Counter, Count, "shoal_cluster_links_refused_total" { reason: Closed, by: Closed };
    /// What came from peers and was not taken, or was not sent to them, by why.
    CLUSTER_DROPPED: Counter, Count, "shoal_cluster_dropped_total" { why: Closed };

    /// What was not written because its buffer was full or its file could not be written, by signal.
    TELEMETRY_DROPPED: Counter, Count, "shoal_telemetry_dropped_total" { signal: Closed };
    /// Lines of series in this exposition, which `max_series` bounds.
    METRICS_SERIES: Gauge, Count, "shoal_metrics_series" {};
    /// Series that were asked for beyond `max_series` and are counted under `_other`.
    METRICS_SERIES_DROPPED: Counter, Count, "shoal_metrics_series_dropped_total" {};

    /// Memory that the process occupies.
    PROCESS_RESIDENT_MEMORY: Gauge, Bytes, "process_resident_memory_bytes" {};
    /// File descriptors that are open, sockets among them.
    PROCESS_OPEN_FDS: Gauge, Count, "process_open_fds" {};
    /// Processor time that was spent, by the program and for it by the kernel.
    PROCESS_CPU: Counter, Seconds, "process_cpu_seconds_total" {};
    /// When the node started, in seconds since 1970.
    PROCESS_START_TIME: Gauge, Seconds, "process_start_time_seconds" {};
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_follow_their_unit_and_kind() {
        let mut seen = BTreeSet::new();
        for family in FAMILIES {
            assert!(seen.insert(family.name), "{} is there twice", family.name);
            let stem = family.name.trim_end_matches("_total");
            assert_eq!(matches!(family.kind, Counter), stem != family.name, "{}: `_total` is for counters", family.name);
            match family.unit {
                Unit::Seconds => assert!(stem.ends_with("_seconds"), "{}", family.name),
                Unit::Bytes => assert!(stem.ends_with("_bytes"), "{}", family.name),
                Unit::Count => assert!(!stem.ends_with("_seconds") && !stem.ends_with("_bytes"), "{}", family.name),
            }
            assert!(family.help().ends_with('.') && !family.help().contains('\n'), "{}", family.name);
            let derived = family.labels.iter().any(|label| label.values == Derived);
            let named = family.labels.iter().any(|label| matches!(label.values, Named(_)));
            assert!(named || !derived, "{}: nothing to derive from", family.name);
        }
    }

    /// The manual page is this table.
    fn page() -> String {
        let mut page = String::from(
            "# Metrics\n\n\
             <!-- Written from node/src/telemetry/metrics/families.rs; UPDATE_DOCS=1 cargo test -p shoal the_metrics_page writes it anew. -->\n\n\
             `GET /metrics` on the admin listener answers in the Prometheus text format.\n\
             Durations are in seconds, sizes in bytes.\n\
             No label carries a caller, a key, a path or an address.\n\n\
             A node makes room for `max_series` lines (`[telemetry]`).\n\
             Beyond them, what belongs to a further route, service, limit, listener or certificate is counted under the label value `_other`;\n\
             methods, status classes, codes and results stay told apart, so that error ratios remain true.\n\
             When a route, service, limit, listener or certificate leaves the configuration, its series leave too.\n\n\
             | name | kind | unit | labels | tells |\n| --- | --- | --- | --- | --- |\n",
        );
        for family in FAMILIES {
            let labels: Vec<_> = family.labels.iter().map(|label| format!("`{}`", label.name)).collect();
            let unit = match family.unit {
                Unit::Count => "",
                Unit::Bytes => "bytes",
                Unit::Seconds => "seconds",
            };
            page += &format!(
                "| `{}` | {} | {unit} | {} | {} |\n",
                family.name,
                family.kind.name(),
                labels.join(", "),
                family.help().replace('|', "\\|")
            );
        }
        for (what, bounds) in [("of requests and attempts", &histogram::REQUEST), ("of `shoal_overhead_seconds`", &histogram::OVERHEAD)] {
            let bounds: Vec<_> = bounds.iter().map(|bound| (*bound as f64 / 1e9).to_string()).collect();
            page += &format!("\nBuckets {what}, in seconds: {}.\n", bounds.join(", "));
        }
        page
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the page is a file of the repository, and whoever runs the test says whether to write it"
    )]
    fn the_metrics_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).expect("the repository is writable");
            std::fs::write(path, page()).expect("the repository is writable");
        }
        let written = std::fs::read_to_string(path).expect("docs/metrics.md is part of the repository");
        assert!(written == page(), "docs/metrics.md is out of date: UPDATE_DOCS=1 cargo test -p shoal the_metrics_page");
    }
}
