//! Links to peers: long-lived streams on which gossip and signs of life ride, and the calls beside them.
//!
//! One link for each peer, whoever dialed it. [`Peers::serve`] answers those who dial, [`Peers::run`] dials those who are
//! wanted ([`Peers::aim`], [`Peers::seeds`]) and dials again when a link ends. Whoever runs the two owns every task and
//! every connection they made: dropping them closes all of it.
//!
//! What decides is beside this file and does not wait: whether a hello is good enough (`hello.rs`), which of two links is kept
//! (`table.rs`), what waits to be sent (`outbox.rs`), how much of a peer is listened to (`bound.rs`), when to dial again
//! (`backoff.rs`), what beats tell (`clock.rs`), and how many strangers there may be (`admission.rs`). What waits is the rest:
//! a conversation from its first frame to its last (`link.rs`), the two ways to come by a connection (`dial.rs`, `door.rs`).

mod admission;
mod backoff;
mod bound;
mod clock;
mod counts;
mod dial;
mod door;
#[doc(hidden)]
pub mod fuzzing;
mod hello;
mod leash;
mod link;
mod outbox;
mod table;
#[cfg(test)]
mod tests;

pub use admission::Rooms;
pub use bound::Rates;
pub use clock::{Patience, Sign};
pub use counts::{Counts, Reasons, Traffic};
pub use dial::{Unreachable, enrol};
use hello::INTRODUCED_MAX;
pub use hello::{NAME_MAX, Peer, Refused, is_name, refusal};
pub use link::Lost;
pub use proto::{
    AskReply as Reply, AskRequest as Ask, EnrolReply, EnrolRequest, Reason, Refusal, Signer,
    frame::{Frame, Kind, Ring},
};

use proto::PROTOCOLS;

use crate::{
    BoxFuture, Listener, World,
    trust::{Identity, Trust},
};
use admission::Admission;
use link::Link;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use table::Table;
use tokio::sync::{Semaphore, watch};

/// Whom peers have introduced and who has not been dialed yet: a lying one fills a round with no more than this.
const INTRODUCED_HELD_MAX: usize = 16;

/// Who we are to our peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Me {
    pub cluster: Arc<str>,
    pub node: Arc<str>,
    /// Larger at each start than at the one before.
    pub generation: u64,
    pub region: Arc<str>,
    pub zone: Arc<str>,
    /// Where others reach us.
    pub address: SocketAddr,
    /// The fingerprint of the secrets that we use.
    pub secrets: [u8; 8],
    /// Those of the secrets that we hold and do not use: a peer may, while the cluster changes from one to the other.
    pub also: Vec<[u8; 8]>,
    pub build: Arc<str>,
}

/// A peer to keep a link to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    pub name: Arc<str>,
    pub address: SocketAddr,
}

/// Who hears what peers say. None of the plain functions may wait: a link reads nothing else meanwhile.
pub trait Inbox: Send + Sync + 'static {
    /// Gossip, or that the peer leaves. A link keeps everything else to itself.
    fn frame(&self, from: &Peer, frame: Frame);

    fn linked(&self, peer: &Peer);

    /// Where those members of a region are reached that are known to be there, linked or not: somebody of that region wants to know.
    fn members_of(&self, region: &str) -> Vec<SocketAddr>;

    /// The peer has no link any more. A link that takes the place of another is not told.
    fn lost(&self, peer: &Peer, why: &Lost);

    /// There will be no link, and somebody has to change something before there is one: worth a line in the log. Whoever dials
    /// tries again every ten seconds or so.
    fn refused(&self, refused: &Refused);

    fn ask(&self, from: &Identity, ask: Ask) -> BoxFuture<'_, Reply>;

    /// `from` is a member that passes it on or renews its own certificate; None is who has no certificate yet.
    fn enrol(&self, from: Option<&Identity>, request: EnrolRequest) -> BoxFuture<'_, Result<EnrolReply, Refusal>>;
}

/// What is bounded, and by how much.
#[derive(Clone, Debug)]
pub struct Options {
    /// From the first byte of a connection to the end of the greeting.
    pub handshake: Duration,
    pub beat: Duration,
    pub patience: Patience,
    /// A link that was replaced or refused has so long to say its last.
    pub linger: Duration,
    /// A link that we dialed and that nobody here wants any more is closed after so long.
    pub unwanted: Duration,
    /// How long a connection without a link may be there.
    pub visit: Duration,
    pub ask: Duration,
    pub rates: Rates,
    pub rooms: Rooms,
    pub links_max: usize,
    pub asks_max: usize,
    pub enrolments_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            beat: Duration::from_millis(250),
            patience: Patience { silent: Duration::from_secs(1), dead: Duration::from_secs(5) },
            linger: Duration::from_secs(1),
            unwanted: Duration::from_secs(30),
            visit: Duration::from_secs(20),
            ask: Duration::from_secs(5),
            rates: Rates { frames: 2_000, bytes: 8 << 20 },
            rooms: Rooms { securing: 256, securing_per_address: 64, anonymous: 64, anonymous_per_address: 16, known_per_node: 8 },
            links_max: 1_024,
            asks_max: 64,
            enrolments_max: 16,
        }
    }
}

/// One link as operators see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkView {
    pub peer: Arc<Peer>,
    pub dialed_by_us: bool,
    /// For how long it has been there.
    pub age: Duration,
    /// For how long nothing has been heard.
    pub silence: Duration,
    pub sign: Sign,
    pub round_trip: Option<Duration>,
    /// Positive where the peer's wall clock is ahead of ours.
    pub offset_micros: Option<i64>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub frames_in: u64,
    pub frames_out: u64,
}

/// Somebody who is wanted and cannot be linked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unlinked {
    /// Unknown for a seed.
    pub node: Option<Arc<str>>,
    pub address: SocketAddr,
    /// For how long.
    pub since: Duration,
    pub attempts: u32,
    /// What came of the last attempt.
    pub why: String,
}

/// The oldest and the newest protocol that this build speaks.
pub fn protocols() -> (u16, u16) {
    let number = |protocol: &u32| u16::try_from(*protocol).unwrap_or(u16::MAX);
    (number(PROTOCOLS.start()), number(PROTOCOLS.end()))
}

/// The links of one node. Clones are the same links.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    world: Arc<dyn World>,
    trust: Arc<dyn Trust>,
    me: Mutex<Arc<Me>>,
    inbox: Arc<dyn Inbox>,
    options: Options,
    counts: Counts,
    table: Mutex<Table<Arc<Link>>>,
    /// Counts the changes of the table, for those who wait for one.
    changes: watch::Sender<u64>,
    wanted: watch::Sender<Wanted>,
    /// What came of dialing those who are wanted and not there.
    failing: Mutex<BTreeMap<dial::Goal, dial::Failing>>,
    admission: Mutex<Admission>,
    asks: Semaphore,
    enrolments: Semaphore,
    dials: AtomicU64,
    /// Held while the inbox is told who came or went, so that it hears it in that order.
    telling: Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Wanted {
    targets: BTreeMap<Arc<str>, SocketAddr>,
    seeds: BTreeSet<SocketAddr>,
    /// Members of our region that a peer of another one told us of. They are seeds until the round after the next one begins.
    introduced: BTreeSet<SocketAddr>,
    /// Counts the calls of [`Peers::seeds`]: each asks for every seed once more.
    round: u64,
}

impl Peers {
    pub fn new(world: Arc<dyn World>, trust: Arc<dyn Trust>, me: Me, inbox: Arc<dyn Inbox>, options: Options) -> Self {
        Self(Arc::new(Inner {
            world,
            trust,
            table: Mutex::new(Table::new(Arc::clone(&me.node), options.links_max)),
            me: Mutex::new(Arc::new(me)),
            inbox,
            counts: Counts::default(),
            changes: watch::Sender::new(0),
            wanted: watch::Sender::new(Wanted::default()),
            failing: Mutex::new(BTreeMap::new()),
            admission: Mutex::new(Admission::new(options.rooms)),
            asks: Semaphore::new(options.asks_max),
            enrolments: Semaphore::new(options.enrolments_max),
            dials: AtomicU64::new(0),
            telling: Mutex::new(()),
            options,
        }))
    }

    /// Answers those who dial, for ever.
    pub async fn serve(&self, listener: Box<dyn Listener>) {
        door::serve(&self.0, listener).await;
    }

    /// Dials those who are wanted, for ever.
    pub async fn run(&self) {
        dial::run(&self.0).await;
    }

    /// Keeps a link to each of these. A link that we dialed to anybody else is closed after a while; one that was dialed from
    /// there is the business of whoever did.
    pub fn aim(&self, targets: Vec<Target>) {
        let us = &self.me().node;
        let targets = targets.into_iter().filter(|target| target.name != *us).map(|target| (target.name, target.address)).collect();
        self.0.wanted.send_if_modified(|wanted| {
            let changed = wanted.targets != targets;
            wanted.targets = targets;
            changed
        });
    }

    /// Dials each of these until it has been linked once; all of them again when no link is left, and when this is called again. To
    /// be called now and then with the seeds that are not among the members: that is what joins two halves of a cluster that
    /// have forgotten each other.
    pub fn seeds(&self, seeds: Vec<SocketAddr>) {
        self.0.wanted.send_modify(|wanted| {
            wanted.seeds = seeds.into_iter().chain(std::mem::take(&mut wanted.introduced)).collect();
            wanted.round += 1;
        });
    }

    /// From now on we are this: what has been linked stays linked. The name must be the one that it was.
    pub fn introduce(&self, me: Me) {
        *self.0.me.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(me);
    }

    pub fn me(&self) -> Arc<Me> {
        self.0.me()
    }

    /// Gives the frame to the link of the peer that is reached there; false if there is none or no room, or for gossip if the peer is
    /// silent. Never waits.
    pub fn send(&self, to: SocketAddr, frame: Frame) -> bool {
        let link = self.0.table().at(to, |link| self.0.silent(link)).cloned();
        link.is_some_and(|link| self.0.give(&link, frame))
    }

    /// As [`Peers::send`], by name.
    pub fn tell(&self, node: &str, frame: Frame) -> bool {
        let link = self.0.table().get(node).cloned();
        link.is_some_and(|link| self.0.give(&link, frame))
    }

    /// Tells all peers that we leave the cluster. To be called before what runs the links is dropped, with a moment in between.
    pub fn leave(&self) {
        for link in self.0.table().iter() {
            link.send(Frame::Leave, &self.0.counts);
        }
    }

    /// Asks a peer, over the link's connection if we dialed it and over one of its own otherwise.
    pub async fn ask(&self, to: &str, ask: Ask) -> Result<Reply, Unreachable> {
        dial::ask(&self.0, to, ask).await
    }

    /// Passes a request for a certificate on to a peer, or asks it for a new one of our own.
    pub async fn enrol(&self, to: &str, request: EnrolRequest) -> Result<EnrolReply, Unreachable> {
        dial::pass_on(&self.0, to, request).await
    }

    /// Ordered by name.
    pub fn links(&self) -> Vec<LinkView> {
        let now = self.0.world.now();
        self.0.table().iter().map(|link| link.view(now, &self.0.options.patience)).collect()
    }

    /// Those who are wanted and have no link although they were dialed.
    pub fn unlinked(&self) -> Vec<Unlinked> {
        dial::unlinked(&self.0)
    }

    /// Whether the peer has a link on which it has been heard lately.
    pub fn hears(&self, node: &str) -> bool {
        self.0.table().get(node).is_some_and(|link| !self.0.silent(link))
    }

    /// Changes whenever a link comes or goes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    pub fn counts(&self) -> &Counts {
        &self.0.counts
    }
}

impl Inner {
    fn me(&self) -> Arc<Me> {
        Arc::clone(&self.me.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn table(&self) -> MutexGuard<'_, Table<Arc<Link>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failing(&self) -> MutexGuard<'_, BTreeMap<dial::Goal, dial::Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn telling(&self) -> MutexGuard<'_, ()> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom we do not hear hears no gossip of ours. Where only one way is cut, whoever hears us would take us for alive until the
    /// link is closed, and begin to miss us only then.
    fn give(&self, link: &Link, frame: Frame) -> bool {
        let unheard = matches!(frame, Frame::Gossip { .. }) && self.silent(link);
        !unheard && link.send(frame, &self.counts)
    }

    fn silent(&self, link: &Link) -> bool {
        link.sign(self.world.now(), &self.options.patience) != Sign::Alive
    }

    /// Of the peer's region, some of those whom we know: it may know nobody there, and we may be no part of what tells its region of
    /// it.
    fn introductions(&self, to: &Peer) -> Vec<SocketAddr> {
        if to.region == self.me().region {
            return Vec::new();
        }
        let mut known: BTreeSet<SocketAddr> = self.inbox.members_of(&to.region).into_iter().collect();
        let table = self.table();
        let links = table.iter().filter(|link| link.peer.region == to.region && link.peer.node != to.node && !self.silent(link));
        known.extend(links.map(|link| link.peer.address));
        drop(table);
        known.remove(&to.address);
        // Not always the same ones, so that the first of a region do not carry all.
        let first = usize::try_from(self.world.chance() % known.len().max(1) as u64).unwrap_or_default();
        known.iter().cycle().skip(first).take(INTRODUCED_MAX.min(known.len())).copied().collect()
    }

    fn introduced(&self, members: Vec<SocketAddr>) {
        self.wanted.send_if_modified(|wanted| {
            let before = wanted.introduced.len();
            let room = INTRODUCED_HELD_MAX.saturating_sub(before);
            let new = members.into_iter().filter(|address| !wanted.seeds.contains(address)).take(room);
            wanted.introduced.extend(new.collect::<Vec<_>>());
            wanted.introduced.len() != before
        });
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Tells of a refusal, whoever's it is.
    fn refused(&self, refused: &Refused) {
        let counts = if refused.by_us { &self.counts.refused } else { &self.counts.refused_to_us };
        counts.add(refused.reason);
        // Two links met, or a node is among its own seeds: nobody has to do anything.
        if !matches!(refused.reason, Reason::Duplicate | Reason::Itself) {
            self.inbox.refused(refused);
        }
    }

    fn dial_number(&self) -> u64 {
        self.dials.fetch_add(1, Relaxed) + 1
    }
}
