//! Membership by gossip: who is in the cluster, as every node finds out by itself.
//!
//! There are two levels at every size. The members of a region gossip with each other in the ring of their region; the
//! representatives of the regions gossip in the ring of the world, tell there what is to be known of their regions' members, and
//! pass on into their regions what they hear of others. Both rings are chitchat's. It spreads small facts, each written by
//! the member that it is about, and judges by their heartbeats who is there. Its bytes travel on peer links, so that whoever
//! gossips has proved who it is.
//!
//! From chitchat to the wire and back: `ring.rs` runs chitchat, `scribe.rs` packs what it says and judges what it is told. From
//! there to the [`View`]: `table.rs` holds what a ring has brought, `picture.rs` makes the view of two tables and decides what to say.
//! What a member that lies can still do is said in `scribe.rs`.

mod delta;
mod forgotten;
#[doc(hidden)]
pub mod fuzzing;
mod native;
mod packing;
mod picture;
mod record;
mod relay;
mod ring;
mod roster;
mod scribe;
mod table;
mod told;

use crate::{
    World,
    member::{Facts, Forget, State, View},
};
use bytes::Bytes;
use native::Id;
use picture::{Conflict, Picture, TURN_BITS};
use ring::OpenRing;
pub use ring::decodes;
pub use scribe::Counts as Refused;
use std::{
    collections::BTreeMap,
    future::pending,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

/// How often each ring's members speak to some others. A silent member is noticed after about eight times the mean time between
/// two signs of life, which is about this.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// How often the view follows what chitchat knows.
const LOOK: Duration = Duration::from_millis(250);

/// Who is in the cluster, and what this node says of itself.
pub trait Membership: Send + Sync + 'static {
    fn view(&self) -> Arc<View>;

    /// The version of the view, as it changes.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Says this from now on. Region and address stay the first ones.
    fn publish(&self, facts: Facts);

    /// Says goodbye: whoever hears it does not miss this node. It takes two or three intervals until all have.
    fn leave(&self);

    /// Tells the whole cluster to speak no more of who is gone; `false` if nobody is known by that name, or if it is this node
    /// or its region. Who is alive all the same comes back as a new generation.
    fn forget(&self, whom: &Forget) -> bool;
}

/// Which of the two rings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Ring {
    Region,
    World,
}

/// Who this node is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Me {
    pub cluster: Arc<str>,
    pub node: Arc<str>,
    /// Higher than that of any process before of this name.
    pub generation: u64,
}

/// Who sent something, as the link that it came on has proved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sender {
    pub node: Arc<str>,
    pub region: Arc<str>,
    /// Where it is reached, by its own hello.
    pub address: SocketAddr,
}

/// To whom something goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum To {
    /// The member with this address.
    Member(SocketAddr),
    /// Any one peer that there is a link to, by chance: of this region for [`Ring::Region`], of any other for [`Ring::World`].
    Anyone,
}

/// Carries gossip to peers.
pub trait Wire: Send + Sync + 'static {
    /// Sends it if that is possible at once. Never waits, and may lose it: the next one will say the same.
    fn send(&self, to: To, ring: Ring, bytes: Bytes);
}

/// What has come and gone, counted since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Traffic {
    pub sent_messages: u64,
    pub sent_bytes: u64,
    pub received_messages: u64,
    pub received_bytes: u64,
    /// Came faster than it could be read.
    pub dropped: u64,
    /// Came from a member of another region for this region's ring.
    pub foreign: u64,
    /// Came for a ring that this node is not in.
    pub idle: u64,
}

/// How gossip ended. After any of these [`Gossip::run`] may be called again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// chitchat stopped or panicked. Running again is all there is to do.
    Stopped(String),
    /// Somebody claims more about this node than it has ever said. Running again is a new start that nobody can have forged.
    Forged,
    /// Another process of this name has this later generation. If it is not alive, the wall clock has gone back and
    /// [`Gossip::renew`] with a higher one mends it; if it is, there are two processes with one name.
    Superseded { generation: u64, alive: bool },
    /// An operator has forgotten this node up to this generation, though it is alive. It comes back by [`Gossip::renew`].
    Forgotten { generation: u64 },
}

/// This node's part in the gossip.
pub struct Gossip {
    world: Arc<dyn World>,
    wire: Arc<dyn Wire>,
    me: Me,
    address: SocketAddr,
    region: Arc<str>,
    generation: AtomicU64,
    /// How often this process has entered a ring.
    turn: AtomicU64,
    picture: Mutex<Picture>,
    changed: watch::Sender<u64>,
    wake: Notify,
    region_ring: Mutex<Option<Arc<ring::Desk>>>,
    world_ring: Mutex<Option<Arc<ring::Desk>>>,
    traffic: Arc<ring::Meter>,
}

impl Gossip {
    pub fn new(world: Arc<dyn World>, wire: Arc<dyn Wire>, me: Me, facts: Facts) -> Self {
        let (address, region) = (facts.address, Arc::clone(&facts.region));
        let picture = Picture::new(Arc::clone(&me.node), me.generation, facts);
        Self {
            world,
            wire,
            address,
            region,
            generation: AtomicU64::new(me.generation),
            turn: AtomicU64::new(0),
            changed: watch::Sender::new(picture.view().version),
            picture: Mutex::new(picture),
            wake: Notify::new(),
            region_ring: Mutex::new(None),
            world_ring: Mutex::new(None),
            traffic: Arc::default(),
            me,
        }
    }

    /// Gossips until something is wrong. What has been learned stays, and so does what was published.
    pub async fn run(&self) -> Ended {
        let mut rings = match Rings::open(self).await {
            Ok(rings) => rings,
            Err(why) => return Ended::Stopped(why),
        };
        loop {
            let now = self.world.now();
            rings.look(self).await;
            let (step, version) = {
                let mut picture = lock(&self.picture);
                (picture.step(now), picture.view().version)
            };
            if let Some(conflict) = step.conflict {
                return match conflict {
                    Conflict::Superseded { generation, alive } => Ended::Superseded { generation, alive },
                    Conflict::Forgotten { generation } => Ended::Forgotten { generation },
                };
            }
            if step.changed {
                self.changed.send_replace(version);
            }
            if let Err(why) = rings.follow(self, step).await {
                return Ended::Stopped(why);
            }
            if rings.are_forged() {
                return Ended::Forged;
            }
            tokio::select! {
                biased;
                why = rings.ended() => return Ended::Stopped(why),
                () = self.wake.notified() => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// What a peer sent for one of the rings. Never waits.
    pub fn receive(&self, from: &Sender, ring: Ring, bytes: Bytes) {
        self.traffic.received(bytes.len());
        if ring == Ring::Region && from.region != self.region {
            self.traffic.foreign();
            return;
        }
        let desk = match ring {
            Ring::Region => &self.region_ring,
            Ring::World => &self.world_ring,
        };
        if let Some(desk) = &*lock(desk) {
            desk.put(from.address, bytes);
            return;
        }
        self.traffic.idle();
        if ring == Ring::World && from.region != self.region && lock(&self.picture).knock(&from.region) {
            self.wake.notify_one();
        }
    }

    /// A peer has said goodbye over its link. What others hear of it by gossip is heard at once here.
    pub fn goodbye(&self, node: &Arc<str>, generation: u64) {
        lock(&self.picture).goodbye(node, generation, self.world.now());
        self.wake.notify_one();
    }

    /// The peers that this node has links to, each with its region, whenever they change. It tells them to others as part of whom
    /// it sees; and where a link leads into a region that is not heard, it brings the two together.
    pub fn linked(&self, peers: BTreeMap<Arc<str>, Arc<str>>) {
        lock(&self.picture).linked(peers);
        self.wake.notify_one();
    }

    /// Takes this generation, if it is higher, the next time that it [runs](Self::run).
    pub fn renew(&self, generation: u64) {
        self.generation.fetch_max(generation, Relaxed);
    }

    pub fn traffic(&self) -> Traffic {
        self.traffic.read()
    }

    /// What was not let through since the rings were last entered.
    pub fn refused(&self) -> Refused {
        let mut refused = Refused::default();
        for desk in [&self.region_ring, &self.world_ring] {
            if let Some(desk) = &*lock(desk) {
                refused += desk.refused();
            }
        }
        refused
    }

    /// A new incarnation of this node in a ring.
    fn id(&self) -> Id {
        let turn = self.turn.fetch_add(1, Relaxed) & ((1 << TURN_BITS) - 1);
        let incarnation = self.generation.load(Relaxed) << TURN_BITS | turn;
        Id { name: Arc::clone(&self.me.node), incarnation, address: self.address }
    }

    async fn open(&self, ring: Ring, id: &Id) -> Result<OpenRing, String> {
        let cluster = &self.me.cluster;
        let name = match ring {
            Ring::Region => format!("{cluster}/{}", self.region),
            Ring::World => format!("{cluster}//world"),
        };
        let outside = ring::Outside { world: Arc::clone(&self.world), wire: Arc::clone(&self.wire), meter: Arc::clone(&self.traffic) };
        let opened = OpenRing::open(ring, name, id, outside).await?;
        *lock(self.desk(ring)) = Some(Arc::clone(opened.desk()));
        Ok(opened)
    }

    fn desk(&self, ring: Ring) -> &Mutex<Option<Arc<ring::Desk>>> {
        match ring {
            Ring::Region => &self.region_ring,
            Ring::World => &self.world_ring,
        }
    }
}

impl Membership for Gossip {
    fn view(&self) -> Arc<View> {
        Arc::clone(lock(&self.picture).view())
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn publish(&self, facts: Facts) {
        lock(&self.picture).publish(facts);
        self.wake.notify_one();
    }

    fn leave(&self) {
        lock(&self.picture).leave();
        self.wake.notify_one();
    }

    fn forget(&self, whom: &Forget) -> bool {
        let known = lock(&self.picture).forget(whom, self.world.now());
        self.wake.notify_one();
        known
    }
}

/// The rings of one run. Dropping it ends them.
struct Rings<'a> {
    gossip: &'a Gossip,
    region: OpenRing,
    world: Option<OpenRing>,
    left: bool,
}

impl<'a> Rings<'a> {
    async fn open(gossip: &'a Gossip) -> Result<Self, String> {
        let id = gossip.id();
        let region = gossip.open(Ring::Region, &id).await?;
        let mut picture = lock(&gossip.picture);
        picture.leaves_world();
        picture.enters_region(id, gossip.world.now());
        Ok(Self { gossip, region, world: None, left: false })
    }

    /// Takes in what chitchat knows by now.
    async fn look(&self, gossip: &Gossip) {
        let now = gossip.world.now();
        self.region.look(&gossip.picture, |picture| &mut picture.region, now).await;
        if let Some(world) = &self.world {
            world.look(&gossip.picture, |picture| &mut picture.world, now).await;
        }
    }

    async fn follow(&mut self, gossip: &Gossip, step: picture::Step) -> Result<(), String> {
        let leaves = lock(&gossip.picture).facts().state == State::Left;
        // A goodbye does not wait for the next round.
        let hurry = leaves && !std::mem::replace(&mut self.left, leaves);
        self.region.write(&step.region, hurry).await;
        if let Some(world) = &self.world {
            world.write(&step.world, hurry).await;
            world.set_neighbours(step.neighbours);
            world.meet(&step.unheard);
        }
        if let Some(picture::Mutes { region, world }) = step.mutes {
            self.region.desk().mute(region);
            if let Some(ring) = &self.world {
                ring.desk().mute(world);
            }
        }
        match (&self.world, step.in_world) {
            (None, true) => {
                let id = gossip.id();
                self.world = Some(gossip.open(Ring::World, &id).await?);
                lock(&gossip.picture).enters_world(id, gossip.world.now());
            }
            (Some(_), false) => {
                self.world = None;
                *lock(&gossip.world_ring) = None;
                lock(&gossip.picture).leaves_world();
            }
            (Some(_), true) | (None, false) => {}
        }
        Ok(())
    }

    fn are_forged(&self) -> bool {
        self.region.desk().is_forged() || self.world.as_ref().is_some_and(|world| world.desk().is_forged())
    }

    /// Ends with one of them, and says why.
    async fn ended(&mut self) -> String {
        let world = async {
            match &mut self.world {
                Some(world) => world.ended().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            why = self.region.ended() => why,
            why = world => why,
        }
    }
}

impl Drop for Rings<'_> {
    fn drop(&mut self) {
        *lock(&self.gossip.region_ring) = None;
        *lock(&self.gossip.world_ring) = None;
    }
}

/// What is behind a lock here is whole between any two statements, so a panic elsewhere is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
