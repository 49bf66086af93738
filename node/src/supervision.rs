//! The node's tree of actors: built at the start, kept in step with the configuration, stopped in a drain.
//!
//! What requests need is published by what outlives actors: upstreams, loads, cells. Here it is decided who looks after
//! which of them, and where in the tree that is. A place keeps its id for as long as what it looks after is wanted, over
//! reloads and over every life of its actor.
//!
//! A pool whose endpoint has left keeps its place until its last connection has ended, and a service keeps its place until
//! the last of its pools has.

mod outside;
mod place;

use self::{outside::Outward, place::Place};
use crate::{cluster::part::Part, node::Node, snapshot::LiveService, upstream::Upstream};
use actors::{
    body::Ground,
    handles::Reference,
    inspect::{Id, Tree},
    keeper::Keeper,
    limiter::{self, Limiter},
    service::{self, Drain, Drained, NotDrained, names::Located},
    supervisor::{Branch, Child, NotAdded, Policy},
};
use cluster::World;
use config::{PoolPolicy, Service, ServiceName};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long each part of the tree may take to stop. Each has more than what is below it.
const STOP_SERVICE: Duration = Duration::from_secs(2);
const STOP_GROUP: Duration = Duration::from_secs(5);
const STOP_ROOT: Duration = Duration::from_secs(10);

pub(crate) struct Supervision {
    ground: Ground,
    root: Arc<Branch>,
    services: Arc<Branch>,
    staffed: Mutex<BTreeMap<ServiceName, Staff>>,
}

/// Those who look after one service.
struct Staff {
    branch: Arc<Branch>,
    /// Nobody, once the configuration has it no more.
    watching: Option<Reference<service::Order>>,
    /// By the name of the endpoint.
    pools: BTreeMap<String, Arc<Place>>,
    /// The configuration has it.
    wanted: bool,
}

/// What serves without anybody to look after it.
#[derive(Debug)]
pub(crate) struct Unattended {
    id: Id,
    why: NotAdded,
}

impl fmt::Display for Unattended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, why } = self;
        write!(f, "actors: {id} serves, and nobody looks after it: {why}")
    }
}

/// Says on standard error what nobody looks after.
pub(crate) fn complain(unattended: &[Unattended]) {
    use std::io::Write as _;
    let more = unattended.len().saturating_sub(1);
    if let Some(first) = unattended.first() {
        // Where standard error is gone too there is nobody left to tell.
        let _ = writeln!(std::io::stderr(), "{first}{}", if more > 0 { format!(" ({more} others neither)") } else { String::new() });
    }
}

impl Supervision {
    /// The tree of a node without services. Nobody lives in it before [`Supervision::start`].
    pub(crate) fn new(world: Arc<dyn World>, limiter: &Arc<Limiter>) -> Arc<Self> {
        let within = |stop_within| Policy { stop_within, ..Policy::default() };
        let root = Branch::new(Id::root(), within(STOP_ROOT));
        let limits = Branch::new(root.id().child("limits"), within(STOP_GROUP));
        let services = Branch::new(root.id().child("services"), within(STOP_GROUP));
        for shard in 0..limiter::SHARDS {
            limits.add(limiter::child(&limits, limiter, shard)).expect("a new branch has room for the shards");
        }
        for branch in [&limits, &services] {
            root.add(Child::supervisor(branch)).expect("a new branch has room for two others");
        }
        let ground = Ground { world, tree: Arc::new(Tree::new()) };
        Arc::new(Self { ground, root, services, staffed: Mutex::default() })
    }

    /// Gives a node's part in its cluster those who do it.
    pub(crate) fn take_part(&self, node: &Arc<Node>, part: &Arc<Part>) -> Vec<Unattended> {
        let cluster = Branch::new(self.root.id().child("cluster"), Policy { stop_within: STOP_GROUP, ..Policy::default() });
        let added = part.attend(node, &cluster).and_then(|()| self.root.add(Child::supervisor(&cluster)));
        added.err().map(|why| Unattended { id: cluster.id().clone(), why }).into_iter().collect()
    }

    pub(crate) fn start(&self) -> Keeper {
        Keeper::start(self.ground.clone(), &self.root)
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.ground.tree
    }

    /// Brings the tree in step with the revision that serves. Says what could be given nobody.
    pub(crate) fn apply(self: &Arc<Self>, node: &Arc<Node>) -> Vec<Unattended> {
        let now = self.ground.world.now();
        let mut unattended = Vec::new();
        let mut staffed = self.staffed();
        let snapshot = node.snapshot.load_full();
        let wanted: BTreeSet<&ServiceName> = snapshot.services.iter().map(|live| &live.service.name).collect();
        for (_, staff) in staffed.iter_mut().filter(|(name, _)| !wanted.contains(name)) {
            staff.wanted = false;
            if let Some(watching) = staff.watching.take() {
                staff.branch.remove(watching.id());
            }
            self.keep_pools(staff, &[], now, &mut unattended);
        }
        for live in &snapshot.services {
            self.staff(&mut staffed, node, live, now, &mut unattended);
        }
        self.close_empty(&mut staffed);
        unattended
    }

    /// Gives a service those who look after it, or keeps those it has.
    fn staff(
        self: &Arc<Self>,
        staffed: &mut BTreeMap<ServiceName, Staff>,
        node: &Arc<Node>,
        live: &LiveService,
        now: Instant,
        unattended: &mut Vec<Unattended>,
    ) {
        let name = &live.service.name;
        if !staffed.contains_key(name) {
            let policy = Policy { stop_within: STOP_SERVICE, ..Policy::default() };
            let branch = Branch::new(self.services.id().child(name.as_str()), policy);
            if let Err(why) = self.services.add(Child::supervisor(&branch)) {
                return unattended.push(Unattended { id: branch.id().clone(), why });
            }
            staffed.insert(name.clone(), Staff { branch, watching: None, pools: BTreeMap::new(), wanted: true });
        }
        let staff = staffed.get_mut(name).expect("a service without staff has just been given some");
        staff.wanted = true;
        self.keep(staff, live, now, unattended);
        match &staff.watching {
            // There is nobody to tell only where a supervisor has stopped, with the node.
            Some(watching) => drop(watching.send(service::Order::Look)),
            None => {
                let (child, watching) = service::child(&staff.branch, &live.watch, Outward::new(node));
                match staff.branch.add(child) {
                    Ok(()) => staff.watching = Some(watching),
                    Err(why) => unattended.push(Unattended { id: watching.id().clone(), why }),
                }
            }
        }
    }

    /// Makes these the endpoints of a service, if the revision that serves has this very service: a list that was made for
    /// another one is not for it. Nobody applies a revision meanwhile, so that a newer one is never brought out of step.
    fn publish(self: &Arc<Self>, node: &Node, service: &Arc<Service>, located: Arc<[Located]>) -> Vec<Unattended> {
        let now = self.ground.world.now();
        let mut unattended = Vec::new();
        let mut staffed = self.staffed();
        let snapshot = node.snapshot.load_full();
        let live = snapshot.service(&service.name).filter(|live| Arc::ptr_eq(&live.service, service));
        if let (Some(live), Some(staff)) = (live, staffed.get_mut(&service.name)) {
            live.locate(located, &node.upstreams, &snapshot.gateway.node, now);
            self.keep(staff, live, now, &mut unattended);
        }
        unattended
    }

    /// Does what an operator wants of an endpoint, and has its service's levels decided anew.
    pub(crate) fn drain(&self, live: &LiveService, endpoint: &str, wish: Drain) -> Result<Drained, NotDrained> {
        let drained = live.watch.drain(endpoint, wish, self.ground.world.now())?;
        if let Some(staff) = self.staffed().get(&live.service.name) {
            // There is nobody to tell only where a supervisor has stopped, with the node.
            let _ = staff.watching.as_ref().map(|watching| watching.send(service::Order::Look));
            if let Some(place) = staff.pools.get(endpoint) {
                place.look();
            }
        }
        Ok(drained)
    }

    /// Orders the endpoints of these services anew, because other regions are thought of differently.
    pub(crate) fn reorder(self: &Arc<Self>, node: &Node, services: &BTreeSet<Arc<str>>) -> Vec<Unattended> {
        let now = self.ground.world.now();
        let mut unattended = Vec::new();
        let mut staffed = self.staffed();
        let snapshot = node.snapshot.load_full();
        for live in snapshot.services.iter().filter(|live| services.contains(live.service.name.as_str())) {
            let located = live.endpoints.load().located.clone();
            live.locate(located, &node.upstreams, &snapshot.gateway.node, now);
            if let Some(staff) = staffed.get_mut(&live.service.name) {
                self.keep(staff, live, now, &mut unattended);
                // Whoever decides the shares of levels has to know of the new ones; there is nobody where the node stops.
                let _ = staff.watching.as_ref().map(|watching| watching.send(service::Order::Look));
            }
        }
        unattended
    }

    /// Brings what is watched, and the pools, in step with the endpoints.
    fn keep(self: &Arc<Self>, staff: &mut Staff, live: &LiveService, now: Instant, unattended: &mut Vec<Unattended>) {
        live.take_over(&self.ground.world);
        let endpoints = live.endpoints.load();
        for (at, upstream) in endpoints.upstreams.iter().enumerate() {
            let pool = live.service.pool;
            // Who has no weight gets no requests, and needs no connection ahead of them.
            let asked = endpoints.balancer.level_of(at).is_some();
            upstream.reconfigure(if asked { pool } else { PoolPolicy { warm: 0, ..pool } });
        }
        self.keep_pools(staff, &endpoints.upstreams, now, unattended);
    }

    /// Gives each of these upstreams a pool actor, and leads the others out.
    fn keep_pools(self: &Arc<Self>, staff: &mut Staff, upstreams: &[Arc<Upstream>], now: Instant, unattended: &mut Vec<Unattended>) {
        let mut others: BTreeMap<String, Arc<Place>> = std::mem::take(&mut staff.pools);
        for upstream in upstreams {
            let endpoint = upstream.target.endpoint();
            let place = match others.remove(&endpoint) {
                Some(place) if Arc::ptr_eq(place.upstream(), upstream) => {
                    upstream.stay();
                    place.look();
                    Ok(place)
                }
                Some(before) => {
                    // Spoken to otherwise than before: the id goes to the connections that will be used.
                    staff.branch.remove(before.id());
                    before.lead_out(now, self.ground.world.clone());
                    Place::add(self, &staff.branch, &endpoint, upstream)
                }
                None => Place::add(self, &staff.branch, &endpoint, upstream),
            };
            match place {
                Ok(place) => drop(staff.pools.insert(endpoint, place)),
                Err(why) => unattended.push(Unattended { id: place::id(&staff.branch, &endpoint), why }),
            }
        }
        for (endpoint, place) in others {
            place.upstream().leave(now);
            place.look();
            staff.pools.insert(endpoint, place);
        }
    }

    /// The last connection of an endpoint that has left is closed. If the endpoint is back by now, nothing happens.
    fn gone(&self, id: &Id) {
        let mut staffed = self.staffed();
        for staff in staffed.values_mut().filter(|staff| staff.branch.id().covers(id)) {
            let branch = &staff.branch;
            staff.pools.retain(|_, place| {
                let over = place.id() == id && place.upstream().left().is_some();
                if over {
                    branch.remove(id);
                }
                !over
            });
        }
        self.close_empty(&mut staffed);
    }

    fn close_empty(&self, staffed: &mut BTreeMap<ServiceName, Staff>) {
        staffed.retain(|_, staff| {
            let kept = staff.wanted || !staff.pools.is_empty();
            if !kept {
                self.services.remove(staff.branch.id());
            }
            kept
        });
    }

    fn staffed(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Staff>> {
        self.staffed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
