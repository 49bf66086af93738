//! What tests of this folder play on: a clock that is set, a cluster with its authorities, and two ends of a connection.

use super::{
    authority::{Authority, Root},
    tls::{Names, Tls},
};
use crate::world::RealWorld;
use ::cluster::{
    BoxFuture, BoxStream, Disk, Listener, World,
    dns::{Answer, Question},
    keyring::{Key, Keyring},
    store::{Credentials, Memory, Signer},
    trust::{Identity, Trust},
};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// 2026-01-01.
const TODAY: u64 = 1_767_225_600;

pub(super) const LIFE: Duration = Duration::from_secs(600);

/// A world that has a date and nothing else.
pub(super) struct Stage(AtomicU64);

impl Stage {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(TODAY)))
    }

    pub(super) fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, SeqCst);
    }
}

impl World for Stage {
    fn now(&self) -> Instant {
        unreachable!("certificates go by the date")
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0.load(SeqCst))
    }

    fn chance(&self) -> u64 {
        0
    }

    fn listen(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        unreachable!("connections are in memory")
    }

    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        unreachable!("connections are in memory")
    }

    fn lookup<'a>(&'a self, _: &'a [SocketAddr], _: &'a Question) -> BoxFuture<'a, Answer> {
        unreachable!("nobody is looked up")
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()> {
        Box::pin(async { work() })
    }

    fn disk(&self) -> Arc<dyn Disk> {
        RealWorld::new().disk()
    }
}

/// A cluster as `shoal cluster init` makes it.
pub(super) struct Made {
    pub(super) world: Arc<Stage>,
    pub(super) root: Root,
    pub(super) cluster: Arc<str>,
}

impl Made {
    pub(super) fn new(world: &Arc<Stage>) -> Self {
        Self { world: world.clone(), root: Root::make("shop", world.wall()).expect("a root"), cluster: "shop".into() }
    }

    pub(super) fn signer(&self, region: &str) -> Signer {
        self.root.authority(&self.cluster, region, LIFE, self.world.wall()).expect("an authority")
    }

    pub(super) fn credentials(&self, region: &str, node: &str) -> Credentials {
        let authority = Authority::open(&self.cluster, &self.signer(region)).expect("its own authority");
        authority.first(node, self.world.wall()).expect("a certificate")
    }

    pub(super) fn tls(&self, credentials: &Credentials) -> Tls {
        Tls::new(self.world.clone(), self.names(), credentials).expect("good certificates")
    }

    pub(super) fn names(&self) -> Names {
        Names::Own { cluster: self.cluster.clone() }
    }

    /// The memory of a node that lets others into a region.
    pub(super) fn memory(&self, region: &str) -> Arc<Memory> {
        let memory = empty();
        // There is no disk to keep it on: it counts all the same.
        let _ = memory.keep_keyring(&keyring(1));
        let _ = memory.keep_signer(&self.signer(region));
        memory
    }
}

pub(super) fn empty() -> Arc<Memory> {
    Arc::new(Memory::open(RealWorld::new().disk(), None).expect("nobody has it open"))
}

pub(super) fn keyring(seed: u8) -> Keyring {
    Keyring::new([seed, seed + 1, seed + 2].map(|seed| Key::new([seed; 32])))
}

pub(super) fn identity(node: &str, region: Option<&str>) -> Identity {
    Identity { node: node.into(), region: region.map(Arc::from) }
}

type Accepted = io::Result<(BoxStream, Option<Identity>)>;
type Connected = io::Result<(BoxStream, Identity)>;

/// Lets one connect to the other.
pub(super) async fn meet(caller: &dyn Trust, called: &dyn Trust) -> (Connected, Accepted) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::join!(caller.connect(Box::new(near)), called.accept(Box::new(far)))
}
