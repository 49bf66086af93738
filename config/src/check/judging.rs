//! How endpoints are judged: what is wrong between the keys of `health`, `outlier` and `breaker`.

use crate::{
    BreakerPolicy, ErrorRatio, HealthPolicy, OutlierPolicy, ProbeKind, StatusRange,
    document::{Span, Spanned},
    file::{
        Reader,
        judging::{BreakerTable, HealthTable, OutlierTable, ProbeWord, Statuses},
    },
    problem::codes,
    written,
};
use std::{sync::Arc, time::Duration};

/// Nobody is out for longer without being tried again; what is published of an endpoint has no room for more.
const OUT_MAX: Duration = Duration::from_secs(3_600);

/// A service's endpoints are not asked more often by one node.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

pub(super) fn health(table: &Spanned<HealthTable>, r: &mut Reader<'_>) -> Option<HealthPolicy> {
    let at = table.at;
    let table = &table.value;
    if table.meta.sound(&["kind"]) {
        foreign_keys(table, r);
    }
    let probe = match table.kind.value {
        ProbeWord::Http => {
            if table.path.is_none() && table.meta.sound(&["kind", "path"]) && !r.documents.is_damaged(at) {
                let finding = r.found.error(codes::MISSING_KEY, at, "`path` is missing: a probe of kind `http` needs something to get");
                finding.help("add path = \"/healthz\", or kind = \"tcp\" where a connection says enough");
            }
            ProbeKind::Http {
                path: table.path.as_ref().map(|path| Arc::clone(&path.value.0))?,
                host: table.host.as_ref().map(|host| host.value.0.clone()),
                statuses: statuses(table, r),
                body: table.body.as_ref().map(|body| Arc::clone(&body.value)),
            }
        }
        ProbeWord::Tcp => ProbeKind::Tcp,
        ProbeWord::Grpc => {
            ProbeKind::Grpc { service: table.grpc_service.as_ref().map_or_else(|| "".into(), |name| Arc::clone(&name.value)) }
        }
    };
    if let Some(body) = table.body.as_ref().filter(|body| body.is_empty()) {
        r.found.error(codes::EMPTY, body.at, "`body` is empty, and every body contains nothing").help("take it away");
    }
    if table.interval.value < INTERVAL_MIN {
        let message = format!("`interval` is at least {}, not {}", written(INTERVAL_MIN), written(table.interval.value));
        r.found.error(codes::OUT_OF_RANGE, table.interval.at, message);
    } else if table.timeout.value > table.interval.value && table.meta.sound(&["timeout", "interval"]) {
        let (timeout, interval) = (written(table.timeout.value), written(table.interval.value));
        let message = format!("`timeout` ({timeout}) is longer than `interval` ({interval}), so that a probe would meet the next one");
        r.found.error(codes::CONTRADICTION, table.timeout.at, message).help("shorten `timeout`, or lengthen `interval`");
    }
    Some(HealthPolicy {
        probe,
        port: table.port.map(|port| port.get()),
        interval: table.interval.value,
        jitter: table.jitter.value,
        timeout: table.timeout.value,
        unhealthy: table.unhealthy.get(),
        healthy: table.healthy.get(),
    })
}

fn statuses(table: &HealthTable, r: &mut Reader<'_>) -> Vec<StatusRange> {
    let Some(written) = &table.statuses else { return vec![Statuses::OK] };
    if written.is_empty() && table.meta.sound(&["statuses"]) {
        r.found.error(codes::EMPTY, written.at, "no status passes, so that every endpoint fails").help("write statuses = [\"200-299\"]");
    }
    written.iter().map(|range| range.value.0).collect()
}

/// Reports keys that another kind of probe has: they would silently ask for nothing.
fn foreign_keys(table: &HealthTable, r: &mut Reader<'_>) {
    const HTTP: &str = "http";
    let keys: [(&str, Option<Span>, &str); 5] = [
        ("path", table.path.as_ref().map(|it| it.at), HTTP),
        ("host", table.host.as_ref().map(|it| it.at), HTTP),
        ("statuses", table.statuses.as_ref().map(|it| it.at), HTTP),
        ("body", table.body.as_ref().map(|it| it.at), HTTP),
        ("grpc_service", table.grpc_service.as_ref().map(|it| it.at), "grpc"),
    ];
    let kind = table.kind.value.word();
    for (key, at, of) in keys {
        if let Some(at) = at.filter(|_| of != kind) {
            let message = format!("`{key}` belongs to probes of kind `{of}`, and this one is `{kind}`");
            r.found.error(codes::EXCLUSIVE_KEYS, at, message).help(format!("take it away, or write kind = \"{of}\"")).also(table.kind.at);
        }
    }
}

/// Nothing where endpoints are not ejected, or the table has errors.
pub(super) fn outlier(table: &OutlierTable, r: &mut Reader<'_>) -> Option<OutlierPolicy> {
    let (base, max) = (&table.base_ejection_time, &table.max_ejection_time);
    if max.value > OUT_MAX {
        too_long("max_ejection_time", max, r);
    } else if base.value > max.value && table.meta.sound(&["base_ejection_time", "max_ejection_time"]) {
        let message = format!("`base_ejection_time` ({}) is longer than `max_ejection_time` ({})", written(base.value), written(max.value));
        r.found.error(codes::CONTRADICTION, base.at, message).help("make `max_ejection_time` the longer one");
    }
    let threshold = table.failure_percentage_threshold.as_ref();
    if let Some(zero) = threshold.filter(|threshold| threshold.value.0 == 0.0) {
        let message = "`failure_percentage_threshold` is more than 0%, or it would eject endpoints that never fail";
        r.found.error(codes::OUT_OF_RANGE, zero.at, message).help("take it away to turn it off");
    }
    table.enabled.value.then(|| OutlierPolicy {
        consecutive_5xx: table.consecutive_5xx.get(),
        consecutive_gateway_failure: table.consecutive_gateway_failure.get(),
        consecutive_local_origin_failure: table.consecutive_local_origin_failure.get(),
        interval: table.interval.value,
        base_ejection_time: base.value,
        max_ejection_time: max.value,
        max_ejection_time_jitter: table.max_ejection_time_jitter.value,
        max_ejection_percent: table.max_ejection_percent.value,
        min_healthy: table.min_healthy.get(),
        success_rate_minimum_hosts: table.success_rate_minimum_hosts.get(),
        success_rate_request_volume: table.success_rate_request_volume.get(),
        success_rate_stdev_factor: table.success_rate_stdev_factor.get(),
        failure_percentage_threshold: threshold.map(|threshold| threshold.value),
        failure_percentage_minimum_hosts: table.failure_percentage_minimum_hosts.get(),
        failure_percentage_request_volume: table.failure_percentage_request_volume.get(),
        successful_active_health_check_uneject_host: table.successful_active_health_check_uneject_host.value,
    })
}

pub(super) fn breaker(table: &BreakerTable, r: &mut Reader<'_>) -> BreakerPolicy {
    let (open, max) = (&table.open, &table.open_max);
    if max.value > OUT_MAX {
        too_long("open_max", max, r);
    } else if open.value > max.value && table.meta.sound(&["open", "open_max"]) {
        let message = format!("`open` ({}) is longer than `open_max` ({})", written(open.value), written(max.value));
        r.found.error(codes::CONTRADICTION, open.at, message).help("make `open_max` the longer one");
    }
    if let Some(zero) = table.error_ratio.as_ref().filter(|ratio| ratio.value.0 == 0.0) {
        let message = "`error_ratio` is more than 0%, or the breaker would open without an error";
        r.found.error(codes::OUT_OF_RANGE, zero.at, message).help("take it away to turn the breaker off");
    }
    if table.window.value > OUT_MAX {
        too_long("window", &table.window, r);
    }
    BreakerPolicy {
        max_requests: table.max_requests.map(|most| most.get()),
        max_requests_per_endpoint: table.max_requests_per_endpoint.map(|most| most.get()),
        max_waiting: table.max_waiting.get(),
        errors: table.error_ratio.as_ref().map(|ratio| ErrorRatio {
            ratio: ratio.value,
            window: table.window.value,
            min_requests: table.min_requests.get(),
            open: open.value,
            open_max: max.value,
        }),
        half_open: table.half_open.get(),
    }
}

fn too_long(key: &str, value: &Spanned<Duration>, r: &mut Reader<'_>) {
    let message = format!("`{key}` is at most {}, not {}", written(OUT_MAX), written(value.value));
    r.found.error(codes::OUT_OF_RANGE, value.at, message);
}
