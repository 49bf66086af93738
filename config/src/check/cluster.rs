//! The other nodes: whether they can find this one, tell it from the rest, and know it again.

use super::place;
use crate::{
    CertifiedKeyFiles, Cluster, ClusterTls,
    document::Spanned,
    file::{ClusterTable, ClusterTlsTable, NodeTable, Reader},
    is_dns_label, is_dns_name,
    problem::codes,
};
use std::net::SocketAddr;

/// Returns the cluster, and what it binds even where something else is wrong with it.
pub(super) fn cluster(
    cluster: Spanned<ClusterTable>,
    node: &NodeTable,
    r: &mut Reader<'_>,
) -> (Option<Cluster>, Option<Spanned<SocketAddr>>) {
    let bind = cluster.value.bind;
    (checked(cluster, node, r), bind)
}

fn checked(cluster: Spanned<ClusterTable>, node: &NodeTable, r: &mut Reader<'_>) -> Option<Cluster> {
    let (table, at) = (cluster.value, cluster.at);
    let errors = r.found.errors();
    names(node, r);
    let advertise = advertise(&table, r);
    let tls = table.tls.as_ref().map(|tls| (files(&tls.value), tls.at));
    if let Some((_, tls_at)) = &tls {
        if table.secrets.is_none() && table.meta.sound(&["secrets"]) {
            r.found
                .error(codes::MISSING_KEY, *tls_at, "`secrets` is missing: certificates from elsewhere do not bring the keyring")
                .help("make one with `shoal keyring new FILE`, give it to every node, and write secrets = { file = \"…\" }");
        }
        if let Some(token) = &table.token {
            r.found
                .warning(codes::NO_EFFECT, token.at, "a join token is for nodes without a certificate, and this one has `tls`")
                .help("take one of them away")
                .also(*tls_at);
        }
    } else if let Some(secrets) = &table.secrets {
        r.found
            .error(codes::EXCLUSIVE_KEYS, secrets.at, "`secrets` goes with `tls`: a certificate of the cluster brings the keyring")
            .help("take it away, or add `tls`");
    }
    if node.state_dir.is_none() && node.meta.sound(&["state_dir"]) {
        r.found
            .warning(codes::NO_MEMORY, at, "the node forgets its certificate and its peers when it stops")
            .help("add `state_dir = \"/var/lib/shoal\"` to [node]");
    }
    let place = place(at, r);
    let (name, bind, advertise) = (table.name?.value.0, table.bind?.value, advertise?);
    let tls = match tls {
        Some((files, _)) => Some(files?),
        None => None,
    };
    (r.found.errors() == errors).then(|| Cluster {
        name,
        bind,
        advertise,
        join: table.join.value.into_iter().map(|seed| seed.value.0).collect(),
        token: table.token.map(|token| token.value),
        tls,
        secrets: table.secrets.map(|secrets| secrets.value),
        place,
    })
}

/// Names stand in certificates and are compared there.
fn names(node: &NodeTable, r: &mut Reader<'_>) {
    const LABEL: &str = "write up to 63 lower-case letters, digits and `-`";
    // A default has the place of its table.
    if node.name.at == node.meta.at {
        if node.meta.sound(&["name"]) {
            r.found
                .error(codes::NAMELESS_NODE, node.meta.at, "a node of a cluster needs a name of its own")
                .help("add `name = \"west-1\"` to [node], or `name = { env = \"HOSTNAME\" }`");
        }
    } else if !is_dns_name(&node.name.text) && node.meta.sound(&["name"]) {
        let message = format!("`{}` cannot be the name of a node of a cluster", node.name.text);
        r.found.error(codes::BAD_LABEL, node.name.at, message).help(format!("{LABEL}, with dots between parts if you like"));
    }
    for (key, written) in [("region", &node.region), ("zone", &node.zone)] {
        if !is_dns_label(&written.text) && node.meta.sound(&[key]) {
            let message = format!("`{}` cannot be the {key} of a node of a cluster", written.text);
            r.found.error(codes::BAD_LABEL, written.at, message).help(LABEL);
        }
    }
}

/// Where other nodes reach this one.
fn advertise(table: &ClusterTable, r: &mut Reader<'_>) -> Option<SocketAddr> {
    let bind = table.bind.as_ref()?;
    let (address, at) = match &table.advertise {
        Some(written) => (SocketAddr::new(written.ip, written.port.unwrap_or(bind.port())), written.at),
        None if table.meta.sound(&["advertise"]) => (bind.value, bind.at),
        None => return None,
    };
    if address.ip().is_unspecified() || address.ip().is_multicast() {
        let message = format!("other nodes would be told to reach this one at {}", address.ip());
        r.found.error(codes::UNREACHABLE_NODE, at, message).help("add `advertise` with the address that they reach it at");
        return None;
    }
    if address.ip().is_loopback() && !bind.ip().is_loopback() {
        let message = format!("other machines cannot reach this node at {}", address.ip());
        r.found.error(codes::UNREACHABLE_NODE, at, message).help("advertise the address that they reach it at, or bind to loopback too");
        return None;
    }
    Some(address)
}

fn files(table: &ClusterTlsTable) -> Option<ClusterTls> {
    let path = |file: &Option<Spanned<crate::file::reference::Input>>| file.as_ref().map(|file| file.value.0.clone());
    Some(ClusterTls { identity: CertifiedKeyFiles { cert: path(&table.cert)?, key: path(&table.key)? }, ca: path(&table.ca)? })
}
