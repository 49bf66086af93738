//! One of chitchat's rings: its task, and the socket through which it believes to speak.
//!
//! chitchat waits for its socket, so this one never waits: what cannot go at once is lost, and what comes too fast is dropped
//! before it is looked at.

use super::{
    Ring, To, Traffic, Wire,
    native::Id,
    picture::{Picture, Write},
    scribe::{Counts, Heard, Recipient, Scribe},
    table::{HEARD_FOR, Standing, Table},
    told::Told,
};
use crate::World;
use bytes::Bytes;
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, ChitchatMessage, Deserializable, FailureDetectorConfig, NodeState, Serializable,
    spawn_chitchat,
    transport::{Socket, Transport},
};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// chitchat's word for whomever there is a link to: no member has this address.
const ANYONE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 1);

/// Messages that wait to be read. In each interval about six come for each one that a node sends of its own accord.
const INBOX_MAX: usize = 256;

/// How many mean times between signs of life a member may be silent.
const PHI: f64 = 8.0;

/// The signs of life that the mean is made of: few enough that a change of pace is learned within some minutes.
const SAMPLES: usize = 200;

/// A longer time between two is a silence that has ended, and says nothing about how often they come: in the mean it would keep the
/// next silence from being noticed.
const PAUSE_MAX: Duration = HEARD_FOR;

/// A member that is gone is named to others for half of this, and then dropped. It holds for whoever has not left; who
/// has is muted much sooner.
const DEAD_FOR: Duration = Duration::from_secs(5 * 60);

/// How long it takes until a key that was removed is not told as removed any more.
const TOMBSTONE_FOR: Duration = Duration::from_secs(15 * 60);

/// The peers to which a goodbye goes at once.
const HURRY: usize = 3;

/// What a ring needs of the rest of the node.
pub(super) struct Outside {
    pub(super) world: Arc<dyn World>,
    pub(super) wire: Arc<dyn Wire>,
    pub(super) meter: Arc<Meter>,
}

/// Where messages are put down for a ring, and where it puts down its own.
pub(super) struct Desk {
    ring: Ring,
    scribe: Mutex<Scribe>,
    inbox: mpsc::Sender<(SocketAddr, Bytes)>,
    /// Who of this region should be in the ring, for messages to anyone: the wire knows only who is elsewhere.
    neighbours: Mutex<Vec<SocketAddr>>,
    outside: Outside,
}

impl Desk {
    pub(super) fn put(&self, from: SocketAddr, bytes: Bytes) {
        if self.inbox.try_send((from, bytes)).is_err() {
            self.outside.meter.dropped();
        }
    }

    pub(super) fn mute(&self, ids: BTreeSet<Id>) {
        self.scribe().roster().mute(ids);
    }

    pub(super) fn is_forged(&self) -> bool {
        self.scribe().is_forged()
    }

    pub(super) fn refused(&self) -> Counts {
        self.scribe().counts()
    }

    fn scribe(&self) -> MutexGuard<'_, Scribe> {
        self.scribe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, to: SocketAddr, message: &ChitchatMessage, asker: Option<&Heard>) {
        let now = self.outside.world.now();
        let anyone = to == ANYONE;
        let recipient = match asker {
            Some(heard) => Recipient::Asker(heard),
            None if anyone => Recipient::Anyone,
            None => Recipient::Member(to),
        };
        let packed = self.scribe().pack(&message.serialize_to_vec(), recipient, now);
        if let Some(bytes) = packed {
            self.outside.meter.sent(bytes.len());
            let to = if anyone { self.anyone() } else { To::Member(to) };
            self.outside.wire.send(to, self.ring, bytes.into());
        }
    }

    /// Every other time one of the neighbours, if there are any.
    fn anyone(&self) -> To {
        let neighbours = self.neighbours.lock().unwrap_or_else(PoisonError::into_inner);
        let chance = self.outside.world.chance() as usize;
        match neighbours.get(chance / 2 % neighbours.len().max(1)) {
            Some(neighbour) if chance.is_multiple_of(2) => To::Member(*neighbour),
            Some(_) | None => To::Anyone,
        }
    }

    fn judge(&self, bytes: &[u8]) -> Option<(ChitchatMessage, Option<Heard>)> {
        let judged = self.scribe().judge(bytes, self.outside.world.now())?;
        let message = ChitchatMessage::deserialize(&mut &judged.native[..]);
        Some((message.expect("what has been judged is put together as chitchat reads it"), judged.heard))
    }
}

/// A ring that this node is in. Dropping it is leaving without a word.
pub(super) struct OpenRing {
    handle: ChitchatHandle,
    desk: Arc<Desk>,
    ended: Pin<Box<dyn Future<Output = String> + Send + Sync>>,
}

impl OpenRing {
    pub(super) async fn open(ring: Ring, name: String, id: &Id, outside: Outside) -> Result<Self, String> {
        let (inbox, messages) = mpsc::channel(INBOX_MAX);
        let scribe = Mutex::new(Scribe::new(name.clone(), id.clone(), outside.world.now()));
        let desk = Arc::new(Desk { ring, scribe, inbox, neighbours: Mutex::default(), outside });
        let config = ChitchatConfig {
            chitchat_id: ChitchatId::new(Arc::clone(&id.name), id.incarnation, id.address),
            cluster_id: name,
            gossip_interval: super::INTERVAL,
            listen_addr: id.address,
            seed_nodes: vec![ANYONE.to_string()],
            failure_detector_config: FailureDetectorConfig::new(PHI, SAMPLES, PAUSE_MAX, super::INTERVAL, DEAD_FOR),
            marked_for_deletion_grace_period: TOMBSTONE_FOR,
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let counter = Counter { desk: Arc::clone(&desk), messages: Mutex::new(Some(messages)) };
        let handle = spawn_chitchat(config, Vec::new(), &counter).await.map_err(|error| error.to_string())?;
        let watcher = handle.termination_watcher();
        let ended = Box::pin(async move {
            match watcher.await {
                Ok(()) => "the gossip of a ring ended by itself".to_owned(),
                Err(error) => error.to_string(),
            }
        });
        Ok(Self { handle, desk, ended })
    }

    pub(super) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    pub(super) fn set_neighbours(&self, neighbours: Vec<SocketAddr>) {
        *self.desk.neighbours.lock().unwrap_or_else(PoisonError::into_inner) = neighbours;
    }

    /// Speaks to one of these. chitchat does so by itself only now and then where it has many dead to try, and who has left is among
    /// them for minutes.
    pub(super) fn meet(&self, unheard: &[SocketAddr]) {
        let first = self.desk.outside.world.chance() as usize % unheard.len().max(1);
        if let Some(address) = unheard.get(first) {
            // It has ended, and whoever runs it learns of it.
            let _ = self.handle.gossip(*address);
        }
    }

    /// Ends when chitchat's task does. Not to be waited for again after that.
    pub(super) async fn ended(&mut self) -> String {
        (&mut self.ended).await
    }

    /// Brings a table up to what chitchat knows.
    pub(super) async fn look(&self, picture: &Mutex<Picture>, table: impl FnOnce(&mut Picture) -> &mut Table, now: Instant) {
        let chitchat = self.handle.chitchat();
        let chitchat = chitchat.lock().await;
        let live: std::collections::HashSet<&ChitchatId> = chitchat.live_nodes().collect();
        let mut picture = picture.lock().unwrap_or_else(PoisonError::into_inner);
        let table = table(&mut picture);
        table.look(now);
        for (id, node) in chitchat.node_states() {
            let standing = Standing {
                live: live.contains(id),
                heartbeat: node.heartbeat().into(),
                version: node.max_version(),
                collected: node.last_gc_version(),
            };
            table.see(own_id(id), standing, keys(node), now);
        }
        table.all_seen();
    }

    /// Changes this node's keys; in a hurry, tells some peers of it at once.
    pub(super) async fn write(&self, writes: &[Write], hurry: bool) {
        if writes.is_empty() && !hurry {
            return;
        }
        let chitchat = self.handle.chitchat();
        let mut chitchat = chitchat.lock().await;
        let own = chitchat.self_node_state();
        for write in writes {
            match write {
                Write::Set(key, value) => own.set(key, value),
                Write::Delete(key) => own.delete(key),
            }
        }
        self.desk.scribe().writes(own.max_version());
        if hurry {
            let own = chitchat.self_chitchat_id();
            let mut others: Vec<SocketAddr> = chitchat.live_nodes().filter(|id| *id != own).map(|id| id.gossip_advertise_addr).collect();
            others.sort();
            let first = self.desk.outside.world.chance() as usize % others.len().max(1);
            for address in others.iter().cycle().skip(first).take(HURRY.min(others.len())) {
                // It has ended, and whoever runs it learns of it.
                let _ = self.handle.gossip(*address);
            }
        }
    }
}

impl Drop for OpenRing {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

fn own_id(id: &ChitchatId) -> Id {
    Id { name: Arc::clone(&id.node_id), incarnation: id.generation_id, address: id.gossip_advertise_addr }
}

fn keys(node: &NodeState) -> impl Iterator<Item = (&str, Option<&str>, u64)> {
    let value = |value: &chitchat::VersionedValue| !value.is_deleted();
    node.key_values_including_deleted().map(move |(key, versioned)| (key, value(versioned).then_some(&*versioned.value), versioned.version))
}

/// Whether chitchat is given anything of a message, by a ring of three members that judges it: every decoder of what
/// peers send as gossip in one call, for whoever wants to throw bytes at them.
pub fn decodes(bytes: &[u8], now: Instant) -> bool {
    let id = |name: &str, last| Id { name: name.into(), incarnation: 1 << 20, address: ([10, 0, 0, last], 7400).into() };
    let mut scribe = Scribe::new("fuzz/eu".to_owned(), id("n1", 1), now);
    scribe.roster().admit(&id("n2", 2), now);
    scribe.roster().admit(&id("n3", 3), now);
    scribe.roster().mute(BTreeSet::from([id("n3", 3)]));
    let mut told = Told::default();
    if let Some((key, value)) = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once('=')) {
        told.take(key, Some(value));
    }
    let judged = scribe.judge(bytes, now);
    judged.is_some_and(|judged| {
        ChitchatMessage::deserialize(&mut &judged.native[..]).expect("what has been judged is put together as chitchat reads it")
            != ChitchatMessage::BadCluster
    })
}

/// Hands out the one socket.
struct Counter {
    desk: Arc<Desk>,
    messages: Mutex<Option<mpsc::Receiver<(SocketAddr, Bytes)>>>,
}

#[async_trait::async_trait]
impl Transport for Counter {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner).take();
        let messages = messages.ok_or_else(|| anyhow::anyhow!("a ring has one socket"))?;
        Ok(Box::new(Mouth { desk: Arc::clone(&self.desk), messages, asker: None }))
    }
}

struct Mouth {
    desk: Arc<Desk>,
    messages: mpsc::Receiver<(SocketAddr, Bytes)>,
    /// Whose Syn chitchat has been given last. It answers before it takes anything else.
    asker: Option<(SocketAddr, Heard)>,
}

#[async_trait::async_trait]
impl Socket for Mouth {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let answers = matches!(message, ChitchatMessage::SynAck { .. });
        let asker = self.asker.take_if(|(from, _)| answers && *from == to);
        self.desk.send(to, &message, asker.as_ref().map(|(_, heard)| heard));
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let (from, bytes) = self.messages.recv().await.ok_or_else(|| anyhow::anyhow!("the ring has been left"))?;
            if let Some((message, heard)) = self.desk.judge(&bytes) {
                self.asker = heard.map(|heard| (from, heard));
                return Ok((from, message));
            }
        }
    }
}

/// Counts what comes and goes, of both rings.
#[derive(Default)]
pub(super) struct Meter {
    sent_messages: AtomicU64,
    sent_bytes: AtomicU64,
    received_messages: AtomicU64,
    received_bytes: AtomicU64,
    dropped: AtomicU64,
    foreign: AtomicU64,
    idle: AtomicU64,
}

impl Meter {
    fn sent(&self, bytes: usize) {
        self.sent_messages.fetch_add(1, Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received_messages.fetch_add(1, Relaxed);
        self.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    fn dropped(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    pub(super) fn foreign(&self) {
        self.foreign.fetch_add(1, Relaxed);
    }

    pub(super) fn idle(&self) {
        self.idle.fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> Traffic {
        Traffic {
            sent_messages: self.sent_messages.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            received_messages: self.received_messages.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            foreign: self.foreign.load(Relaxed),
            idle: self.idle.load(Relaxed),
        }
    }
}
