//! Where the endpoints of a service are found: written out, or behind a name.

use crate::{
    DiscoveryPolicy, Endpoint, SrvLookup,
    document::{Span, Spanned},
    file::{
        DiscoveryTable, Reader, ServiceTable,
        endpoint::{EndpointChoice, EndpointScheme},
        value::LookupKind,
    },
    problem::codes,
    written,
};
use std::sync::Arc;

/// Returns the endpoints that can be named before anything is asked, and how names are looked up. A name whose addresses
/// are the endpoints is itself an endpoint, like any other that is written with a name.
pub(super) fn sources(service: &str, table: &ServiceTable, r: &mut Reader<'_>) -> Option<(Vec<Endpoint>, DiscoveryPolicy)> {
    let endpoints = table.endpoints.as_ref().map(|written| written.value.iter().map(endpoint).collect::<Vec<_>>());
    let Some(discovery) = &table.discovery else {
        // It may be misspelt, or have been part of what could not be parsed: either has been said already.
        if endpoints.is_none() && table.meta.sound(&["endpoints", "discovery"]) && !r.documents.is_damaged(table.meta.at) {
            let message = format!("service `{service}` says nowhere where its endpoints are");
            r.found
                .error(codes::MISSING_KEY, table.meta.at, message)
                .help("add `endpoints = [\"http://127.0.0.1:3000\"]`, or `discovery = { name = \"…\", port = … }`");
        }
        // No name is written that these would be for, or it is looked up as it would be without a section.
        return endpoints.map(|endpoints| (endpoints, policy(&r.absent(table.meta.at), None)));
    };
    let (discovery, at) = (&discovery.value, discovery.at);
    ttls(discovery, r);
    let sound = table.meta.sound(&["endpoints", "discovery"]);
    let Some(name) = &discovery.name else {
        if sound {
            nameless(service, discovery, at, endpoints.as_deref(), r);
        }
        return endpoints.map(|endpoints| (endpoints, policy(discovery, None)));
    };
    if let Some(written) = &table.endpoints {
        let finding = r.found.error(codes::EXCLUSIVE_KEYS, name.at, "a service has either `endpoints` or a name to look up");
        finding.help("take one of them away; a name can also be written as an endpoint, \"http://name:port\"").also(written.at);
    }
    let tls = discovery.scheme.as_ref().is_some_and(|scheme| scheme.value == EndpointScheme::Https);
    match (discovery.kind.as_ref().map_or(LookupKind::Dns, |kind| kind.value), &discovery.port) {
        (LookupKind::Dns, Some(port)) => {
            let endpoint = Endpoint::new(tls, Arc::clone(&name.value.0), port.get());
            Some((vec![endpoint], policy(discovery, None)))
        }
        (LookupKind::Dns, None) => {
            if sound && discovery.meta.sound(&["kind", "port"]) {
                let finding = r.found.error(codes::MISSING_KEY, at, "`port` is missing: addresses do not tell it");
                finding.help("add `port = …`, or look up SRV records, which do: `kind = \"srv\"`");
            }
            None
        }
        (LookupKind::Srv, Some(port)) => {
            r.found.error(codes::EXCLUSIVE_KEYS, port.at, "SRV records bring their ports").help("take `port` away");
            None
        }
        (LookupKind::Srv, None) => {
            let srv = SrvLookup { name: Arc::clone(&name.value.0), tls };
            Some((Vec::new(), policy(discovery, Some(srv))))
        }
    }
}

fn endpoint(written: &Spanned<EndpointChoice>) -> Endpoint {
    Endpoint {
        weight: written.weight,
        region: written.region.as_ref().map(|region| Arc::clone(&region.value)),
        zone: written.zone.as_ref().map(|zone| Arc::clone(&zone.value)),
        priority: written.priority,
        drain: written.drain,
        ..Endpoint::new(written.url.scheme == EndpointScheme::Https, Arc::clone(&written.url.host), written.url.port)
    }
}

/// Reports what a section without a name cannot mean.
fn nameless(service: &str, discovery: &DiscoveryTable, at: Span, endpoints: Option<&[Endpoint]>, r: &mut Reader<'_>) {
    if !discovery.meta.sound(&["name"]) {
        return;
    }
    let of_a_name = [
        ("kind", discovery.kind.as_ref().map(|kind| kind.at)),
        ("port", discovery.port.as_ref().map(|port| port.at)),
        ("scheme", discovery.scheme.as_ref().map(|scheme| scheme.at)),
    ];
    if let Some((key, key_at)) = of_a_name.into_iter().find_map(|(key, at)| Some((key, at?))) {
        let finding = r.found.error(codes::MISSING_KEY, key_at, format!("`{key}` is about a name, and `name` is missing"));
        finding.help("add `name = \"…\"`; endpoints say by themselves how they are reached");
    } else if endpoints.is_none() {
        let finding = r.found.error(codes::MISSING_KEY, at, format!("service `{service}` says nowhere where its endpoints are"));
        finding.help("add `name = \"…\"` here, or `endpoints` to the service");
    } else if endpoints.is_some_and(|endpoints| endpoints.iter().all(|endpoint| endpoint.address().is_some())) {
        let finding = r.found.warning(codes::NO_EFFECT, at, format!("no endpoint of service `{service}` has to be looked up"));
        finding.help("write an endpoint with a name, or take `discovery` away");
    }
}

fn ttls(discovery: &DiscoveryTable, r: &mut Reader<'_>) {
    let (min, max) = (&discovery.ttl_min, &discovery.ttl_max);
    if discovery.meta.sound(&["ttl_min", "ttl_max"]) && min.value > max.value {
        let message = format!("`ttl_min` ({}) is longer than `ttl_max` ({})", written(min.value), written(max.value));
        r.found.error(codes::CONTRADICTION, min.at, message).help("make `ttl_max` the longer one");
    }
}

fn policy(discovery: &DiscoveryTable, srv: Option<SrvLookup>) -> DiscoveryPolicy {
    DiscoveryPolicy {
        srv,
        family: discovery.family.value,
        ttl_min: discovery.ttl_min.value,
        ttl_max: discovery.ttl_max.value,
        stale: discovery.stale.0,
    }
}
