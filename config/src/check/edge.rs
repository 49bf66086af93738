//! The edges of a node: its listeners, its admin API, what it tells, and what it is.

use super::place;
use crate::{
    AccessLog, AccessLogTo, Admin, Bounds, CertifiedKeyFiles, ClientAuth, Listener, ListenerName, ListenerTls, Node, Telemetry, collide,
    document::{Span, Spanned},
    file::{
        AccessLogTable, AdminTable, BoundsTable, ListenTable, NodeTable, Reader, TelemetryTable, TlsTable,
        choice::{AccessLogChoice, TlsChoice},
        value::{Http, MetricsAccess},
    },
    pattern::header_name,
    problem::codes,
};
use http::HeaderName;
use std::{collections::HashSet, net::SocketAddr, sync::Arc};

pub(super) fn node(node: Spanned<NodeTable>) -> Node {
    let node = node.value;
    Node {
        name: node.name.value.text,
        region: node.region.value.text,
        zone: node.zone.value.text,
        state_dir: node.state_dir.map(|folder| folder.value.0),
        workers: node.workers.map(|workers| workers.get()),
        max_connections: node.max_connections.get(),
        max_connections_per_address: node.max_connections_per_address.get(),
        trusted_proxies: node.trusted_proxies.iter().map(|network| network.value).collect(),
        dns: node.dns.iter().map(|server| server.value.0).collect(),
        drain_wait: node.drain.wait.0,
        drain_bound: node.drain.bound.0,
    }
}

pub(super) fn listener(name: &Arc<str>, table: Spanned<ListenTable>, r: &mut Reader<'_>) -> Option<Listener> {
    let at = table.at;
    let table = table.value;
    let bind = table.bind?;
    let errors = r.found.errors();
    if bind.0.is_empty() && table.meta.sound(&["bind"]) {
        r.found.error(codes::EMPTY, bind.at, "a listener needs an address").help("write bind = \"127.0.0.1:8080\"");
    }
    if table.http.is_empty() && table.meta.sound(&["http"]) {
        r.found.error(codes::EMPTY, table.http.at, "a listener speaks at least one protocol").help("write http = [\"h1\", \"h2\"]");
    }
    let speaks = |protocol: Http| table.http.iter().any(|written| written.value == protocol);
    let tls = match table.tls.as_ref().map(|choice| (&choice.value, choice.at)) {
        Some((TlsChoice::Tls(written), at)) => Some(tls(written, at, r)?),
        Some((TlsChoice::None, _)) => None,
        None => {
            let exposed = bind.0.iter().find(|address| !address.ip().is_loopback());
            if let Some(address) = exposed.filter(|_| table.meta.sound(&["tls"])) {
                let message = format!("listener `{name}` can be reached from outside and speaks without TLS");
                let finding = r.found.warning(codes::PLAINTEXT_LISTENER, address.at, message);
                finding.help("write tls = \"none\" where that is meant, or tls = { cert = \"…\", key = \"…\" }");
            }
            None
        }
    };
    let listener = Listener {
        name: ListenerName::new(Arc::clone(name)),
        bind: bind.0.iter().map(|address| address.value).collect(),
        http1: speaks(Http::H1),
        http2: speaks(Http::H2),
        tls,
        proxy_protocol: table.proxy_protocol.iter().map(|network| network.value).collect(),
        serve_health: !table.serve.is_empty(),
        max_connections: table.max_connections.get(),
        bounds: bounds(&table.bounds),
        place: place(at, r),
    };
    (r.found.errors() == errors).then_some(listener)
}

fn bounds(bounds: &BoundsTable) -> Bounds {
    Bounds {
        head_size: bounds.head_size.0,
        head_count: bounds.head_count.get(),
        uri_size: bounds.uri_size.0,
        head_timeout: bounds.head_timeout.value,
        keep_alive: bounds.keep_alive.value,
        body_idle: bounds.body_idle.value,
        body_rate_min: bounds.body_rate_min.0,
        write_stall: bounds.write_stall.value,
        tls_handshake: bounds.tls_handshake.value,
        requests_per_connection: bounds.requests_per_connection.get(),
        h2_streams: bounds.h2_streams.get(),
        h2_control_frames: bounds.h2_control_frames.get(),
    }
}

fn tls(table: &TlsTable, at: Span, r: &mut Reader<'_>) -> Option<ListenerTls> {
    let errors = r.found.errors();
    let mut certificates = Vec::new();
    match (&table.cert, &table.key, &table.certificates) {
        (Some(cert), Some(key), None) => certificates.push(CertifiedKeyFiles { cert: cert.value.0.clone(), key: key.value.0.clone() }),
        (None, None, Some(several)) if !several.is_empty() => {
            for written in several.iter() {
                if let (Some(cert), Some(key)) = (&written.cert, &written.key) {
                    certificates.push(CertifiedKeyFiles { cert: cert.value.0.clone(), key: key.value.0.clone() });
                }
            }
        }
        _ if table.meta.sound(&["cert", "key", "certificates"]) && !r.documents.is_damaged(at) => {
            let finding = r.found.error(codes::EXCLUSIVE_KEYS, at, "TLS needs a certificate and its key, or a list of both");
            finding.help("write { cert = \"…\", key = \"…\" } or { certificates = [{ cert = \"…\", key = \"…\" }] }");
        }
        _ => {}
    }
    let asked = table.client_auth.map(|auth| auth.value);
    let client_auth = asked.unwrap_or(if table.client_ca.is_some() { ClientAuth::Required } else { ClientAuth::None });
    if client_auth != ClientAuth::None && table.client_ca.is_none() && table.meta.sound(&["client_ca"]) {
        let at = table.client_auth.map_or(at, |auth| auth.at);
        let finding = r.found.error(codes::MISSING_KEY, at, "callers' certificates need `client_ca` to be checked against");
        finding.help("add client_ca = \"/path/to/authorities.pem\"");
    }
    let complete = r.found.errors() == errors && !certificates.is_empty();
    complete.then(|| ListenerTls {
        certificates,
        version_min: table.min.value,
        client_auth,
        client_ca: table.client_ca.as_ref().map(|file| file.value.0.clone()),
    })
}

/// Where listeners are to listen, in the order of the files. What stands under a name that is taken is not counted.
pub(super) fn bound(listen: &[(Spanned<Arc<str>>, Spanned<ListenTable>)]) -> Vec<Spanned<SocketAddr>> {
    let mut names = HashSet::new();
    let tables = listen.iter().filter(|(name, _)| names.insert(&name.value)).map(|(_, table)| table);
    tables.filter_map(|table| table.bind.as_ref()).flat_map(|bind| bind.0.iter().copied()).collect()
}

/// Reports addresses that cannot be bound beside each other, and beside that of the admin API.
pub(super) fn addresses(bound: &[Spanned<SocketAddr>], admin: Option<SocketAddr>, admin_at: Option<Span>, r: &mut Reader<'_>) {
    for (index, address) in bound.iter().enumerate() {
        if let Some(earlier) = bound[..index].iter().find(|earlier| collide(earlier.value, address.value)) {
            let message = if earlier.value == address.value {
                format!("{} is bound twice", address.value)
            } else {
                format!("{} and {} cannot be bound beside each other", earlier.value, address.value)
            };
            let finding = r.found.error(codes::DUPLICATE_ADDRESS, address.at, message);
            finding.help("give one of them another port").also(earlier.at);
        } else if let Some(admin) = admin.filter(|admin| collide(*admin, address.value)) {
            let finding = r.found.error(codes::DUPLICATE_ADDRESS, address.at, format!("the admin API listens on {admin}"));
            let finding = finding.help("give one of them another port, as in [admin] bind = \"127.0.0.1:9902\"");
            if let Some(at) = admin_at {
                finding.also(at);
            }
        }
    }
}

/// Shorter tokens can be tried out.
const TOKEN_MIN: usize = 16;

pub(super) fn admin(admin: Spanned<AdminTable>, r: &mut Reader<'_>) -> Option<Admin> {
    let table = admin.value;
    let bind = table.bind;
    let tls = match table.tls.as_ref().map(|choice| (&choice.value, choice.at)) {
        Some((TlsChoice::Tls(written), at)) => Some(tls(written, at, r)?),
        _ => None,
    };
    if table.enabled.value && !bind.ip().is_loopback() && table.meta.sound(&["token", "tls", "bind", "enabled"]) {
        let missing = match (&tls, &table.token) {
            (None, None) => Some("`tls` and `token`"),
            (None, Some(_)) => Some("`tls`"),
            (Some(_), None) => Some("`token`"),
            (Some(_), Some(_)) => None,
        };
        if let Some(missing) = missing {
            let message = format!("the admin API can be reached from outside and lacks {missing}");
            let finding = r.found.error(codes::ADMIN_EXPOSED, bind.at, message);
            finding.help("bind it to 127.0.0.1, or add tls = { cert = \"…\", key = \"…\" } and token = { file = \"…\" }");
        }
    }
    if let Some(token) = table.token.as_ref().filter(|token| token.reveal().len() < TOKEN_MIN) {
        let message = format!("the token has fewer than {TOKEN_MIN} characters");
        r.found.warning(codes::SHORT_TOKEN, token.at, message).help("take 32 characters by chance");
    }
    Some(Admin {
        bind: table.enabled.value.then_some(bind.value),
        token: table.token.map(|token| token.value),
        metrics_open: table.metrics.value == MetricsAccess::Open,
        tls,
    })
}

pub(super) fn telemetry(telemetry: Spanned<TelemetryTable>, r: &mut Reader<'_>) -> Option<Telemetry> {
    let log = &telemetry.access_log;
    let names = |written: &[Spanned<Arc<str>>], r: &mut Reader<'_>| -> Vec<HeaderName> {
        written.iter().filter_map(|name| header_name(name).map_or_else(|error| error.report(name.at, name, r), Some)).collect()
    };
    let headers = names(&log.headers, r);
    let mut redact = names(&log.redact, r);
    for always in AccessLogTable::ALWAYS_REDACTED {
        let always = HeaderName::from_static(always);
        if !redact.contains(&always) {
            redact.push(always);
        }
    }
    let access_log = AccessLog {
        to: match &log.to.value {
            AccessLogChoice::Off => AccessLogTo::Off,
            AccessLogChoice::Stdout => AccessLogTo::Stdout,
            AccessLogChoice::File(path) => AccessLogTo::File(path.clone()),
        },
        success: log.success.value,
        errors: log.errors.value,
        headers,
        redact,
    };
    Some(Telemetry { access_log, max_series: telemetry.max_series.get() })
}
