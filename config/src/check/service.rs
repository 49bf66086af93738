//! Services: their endpoints, and how these are spoken to.

use super::{discovery, judging, place};
use crate::{
    Balance, ClientIdentity, Deadlines, DiscoveryPolicy, Endpoint, EndpointTls, HostHeader, PoolPolicy, Protocol, RetryPolicy, Service,
    ServiceName, SlowStart, SpreadPolicy,
    document::{Span, Spanned},
    file::{
        PoolTable, Reader, RetryTable, ServiceTable, ServiceTlsTable,
        choice::BalanceChoice,
        endpoint::{EndpointChoice, EndpointScheme, HostChoice},
    },
    problem::codes,
};
use std::{sync::Arc, time::Duration};

pub(super) fn service(name: &Arc<str>, table: Spanned<ServiceTable>, r: &mut Reader<'_>) -> Option<Service> {
    let at = table.at;
    let table = table.value;
    let errors = r.found.errors();
    let sources = discovery::sources(name, &table, r);
    if let Some(endpoints) = table.endpoints.as_ref().filter(|_| table.meta.sound(&["endpoints"])) {
        check_endpoints(name, &endpoints.value, endpoints.at, r);
    }
    let protocol = protocol(&table, r);
    let tls = table.tls.as_ref().map(|tls| (&tls.value, tls.at));
    if let (Some((_, at)), Some((endpoints, discovery))) = (tls, &sources)
        && table.meta.sound(&["endpoints", "discovery"])
        && !endpoints.iter().any(|endpoint| endpoint.tls)
        && !discovery.srv.as_ref().is_some_and(|srv| srv.tls)
    {
        let finding = r.found.warning(codes::NO_EFFECT, at, format!("no endpoint of service `{name}` is reached over TLS"));
        finding.help("write its endpoints as https://…, or take `tls` away");
    }
    let tls = match tls {
        Some((tls, at)) => endpoint_tls(tls, at, r),
        None => Some(EndpointTls { ca: None, identity: None, server_name: None }),
    };
    let retry = retry(&table.retry);
    backoff(&retry, table.retry.backoff_min.at, table.retry.meta.sound(&["backoff_min", "backoff_max"]), r);
    let pool = pool(&table.pool, r);
    let spread = spread(&table);
    let (endpoints, discovery): (Vec<Endpoint>, DiscoveryPolicy) = sources?;
    let health = table.health.as_ref().and_then(|health| judging::health(health, r));
    let outlier = judging::outlier(&table.outlier, r);
    let breaker = judging::breaker(&table.breaker, r);
    let service = Service {
        name: ServiceName::new(Arc::clone(name)),
        endpoints,
        discovery,
        balance: match table.balance.value {
            BalanceChoice::PeakEwma => Balance::PeakEwma,
            BalanceChoice::RoundRobin => Balance::RoundRobin,
            BalanceChoice::LeastRequests => Balance::LeastRequests,
            BalanceChoice::Hash(hash) => Balance::Hash { key: hash.hash?.value, bound: hash.bound.0 },
        },
        spread,
        protocol,
        tls: tls?,
        host: match table.host.value {
            HostChoice::Keep => HostHeader::Keep,
            HostChoice::Endpoint => HostHeader::Endpoint,
            HostChoice::Name(name) => HostHeader::Name(name),
        },
        deadlines: Deadlines {
            total: table.deadlines.total.and_then(|total| total.0),
            connect: table.deadlines.connect.value,
            first_byte: table.deadlines.first_byte.value,
            idle: table.deadlines.idle.value,
        },
        retry,
        pool,
        health,
        outlier,
        breaker,
        place: place(at, r),
    };
    (r.found.errors() == errors).then_some(service)
}

fn check_endpoints(name: &str, endpoints: &[Spanned<EndpointChoice>], at: Span, r: &mut Reader<'_>) {
    if endpoints.is_empty() {
        r.found.error(codes::EMPTY, at, "a service needs an endpoint").help("write endpoints = [\"http://127.0.0.1:3000\"]");
    } else if endpoints.iter().all(|endpoint| endpoint.weight == 0) {
        r.found.error(codes::NO_WEIGHT, at, "all endpoints have the weight 0").help("give one of them a weight");
    } else if endpoints.iter().all(|endpoint| endpoint.drain || endpoint.weight == 0) {
        let finding =
            r.found.warning(codes::NO_EFFECT, at, format!("all endpoints of service `{name}` drain, so requests still go to them"));
        finding.help("leave one of them in, or take the service away");
    }
    let places = endpoints.iter().flat_map(|endpoint| [&endpoint.region, &endpoint.zone]).flatten();
    for empty in places.filter(|place| place.is_empty()) {
        r.found.error(codes::EMPTY, empty.at, "a place without a name").help("leave it out where it is the node's own");
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let same = |earlier: &&Spanned<EndpointChoice>| (&earlier.url.host, earlier.url.port) == (&endpoint.url.host, endpoint.url.port);
        if let Some(earlier) = endpoints[..index].iter().find(same) {
            let finding = r.found.error(codes::DUPLICATE_NAME, endpoint.at, "this endpoint is listed twice");
            finding.help("give it a weight instead: { url = \"…\", weight = 2 }").also(earlier.at);
        }
    }
}

/// `h2c://` says what is spoken, and says it for all endpoints.
fn protocol(table: &ServiceTable, r: &mut Reader<'_>) -> Protocol {
    let scheme = table.discovery.as_ref().and_then(|discovery| discovery.scheme.as_ref());
    if let Some(scheme) = scheme.filter(|scheme| scheme.value == EndpointScheme::H2c) {
        if table.protocol.value == Protocol::H1 {
            let finding = r.found.error(codes::MIXED_PROTOCOLS, scheme.at, "`h2c` is HTTP/2, and the service's protocol is `h1`");
            finding.help("write scheme = \"http\", or take `protocol` away").also(table.protocol.at);
        }
        return Protocol::H2;
    }
    let endpoints = table.endpoints.as_ref().map(|endpoints| &endpoints.value[..]).unwrap_or_default();
    let h2c = |endpoint: &&Spanned<EndpointChoice>| endpoint.url.scheme == EndpointScheme::H2c;
    let Some(first) = endpoints.iter().find(h2c) else { return table.protocol.value };
    let other = endpoints.iter().find(|endpoint| !h2c(endpoint)).filter(|_| table.protocol.value != Protocol::H2);
    if table.protocol.value == Protocol::H1 {
        let finding = r.found.error(codes::MIXED_PROTOCOLS, first.at, "`h2c://` is HTTP/2, and the service's protocol is `h1`");
        finding.help("write http://…, or take `protocol` away").also(table.protocol.at);
    } else if let Some(other) = other.filter(|_| table.meta.sound(&["endpoints", "protocol"])) {
        let finding = r.found.error(codes::MIXED_PROTOCOLS, other.at, "the endpoints of a service speak the same protocol");
        finding.help("write h2c://… for all of them, or set protocol = \"h2\"").also(first.at);
    }
    Protocol::H2
}

fn endpoint_tls(table: &ServiceTlsTable, at: Span, r: &mut Reader<'_>) -> Option<EndpointTls> {
    let identity = match (&table.cert, &table.key) {
        (Some(cert), Some(key)) => Some(ClientIdentity { cert: cert.value.0.clone(), key: key.value.0.clone() }),
        (None, None) => None,
        _ => {
            if table.meta.sound(&["cert", "key"]) && !r.documents.is_damaged(at) {
                let finding = r.found.error(codes::EXCLUSIVE_KEYS, at, "a client certificate needs both `cert` and `key`");
                finding.help("add the one that is missing");
            }
            return None;
        }
    };
    let server_name = table.server_name.as_ref().map(|name| Arc::clone(&name.value.0));
    Some(EndpointTls { ca: table.ca.as_ref().map(|file| file.value.0.clone()), identity, server_name })
}

fn spread(table: &ServiceTable) -> SpreadPolicy {
    SpreadPolicy {
        panic_threshold: table.panic_threshold.value,
        slow_start: SlowStart { window: table.slow_start.window.0, weight_min: table.slow_start.weight_min.value },
        spill: table.locality.spill.0,
        hysteresis: table.locality.hysteresis.0,
    }
}

fn pool(table: &PoolTable, r: &mut Reader<'_>) -> PoolPolicy {
    let max_connections = table.max_connections.get();
    let pool = PoolPolicy {
        max_connections,
        max_idle: table.max_idle.get::<usize>().min(max_connections),
        warm: table.warm.get(),
        idle: table.idle.value,
        age_max: table.age_max.value,
        drain: table.drain.0,
    };
    if pool.warm > pool.max_idle && table.meta.sound(&["warm", "max_idle", "max_connections"]) {
        let message = format!("`warm` ({}) is more than may be idle ({})", pool.warm, pool.max_idle);
        r.found.error(codes::CONTRADICTION, table.warm.at, message).help("raise `max_idle` and `max_connections`, or lower `warm`");
    }
    pool
}

fn retry(table: &RetryTable) -> RetryPolicy {
    RetryPolicy {
        max: table.max.get(),
        statuses: table.statuses.iter().map(|status| status.get()).collect(),
        budget: table.budget.value,
        budget_min: table.budget_min.get(),
        backoff_min: table.backoff_min.0,
        backoff_max: table.backoff_max.0,
    }
}

/// Reports a backoff whose bounds are the wrong way round.
pub(super) fn backoff(retry: &RetryPolicy, at: Span, sound: bool, r: &mut Reader<'_>) {
    if sound && retry.backoff_min > retry.backoff_max {
        let shown = |duration: Duration| crate::written(duration);
        let message = format!("`backoff_min` ({}) is longer than `backoff_max` ({})", shown(retry.backoff_min), shown(retry.backoff_max));
        r.found.error(codes::CONTRADICTION, at, message).help("make `backoff_max` the longer one");
    }
}
