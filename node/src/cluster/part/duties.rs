//! What a node does for its cluster for as long as it runs, each as one task that can fail and be taken up again alone.

use super::{Part, facts};
use crate::{node::Node, supervision, upstream::Doubts};
use actors::{duty::Duty, service::names::Located};
use cluster::{
    BoxFuture,
    gossip::{Ended, Membership},
    health::{self, Summary},
    member::{Facts, State, View},
    offload,
    peers::Target,
    resolve,
    store::{PEERS_MAX, Remembered},
    topology,
};
use config::{Locality, Revision, Seed};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::{Duration, Instant, UNIX_EPOCH},
};

/// How often it is looked whether this node has anything new to tell.
const NEWS: Duration = Duration::from_millis(250);

/// How often nodes are looked for that are not known: soon while there is nobody, and now and then for ever, because two halves
/// that have forgotten each other have only that.
const SEEK: Duration = Duration::from_secs(1);
const SEEK_LINKED: Duration = Duration::from_secs(15);

/// How often peers are written down at most: those that are new soon, because a node that has just started may not get old.
const REMEMBER: Duration = Duration::from_secs(10);
const REMEMBER_NEW: Duration = Duration::from_secs(1);

/// Addresses that one round of seeking may bring.
const SEEDS_MAX: usize = 256;

/// Between two attempts at what could not be bound.
const BIND_AGAIN: Duration = Duration::from_secs(1);

/// How long until the first of these is due: each was done then, if ever, and is to be done so often.
fn rest<const COUNT: usize>(now: Instant, done: [(Option<Instant>, Duration); COUNT]) -> Duration {
    let until =
        |(at, often): (Option<Instant>, Duration)| at.map_or(REMEMBER, |at| often.saturating_sub(now.saturating_duration_since(at)));
    done.map(until).into_iter().min().unwrap_or(REMEMBER).max(NEWS)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Work {
    Certificate,
    Door,
    Links,
    Seeds,
    Membership,
    Course,
    News,
}

impl Work {
    pub(super) const ALL: [Self; 7] = [Self::Certificate, Self::Door, Self::Links, Self::Seeds, Self::Membership, Self::Course, Self::News];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Door => "door",
            Self::Links => "links",
            Self::Seeds => "seeds",
            Self::Membership => "membership",
            Self::Course => "course",
            Self::News => "news",
        }
    }
}

struct Performed {
    part: Arc<Part>,
    work: Work,
}

pub(super) fn of(part: &Arc<Part>, work: Work) -> Arc<dyn Duty> {
    Arc::new(Performed { part: part.clone(), work })
}

impl Duty for Performed {
    fn perform(self: Arc<Self>) -> BoxFuture<'static, String> {
        let part = self.part.clone();
        Box::pin(async move {
            match self.work {
                Work::Certificate => part.certify().await,
                Work::Door => part.open_door().await,
                Work::Links => {
                    part.peers.run().await;
                    "dialing ended".into()
                }
                Work::Seeds => part.seek().await,
                Work::Membership => part.take_part().await,
                Work::Course => part.follow().await,
                Work::News => part.tell_news().await,
            }
        })
    }

    fn inspect(&self, now: Instant) -> Value {
        let part = &self.part;
        match self.work {
            Work::Certificate => part.papers_shown(),
            Work::Door => json!({ "bound": part.bound.to_string(), "advertised": part.peers.me().address.to_string() }),
            Work::Links => json!({ "links": part.links_shown(now), "unlinked": part.unlinked_shown(now) }),
            Work::Seeds => json!({ "join": part.settings.join.iter().map(ToString::to_string).collect::<Vec<_>>() }),
            Work::Membership => part.gossip_shown(),
            Work::Course => json!({ "version": part.gossip.view().version }),
            Work::News => json!({ "state": part.state().name() }),
        }
    }
}

impl Part {
    async fn open_door(&self) -> String {
        let held = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let listener = match held {
            Some(listener) => listener,
            // An earlier life took the one that the start had bound along.
            None => loop {
                match self.world.listen(self.bound).await {
                    Ok(listener) => break listener,
                    Err(error) => self.say("door", &format!("{} cannot be bound: {error}; no peer can come in", self.bound)),
                }
                tokio::time::sleep(BIND_AGAIN).await;
            },
        };
        self.peers.serve(listener).await;
        "nobody is let in any more".into()
    }

    async fn take_part(&self) -> String {
        match self.gossip.run().await {
            Ended::Stopped(why) => format!("gossip stopped: {why}"),
            Ended::Forged => "somebody claimed more about this node than it has said; it starts anew".into(),
            Ended::Superseded { generation, alive: false } => {
                self.gossip.renew(self.later_than(generation));
                format!("generation {generation} of this node was heard of, which is later than its own; it starts anew with a later one")
            }
            Ended::Superseded { alive: true, .. } => {
                let name = &self.site.name;
                self.say("name", &format!("another node is called {name} too, and was started later; give one of them another name"));
                format!("another node is called {name} too")
            }
            Ended::Forgotten { generation } => {
                self.gossip.renew(self.later_than(generation));
                "this node was forgotten by an operator although it is alive; it comes back".into()
            }
        }
    }

    fn later_than(&self, generation: u64) -> u64 {
        cluster::store::generation(Some(generation), self.world.wall())
    }

    /// Nodes that are not known yet: those of the configuration, of names, of an operator, and those that were known before.
    async fn seek(&self) -> String {
        loop {
            let seeds = self.whereabouts().await;
            let view = self.gossip.view();
            let known: BTreeSet<SocketAddr> = view.alive().map(|member| member.facts.address).collect();
            let strangers: Vec<SocketAddr> = seeds.into_iter().filter(|seed| !known.contains(seed)).take(SEEDS_MAX).collect();
            self.peers.seeds(strangers);
            let mut changes = self.peers.changes();
            let rest = if self.peers.links().is_empty() { SEEK } else { SEEK_LINKED };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                // A link that comes or goes changes how urgent it is.
                _ = changes.changed() => {}
                () = self.seek_now.notified() => {}
            }
            tokio::time::sleep(NEWS).await;
        }
    }

    /// Where nodes of the cluster may be reached.
    pub(super) async fn whereabouts(&self) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for seed in told.iter().chain(&self.settings.join) {
            match self.addresses_of(seed).await {
                Ok(addresses) => found.extend(addresses),
                Err(why) => self.say(&format!("seed {seed}"), &format!("nobody is found at {seed}: {why}")),
            }
        }
        found.extend(self.memory.peers().into_iter().map(|peer| peer.address));
        let us = self.peers.me().address;
        let mut once = BTreeSet::new();
        found.retain(|address| *address != us && once.insert(*address));
        found
    }

    async fn addresses_of(&self, seed: &Seed) -> Result<Vec<SocketAddr>, String> {
        let servers = &self.site.dns[..];
        match seed {
            Seed::Host { host, port } => resolve(&*self.world, servers, host, *port).await.map_err(|error| error.to_string()),
            Seed::Dns { name, port } => resolve(&*self.world, servers, name, *port).await.map_err(|error| error.to_string()),
            Seed::Srv { name } => cluster::resolve_srv(&*self.world, servers, name).await.map_err(|error| error.to_string()),
        }
    }

    /// Does what a changed view asks for.
    async fn follow(&self) -> String {
        let mut changed = self.gossip.changed();
        let (mut remembered, mut looked): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            changed.borrow_and_update();
            let view = self.gossip.view();
            let targets = topology::links(&view).into_iter().map(|target| Target { name: target.name, address: target.address });
            self.peers.aim(targets.collect());
            self.believe(&view);
            let now = self.world.now();
            let often = if self.knows_more_than_it_remembers(&view) { REMEMBER_NEW } else { REMEMBER };
            if remembered.is_none_or(|at| now - at >= often) && self.remember(&view).await {
                remembered = Some(now);
            }
            if looked.is_none_or(|at| now - at >= REMEMBER) {
                looked = Some(now);
                self.look_at_keyring().await;
            }
            let rest = rest(now, [(remembered, often), (looked, REMEMBER)]);
            if let Ok(Err(_)) = tokio::time::timeout(rest, changed.changed()).await {
                return "nobody tells of members any more".into();
            }
        }
    }

    /// Takes other regions at their word about their own endpoints: those of a region that is unwell come after those of others
    /// that are as far away. What this node has met itself counts as before.
    fn believe(&self, view: &View) {
        let Some(node) = self.node() else { return };
        let before = node.upstreams.doubted.load_full();
        let mut doubts = Doubts::new();
        for live in &node.snapshot.load().services {
            let service = live.service.name.as_str();
            let doubted = health::doubted(view, service, before.get(service).unwrap_or(&BTreeSet::new()));
            if !doubted.is_empty() {
                doubts.insert(service.into(), doubted);
            }
        }
        let differ = |service: &&Arc<str>| before.get(*service) != doubts.get(*service);
        let changed: BTreeSet<Arc<str>> = before.keys().chain(doubts.keys()).filter(differ).cloned().collect();
        if !changed.is_empty() {
            node.upstreams.doubted.store(Arc::new(doubts));
            supervision::complain(&node.supervision.reorder(&node, &changed));
        }
    }

    /// Where there is room for a peer that is not remembered, or not under this address.
    fn knows_more_than_it_remembers(&self, view: &View) -> bool {
        let remembered = self.memory.peers();
        let known = |name: &str, address| remembered.iter().any(|peer| *peer.name == *name && peer.address == address);
        let mut others = view.alive().filter(|member| member.name != view.me);
        remembered.len() < PEERS_MAX && others.any(|member| !known(&member.name, member.facts.address))
    }

    /// Writes down who is there; false where nobody is.
    async fn remember(&self, view: &View) -> bool {
        let seen = self.world.wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let peers: Vec<Remembered> = view
            .alive()
            .filter(|member| member.name != view.me)
            .map(|member| Remembered {
                name: member.name.clone(),
                address: member.facts.address,
                region: member.facts.region.clone(),
                zone: member.facts.zone.clone(),
                seen,
            })
            .collect();
        if peers.is_empty() {
            return false;
        }
        let memory = self.memory.clone();
        if let Err(error) = offload(&*self.world, move || memory.remember(peers)).await {
            self.say("memory", &format!("{error}; this node goes on, and would have to be told again after a restart"));
        }
        true
    }

    /// Publishes what is new about this node, and nothing where nothing is.
    async fn tell_news(&self) -> String {
        let mut told: Option<Facts> = None;
        let mut hashed: Option<(Revision, Arc<str>)> = None;
        loop {
            if let Some(node) = self.node() {
                let gateway = node.snapshot.load().gateway.clone();
                let configuration = match hashed.take().filter(|(revision, _)| *revision == gateway.revision) {
                    Some((_, configuration)) => configuration,
                    // Thousands of routes take a while: not on a thread that serves.
                    None => {
                        offload(&*self.world, {
                            let gateway = gateway.clone();
                            move || gateway.common().0
                        })
                        .await
                    }
                };
                hashed = Some((gateway.revision.clone(), configuration.clone()));
                let facts = self.facts_of(&node, configuration);
                if told.as_ref() != Some(&facts) {
                    self.gossip.publish(facts.clone());
                    told = Some(facts);
                }
            }
            tokio::time::sleep(NEWS).await;
        }
    }

    fn facts_of(&self, node: &Node, configuration: Arc<str>) -> Facts {
        let snapshot = node.snapshot.load();
        let now = self.world.now();
        let health = snapshot
            .services
            .iter()
            .map(|live| {
                let endpoints = live.endpoints.load();
                let here = |located: &Located| located.endpoint.locality(&snapshot.gateway.node) != Locality::Elsewhere;
                let ours = || endpoints.located.iter().zip(&endpoints.upstreams).filter(|(located, _)| here(located));
                let usable = ours().filter(|(_, upstream)| upstream.load.eligible(now)).count();
                let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
                (Arc::from(live.service.name.as_str()), Summary { usable: number(usable), total: number(ours().count()) })
            })
            // A region has a word about its own endpoints alone.
            .filter(|(_, summary): &(Arc<str>, Summary)| summary.total > 0)
            .collect::<BTreeMap<_, _>>();
        // In tens of percent: the number informs people, and each change is told to everybody.
        let share = node.census.total() * 10 / snapshot.gateway.node.max_connections.max(1);
        let load = u8::try_from(share.min(10) * 10).unwrap_or(100);
        Facts { load, health, ..facts(&self.site, self.peers.me().address, configuration, self.state()) }
    }

    pub(super) fn state(&self) -> State {
        match self.node() {
            Some(node) if node.drain.is_announced() => State::Draining,
            Some(node) if node.is_started() => State::Serving,
            _ => State::Joining,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an instant to count from")]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_first_is_waited_for_and_nothing_longer_than_ten_seconds() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let table = [(100, [Some(100), Some(95)], 5), (100, [Some(92), Some(100)], 2), (100, [None, Some(99)], 9), (100, [None, None], 10)];
        for (now, done, expected) in table {
            let waits = rest(at(now), done.map(|done| (done.map(at), REMEMBER)));
            assert_eq!(waits, Duration::from_secs(expected), "{done:?} at {now}");
        }
        assert_eq!(rest(at(100), [(Some(at(80)), REMEMBER), (None, REMEMBER)]), NEWS, "what is late is not done without end");
    }
}
