//! A node's part in its cluster: what it remembers, whom it is linked to, whom it knows, and what it says of itself.
//!
//! Nothing here is needed to serve. A node without peers is a complete gateway, and so is one that has no certificate yet,
//! whose disk is full, or whose gossip has just failed: each of these is tried again beside the requests, by a duty below
//! `root/cluster`, and told of.
//!
//! | duty          | what it does                                                                   |
//! |---------------|--------------------------------------------------------------------------------|
//! | `certificate` | gets one by a token, renews it before it expires, reads files that have changed |
//! | `door`        | lets peers in                                                                  |
//! | `links`       | dials peers                                                                    |
//! | `seeds`       | looks where nodes may be found that are not known yet                          |
//! | `membership`  | gossips                                                                        |
//! | `course`      | follows what gossip brings: whom to link, whom to remember, whom to believe    |
//! | `news`        | tells what has changed about this node                                         |

mod certificate;
mod duties;
mod inbox;
mod measure;
mod said;
mod show;

use super::{
    enrol::Desk,
    means::{Means, MeansError},
    tls::Tls,
};
use crate::{node::Node, tls::Read};
use actors::{
    duty,
    supervisor::{Branch, NotAdded},
};
use cluster::{
    BoxFuture, BoxStream, Listener, Stamp, World,
    gossip::{self, Gossip},
    keyring::Keyring,
    member::{Facts, State},
    offload,
    peers::{self, Me, Peers},
    store::Memory,
    token::Token,
    trust::{Claimed, Identity, Trust},
};
use config::{Gateway, Secret, Seed};
use duties::Work;
use said::Said;
use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::Notify;

const BUILD: &str = env!("CARGO_PKG_VERSION");

/// How long goodbyes may take to get away.
const GOODBYE: Duration = Duration::from_millis(300);

/// What a node is told beside its configuration.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Nobody proves who it is; on loopback and in simulations alone.
    pub insecure_dev: bool,
    /// Comes before the token of the file.
    pub token: Option<Secret>,
}

/// Why a node with a `[cluster]` does not start.
#[derive(Debug)]
pub enum PartError {
    Means(MeansError),
    Bind { address: SocketAddr, error: io::Error },
}

pub(crate) struct Part {
    world: Arc<dyn World>,
    settings: config::Cluster,
    site: config::Node,
    generation: u64,
    memory: Arc<Memory>,
    desk: Desk,
    trust: Arc<Trusting>,
    /// How the node comes by a certificate, where it is not there from the beginning and for ever.
    papers: Mutex<Papers>,
    peers: Peers,
    gossip: Arc<Gossip>,
    /// Bound by the start, until the door takes it.
    listener: Mutex<Option<Box<dyn Listener>>>,
    bound: SocketAddr,
    /// Where an operator said that there is a cluster.
    told: Mutex<Vec<Seed>>,
    /// There is reason to look for nodes before it is time.
    seek_now: Notify,
    node: OnceLock<Weak<Node>>,
    said: Mutex<Said>,
    renewals: AtomicU64,
    /// How the file of the memory was when it was read last.
    stamped: Mutex<Option<Stamp>>,
}

/// What a node shows of itself.
enum Papers {
    /// Nobody asks for any.
    None,
    Token(Token),
    /// Made by the cluster.
    Own(Arc<Tls>),
    /// Made by somebody else, who also renews it.
    Outside(Arc<Tls>),
}

/// Trust that may still have to come.
#[derive(Default)]
struct Trusting(OnceLock<Arc<dyn Trust>>);

impl Part {
    /// Remembers, decides how to show itself, and binds. Whatever may be mended later is no error.
    pub(crate) async fn begin(
        world: &Arc<dyn World>,
        gateway: &Gateway,
        given: &Given,
        memory: Option<&Arc<Memory>>,
    ) -> Result<Option<Arc<Self>>, PartError> {
        let (Some(settings), Some(memory)) = (gateway.cluster.clone(), memory.cloned()) else { return Ok(None) };
        let site = gateway.node.clone();
        let (means, generation) = offload(&**world, {
            let (world, settings, site, given, memory) = (world.clone(), settings.clone(), site.clone(), given.clone(), memory.clone());
            move || {
                let disk = world.disk();
                let read = |path: &Path| disk.read(path);
                let read: Read<'_> = &read;
                let means = Means::of(&settings, &site, given.insecure_dev, given.token.as_ref(), &memory, read, &world);
                let means = means.map_err(PartError::Means)?;
                let generation = memory.begin(world.wall());
                Ok((means, generation))
            }
        })
        .await?;
        let socket = world.listen(settings.bind).await.map_err(|error| PartError::Bind { address: settings.bind, error })?;
        let bound = socket.address();
        let mut address = settings.advertise;
        if address.port() == 0 {
            address.set_port(bound.port());
        }

        let trust = Arc::new(Trusting::default());
        let (papers, keyring) = match means {
            Means::Claimed { keyring } => {
                trust.become_(Arc::new(Claimed::new(site.name.clone(), Some(site.region.clone()))));
                (Papers::None, Some(keyring))
            }
            Means::Certified { tls, keyring, own, .. } => {
                let tls = Arc::new(tls);
                trust.become_(tls.clone());
                (if own { Papers::Own(tls) } else { Papers::Outside(tls) }, Some(keyring))
            }
            Means::Join(token) => (Papers::Token(token), None),
        };
        let me = me(&settings, &site, generation, address, keyring.as_ref());
        let facts = facts(&site, address, gateway.common().0, State::Joining);
        Ok(Some(Arc::new_cyclic(|part: &Weak<Self>| Self {
            peers: Peers::new(world.clone(), trust.clone(), me, Arc::new(inbox::Ear(part.clone())), peers::Options::default()),
            gossip: Arc::new(Gossip::new(
                world.clone(),
                Arc::new(inbox::Carrier(part.clone())),
                gossip::Me { cluster: settings.name.clone(), node: site.name.clone(), generation },
                facts,
            )),
            desk: Desk::new(settings.name.clone(), memory.clone()),
            world: world.clone(),
            settings,
            site,
            generation,
            memory,
            trust,
            papers: Mutex::new(papers),
            listener: Mutex::new(Some(socket)),
            bound,
            told: Mutex::default(),
            seek_now: Notify::new(),
            node: OnceLock::new(),
            said: Mutex::default(),
            renewals: AtomicU64::new(0),
            stamped: Mutex::default(),
        })))
    }

    /// From now on it speaks for this node, and everything that it does is done by somebody below `branch`.
    pub(crate) fn attend(self: &Arc<Self>, node: &Arc<Node>, branch: &Arc<Branch>) -> Result<(), NotAdded> {
        // A node attends once, when it starts.
        let _ = self.node.set(Arc::downgrade(node));
        if let Some(trouble) = self.memory.trouble() {
            self.say("memory", &trouble.to_string());
        }
        for damaged in self.memory.damaged() {
            self.say(&format!("memory {damaged}"), &format!("what was remembered as {damaged} is damaged, and counts as forgotten"));
        }
        for work in Work::ALL {
            branch.add(duty::child(branch, work.name(), "duty", duties::of(self, work)))?;
        }
        Ok(())
    }

    /// Where other nodes reach this one, and where that is bound.
    pub(crate) fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.peers.me().address, self.bound)
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// Says goodbye to whoever hears it, so that nobody has to miss this node.
    pub(crate) async fn leave(&self) {
        use gossip::Membership;
        self.gossip.leave();
        self.peers.leave();
        if !self.peers.links().is_empty() {
            tokio::time::sleep(GOODBYE).await;
        }
    }

    /// The secrets are these from now on.
    fn hold(&self, keyring: &Keyring) {
        let me = self.peers.me();
        self.peers.introduce(self::me(&self.settings, &self.site, self.generation, me.address, Some(keyring)));
    }

    fn node(&self) -> Option<Arc<Node>> {
        self.node.get().and_then(Weak::upgrade)
    }

    fn stamped(&self) -> MutexGuard<'_, Option<Stamp>> {
        self.stamped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One line on standard error, about one thing. What was said of it is not said again before a minute is over, and nobody is
    /// heard without end.
    fn say(&self, about: &str, line: &str) {
        self.say_as(about, line, line);
    }

    /// As [`Part::say`], where `gist` tells whether it is the same: a line may hold what is another each time.
    fn say_as(&self, about: &str, gist: &str, line: &str) {
        use std::io::Write;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).say(about, gist, self.world.now());
        let Some(unsaid) = said else { return };
        let more = if unsaid > 0 { format!(" ({unsaid} lines before this one were too many to say)") } else { String::new() };
        // Where standard error is gone, metrics and the admin pages still tell.
        let _ = writeln!(io::stderr(), "cluster: {line}{more}");
    }

    /// How often this node's certificate was replaced by a later one.
    pub(crate) fn renewals(&self) -> u64 {
        self.renewals.load(Relaxed)
    }
}

fn me(settings: &config::Cluster, site: &config::Node, generation: u64, address: SocketAddr, keyring: Option<&Keyring>) -> Me {
    Me {
        cluster: settings.name.clone(),
        node: site.name.clone(),
        generation,
        region: site.region.clone(),
        zone: site.zone.clone(),
        address,
        secrets: keyring.map(Keyring::fingerprint).unwrap_or_default(),
        also: keyring.map(|keyring| keyring.fingerprints().collect()).unwrap_or_default(),
        build: BUILD.into(),
    }
}

fn facts(site: &config::Node, address: SocketAddr, configuration: Arc<str>, state: State) -> Facts {
    Facts {
        region: site.region.clone(),
        zone: site.zone.clone(),
        address,
        protocol: peers::protocols(),
        build: BUILD.into(),
        state,
        configuration,
        load: 0,
        health: BTreeMap::new(),
    }
}

impl Trusting {
    /// The first trust stays: what is in it may be replaced.
    fn become_(&self, trust: Arc<dyn Trust>) {
        let _ = self.0.set(trust);
    }
}

impl Trust for Trusting {
    fn accept(&self, stream: BoxStream) -> BoxFuture<'_, io::Result<(BoxStream, Option<Identity>)>> {
        match self.0.get() {
            Some(trust) => trust.accept(stream),
            None => Box::pin(async { Err(early()) }),
        }
    }

    fn connect(&self, stream: BoxStream) -> BoxFuture<'_, io::Result<(BoxStream, Identity)>> {
        match self.0.get() {
            Some(trust) => trust.connect(stream),
            None => Box::pin(async { Err(early()) }),
        }
    }
}

/// Not a matter of trust: it will be there soon.
fn early() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "this node has no certificate yet")
}

impl fmt::Display for PartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Means(error) => write!(f, "[cluster]: {error}"),
            Self::Bind { address, error } if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "[cluster] bind: {address} is in use by another process; stop it or bind elsewhere")
            }
            Self::Bind { address, error } => write!(f, "[cluster] bind: {address} cannot be bound: {error}"),
        }
    }
}

impl std::error::Error for PartError {}
