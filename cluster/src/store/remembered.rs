//! Which peers are worth remembering: after an outage of everything, one of them has to be up.
//!
//! Those seen last are kept, but not all from one place: where a zone has more than its share, its oldest go first.

use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, collections::BTreeMap, net::SocketAddr, sync::Arc};

pub const PEERS_MAX: usize = 64;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Remembered {
    pub name: Arc<str>,
    pub address: SocketAddr,
    pub region: Arc<str>,
    pub zone: Arc<str>,
    /// Milliseconds since 1970.
    pub seen: u64,
}

/// Returns the peers to keep of those that were known and those that are seen now, the last seen first.
pub fn keep(known: Vec<Remembered>, now: Vec<Remembered>) -> Vec<Remembered> {
    let mut by_name: BTreeMap<Arc<str>, Remembered> = BTreeMap::new();
    for peer in known.into_iter().chain(now) {
        match by_name.get(&peer.name) {
            Some(other) if other.seen > peer.seen => {}
            _ => _ = by_name.insert(peer.name.clone(), peer),
        }
    }
    let mut zones: BTreeMap<(Arc<str>, Arc<str>), Vec<Remembered>> = BTreeMap::new();
    for peer in by_name.into_values() {
        zones.entry((peer.region.clone(), peer.zone.clone())).or_default().push(peer);
    }
    let mut ranked = Vec::new();
    for peers in zones.values_mut() {
        peers.sort_by_key(|peer| Reverse(peer.seen));
        ranked.extend(peers.drain(..).enumerate());
    }
    // The first of every zone, then the second of every zone, and so on.
    ranked.sort_by_key(|(rank, peer)| (*rank, Reverse(peer.seen)));
    ranked.truncate(PEERS_MAX);
    let mut kept: Vec<_> = ranked.into_iter().map(|(_, peer)| peer).collect();
    kept.sort_by(|a, b| b.seen.cmp(&a.seen).then_with(|| a.name.cmp(&b.name)));
    kept
}
