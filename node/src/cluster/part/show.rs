//! A node's part in its cluster, as operators and scrapers see it.

use super::{Part, inbox::HOPS};
use crate::admin::{self, Asked, Place, Told, Whom};
use cluster::{
    gossip::Membership,
    member::{By, Forget, Member, Seen, View},
    offload,
    peers::{Ask, LinkView},
    topology,
    views::{Cell, Matrix},
};
use config::Seed;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

/// Places that operators may have named.
const TOLD_MAX: usize = 64;

impl admin::Cluster for Part {
    fn members(&self, now: Instant) -> Vec<Value> {
        let view = self.gossip.view();
        let links: BTreeMap<Arc<str>, LinkView> = self.peers.links().into_iter().map(|link| (link.peer.node.clone(), link)).collect();
        let ours = view.members.get(&view.me).map(|me| me.facts.configuration.clone());
        view.members.values().map(|member| shown(&view, member, links.get(&member.name), ours.as_deref(), now)).collect()
    }

    fn sees(&self, _now: Instant) -> Value {
        let view = self.gossip.view();
        json!({ "by": view.me, "sees": seen_by(&view) })
    }

    fn place(&self, member: &str) -> Option<Place> {
        let view = self.gossip.view();
        view.members.contains_key(member).then(|| if *view.me == *member { Place::Here } else { Place::Elsewhere })
    }

    fn join(&self, seed: Seed) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.contains(&seed) {
            if told.len() >= TOLD_MAX {
                told.remove(0);
            }
            told.push(seed);
        }
        drop(told);
        self.seek_now.notify_one();
    }

    fn forget(&self, whom: &Whom) -> Vec<String> {
        let view = self.gossip.view();
        let forget = match whom {
            Whom::Member(name) => Forget::Member(name.as_str().into()),
            Whom::Region(region) => Forget::Region(region.as_str().into()),
        };
        let meant = |member: &Member| match &forget {
            Forget::Member(name) => member.name == *name,
            Forget::Region(region) => member.facts.region == *region,
        };
        if !self.gossip.forget(&forget) {
            return Vec::new();
        }
        let gone: Vec<Arc<str>> =
            view.members.values().filter(|member| meant(member) && !member.is_alive()).map(|member| member.name.clone()).collect();
        let (memory, names, world) = (self.memory.clone(), gone.clone(), self.world.clone());
        // What could not be written down is forgotten all the same for as long as this node runs.
        drop(tokio::spawn(async move { offload(&*world, move || memory.forget(|peer| names.contains(&peer.name))).await }));
        gone.iter().map(ToString::to_string).collect()
    }
}

fn shown(view: &View, member: &Member, link: Option<&LinkView>, ours: Option<&str>, now: Instant) -> Value {
    let (seen, gone) = match member.seen {
        Seen::Alive => ("alive", None),
        Seen::Gone { since } => ("gone", Some(now.saturating_duration_since(since))),
        Seen::Left => ("left", None),
    };
    let facts = &member.facts;
    let by = match &member.by {
        By::Itself => None,
        By::Representative(name) => Some(name),
    };
    json!({
        "name": member.name,
        "self": member.name == view.me,
        "region": facts.region,
        "zone": facts.zone,
        "state": facts.state.name(),
        "seen": seen,
        "gone_for_ms": gone.map(millis),
        "generation": member.generation,
        "address": facts.address.to_string(),
        "build": facts.build,
        "protocol": [facts.protocol.0, facts.protocol.1],
        "configuration": facts.configuration,
        "configuration_differs": ours.is_some_and(|ours| *ours != *facts.configuration),
        "load_percent": facts.load,
        "representative": topology::representatives(view, &facts.region).contains(&member.name),
        "told_by": by,
        "link": link.map(link_shown),
    })
}

fn link_shown(link: &LinkView) -> Value {
    json!({
        "dialed_by_us": link.dialed_by_us,
        "age_ms": millis(link.age),
        "silent_for_ms": millis(link.silence),
        "round_trip_ms": link.round_trip.map(|span| span.as_secs_f64() * 1_000.0),
        "clock_offset_ms": link.offset_micros.map(|micros| micros as f64 / 1_000.0),
        "bytes_in": link.bytes_in,
        "bytes_out": link.bytes_out,
        "frames_in": link.frames_in,
        "frames_out": link.frames_out,
    })
}

/// Whom a node sees, each in a word. Who has said goodbye is missed by nobody.
fn seen_by(view: &View) -> Map<String, Value> {
    let others = view.members.values().filter(|member| member.seen != Seen::Left);
    others.map(|member| (member.name.to_string(), json!(if member.is_alive() { "alive" } else { "gone" }))).collect()
}

fn word(cell: Cell) -> &'static str {
    match cell {
        Cell::Linked | Cell::Heard => "alive",
        Cell::Gone => "gone",
        Cell::Unknown => "unknown",
        Cell::Unsure => "unsure",
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Members that are asked for their views at most.
const ASKED_MAX: usize = 128;

/// How long one of them may take to tell.
const TELL_WITHIN: Duration = Duration::from_secs(2);

impl Part {
    /// Who sees whom: what every member says itself, and where one does not answer, what it has said by gossip.
    pub(crate) async fn views(&self) -> Value {
        let view = self.gossip.view();
        let others: Vec<Arc<str>> =
            view.alive().map(|member| member.name.clone()).filter(|name| *name != view.me).take(ASKED_MAX).collect();
        let asking = others.iter().map(|name| async move {
            let ask = Ask { to: name.to_string(), path: "/v1/sees".into(), query: String::new(), hops_left: HOPS };
            let told = tokio::time::timeout(TELL_WITHIN, self.pass_on(None, ask)).await;
            (name.clone(), told.map_err(|_| "it does not answer in time".to_string()).and_then(|told| told.map_err(|why| why.to_string())))
        });
        let mut told: BTreeMap<Arc<str>, Result<Map<String, Value>, String>> = BTreeMap::new();
        for (name, reply) in futures_util::future::join_all(asking).await {
            let row = reply.and_then(|reply| {
                let said: Value = serde_json::from_slice(&reply.body).map_err(|_| "what it answered is no view".to_string())?;
                said["sees"].as_object().cloned().ok_or_else(|| "what it answered is no view".to_string())
            });
            told.insert(name, row);
        }
        told.insert(view.me.clone(), Ok(seen_by(&view)));
        drawn(&view, told)
    }

    /// A page of another member, by whatever way leads there.
    pub(crate) async fn ask(&self, asked: &Asked) -> Told {
        let ask = Ask { to: asked.member.clone(), path: asked.path.clone(), query: asked.query.clone(), hops_left: HOPS };
        match self.pass_on(None, ask).await {
            Ok(reply) => {
                Told::Answer { status: u16::try_from(reply.status).unwrap_or_default(), content_type: reply.content_type, body: reply.body }
            }
            Err(unreachable) => self.unreachable(&asked.member, &unreachable),
        }
    }

    pub(super) fn links_shown(&self, _now: Instant) -> Value {
        let links = self.peers.links();
        links.iter().map(|link| (link.peer.node.to_string(), link_shown(link))).collect::<Map<String, Value>>().into()
    }

    /// Those who should be linked and are not, and why.
    pub(super) fn unlinked_shown(&self, now: Instant) -> Value {
        let _ = now;
        self.peers
            .unlinked()
            .iter()
            .map(|unlinked| json!({ "name": unlinked.node, "address": unlinked.address.to_string(), "why": unlinked.why }))
            .collect()
    }

    pub(super) fn gossip_shown(&self) -> Value {
        let view = self.gossip.view();
        let traffic = self.gossip.traffic();
        json!({
            "members": view.members.len(),
            "alive": view.alive().count(),
            "regions": view.regions.keys().collect::<Vec<_>>(),
            "representatives": topology::representatives(&view, &view.region),
            "sent": { "messages": traffic.sent_messages, "bytes": traffic.sent_bytes },
            "received": { "messages": traffic.received_messages, "bytes": traffic.received_bytes },
            "dropped": traffic.dropped,
        })
    }
}

/// The matrix: one row for each member that is not known to have left.
fn drawn(view: &View, mut told: BTreeMap<Arc<str>, Result<Map<String, Value>, String>>) -> Value {
    let matrix = Matrix::of(view);
    let names: Vec<&Arc<str>> = view.members.values().filter(|member| member.seen != Seen::Left).map(|member| &member.name).collect();
    let (mut rows, mut disagree) = (Vec::new(), Vec::new());
    for by in &names {
        let gossiped = || {
            let cells = matrix.rows.get(*by)?.as_ref()?;
            Some(matrix.names.iter().zip(cells).map(|(name, cell)| (name.to_string(), json!(word(*cell)))).collect::<Map<_, _>>())
        };
        let (sees, source, why) = match told.remove(*by) {
            Some(Ok(sees)) => (Some(sees), Some("itself"), None),
            Some(Err(why)) => (gossiped(), gossiped().map(|_| "gossip"), Some(why)),
            None => (gossiped(), gossiped().map(|_| "gossip"), None),
        };
        let alive = |name: &str| view.members.get(name).is_some_and(Member::is_alive);
        for not in names.iter().filter(|name| alive(by) && alive(name)) {
            if sees.as_ref().is_some_and(|sees| sees.get(&***not).is_none_or(|seen| seen != "alive")) {
                disagree.push(json!({ "by": by, "not": not }));
            }
        }
        rows.push(json!({ "by": by, "told_by": source, "sees": sees, "why": why }));
    }
    let regions: Map<String, Value> = view
        .regions
        .iter()
        .map(|(name, region)| {
            let health: Map<String, Value> = region
                .health
                .iter()
                .map(|(service, summary)| (service.to_string(), json!({ "usable": summary.usable, "total": summary.total })))
                .collect();
            let region = json!({
                "reachable": region.reachable,
                "representatives": region.representatives,
                "sees": region.sees,
                "health": health,
            });
            (name.to_string(), region)
        })
        .collect();
    json!({ "by": view.me, "region": view.region, "members": names, "views": rows, "disagree": disagree, "regions": regions })
}
