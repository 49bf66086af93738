//! From a gateway and a world to a node that serves, top to bottom: whatever can be wrong is found before anything is
//! bound, and everything is bound before anything is accepted.

use crate::{
    admin::serve,
    cluster::part::{Given, Part, PartError},
    drain::{Drain, Leaving, Stage},
    listener::{self, LiveListener, Settings},
    memory::Kept,
    node::{Node, Numbers},
    snapshot::{Fnv, Lasting, PrepareError, Snapshot},
    supervision::{self, Supervision},
    telemetry::{
        access_log::AccessLog,
        metrics::{ListenerMetrics, Metrics},
    },
    tls::{Read, ServerTls, SystemRoots, TlsError},
    upstream::Upstreams,
};
use actors::{
    inspect::Drill,
    keeper::Keeper,
    limiter::{self, Limiter},
};
use arc_swap::ArcSwap;
use cluster::{
    World, offload,
    store::{Memory, StoreError},
};
use config::{Diff, Gateway, ListenerName};
use std::{
    error::Error,
    fmt, io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};

/// How often the way out looks whether the last connection is gone.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// How many keys of limits have a bucket of their own at the same time: about 90 MB if all of them come.
const LIMIT_KEYS: usize = 1_000_000;

/// How long the last lines of the access log may take.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Why a node does not start, or a revision is not applied. One sentence, with what to do about it where that is known.
#[derive(Debug)]
pub enum StartError {
    Tls {
        part: String,
        error: TlsError,
    },
    Bind {
        part: String,
        address: SocketAddr,
        error: io::Error,
    },
    Cluster(PartError),
    /// Another node remembers in the same folder.
    Memory(StoreError),
    /// The node itself listens on what a reload would have it listen on otherwise.
    Held {
        part: String,
        address: SocketAddr,
        held: SocketAddr,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(error) => write!(f, "{error}"),
            Self::Memory(error) => write!(f, "[node] state_dir: {error}"),
            Self::Tls { part, error } => write!(f, "{part}: {error}"),
            Self::Bind { part, address, error } if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "{part}: {address} is in use by another process; stop it or bind elsewhere")
            }
            Self::Bind { part, address, error } if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "{part}: not permitted to bind {address}; ports below 1024 need CAP_NET_BIND_SERVICE")
            }
            Self::Bind { part, address, error } => write!(f, "{part}: {address} cannot be bound: {error}"),
            Self::Held { part, address, held } => {
                write!(f, "{part}: {address} cannot be bound while this node listens on {held}; restart it, or take another port")
            }
        }
    }
}

impl Error for StartError {}

impl From<PrepareError> for StartError {
    fn from(error: PrepareError) -> Self {
        Self::Tls { part: format!("[service.{}] tls", error.service), error: error.error }
    }
}

/// A node that serves.
pub struct Running {
    pub(crate) node: Arc<Node>,
    admin: Option<SocketAddr>,
    admin_token: config::Secret,
    tasks: Vec<JoinHandle<()>>,
    keeper: Keeper,
    /// One revision after the other: two reloads at once would race for the listeners.
    applying: tokio::sync::Mutex<()>,
}

/// Starts a node. When this returns, every address is bound and answers.
pub async fn start(world: Arc<dyn World>, gateway: Gateway) -> Result<Running, StartError> {
    start_given(world, gateway, Given::default()).await
}

/// As [`start`], with what is not written into a configuration.
pub async fn start_given(world: Arc<dyn World>, gateway: Gateway, given: Given) -> Result<Running, StartError> {
    let gateway = Arc::new(gateway);
    let metrics = Arc::new(Metrics::new(gateway.telemetry.max_series));
    let seed = (u128::from(world.chance()) << 64 | u128::from(world.chance())).to_le_bytes();
    let limiter = Arc::new(Limiter::new(limiter::Options { capacity: LIMIT_KEYS, seed, epoch: world.now() }));
    let upstreams = Upstreams::default();
    upstreams.name_servers.set(&gateway.node.dns);
    let roots = SystemRoots::default();
    let disk = world.disk();
    let read = |path: &Path| disk.read(path);

    let lasting = Lasting {
        upstreams: &upstreams,
        limiter: &limiter,
        metrics: &metrics,
        roots: &roots,
        world: &world,
        now: world.now(),
        before: None,
    };
    let snapshot = Snapshot::prepare(gateway.clone(), &lasting, &read, world.wall())?;
    let settings = listener_settings(&gateway, &[], &read, &*world)?;
    let admin_token = gateway.admin.token.clone().unwrap_or_else(|| fresh_token(&*world));
    let admin_tls = admin_tls(&gateway, &read, &*world)?;

    let mut sockets = Vec::new();
    for settings in &settings {
        for address in &settings.listener.bind {
            let socket = bind(&*world, format!("[listen.{}]", settings.listener.name), *address).await?;
            sockets.push((settings.clone(), *address, socket));
        }
    }
    let admin_socket = match gateway.admin.bind {
        Some(address) => Some(bind(&*world, "[admin]".to_string(), address).await?),
        None => None,
    };

    let memory = remember(&world, &gateway).await?;
    let part = Part::begin(&world, &gateway, &given, memory.as_ref()).await.map_err(StartError::Cluster)?;
    let numbers = Numbers::new(&metrics, &*world);
    let threads = gateway.node.workers.unwrap_or(8);
    let access_log = AccessLog::new(threads, numbers.node.access_log_dropped.clone());
    access_log.send_to(&gateway.telemetry.access_log.to);
    let node = Arc::new(Node {
        numbers,
        world: world.clone(),
        snapshot: ArcSwap::from_pointee(snapshot),
        upstreams,
        supervision: Supervision::new(world.clone(), &limiter),
        limiter,
        roots,
        metrics,
        access_log,
        census: Arc::default(),
        listeners: Default::default(),
        drain: Drain::default(),
        started: AtomicBool::new(false),
        told_to_leave: watch::Sender::new(None),
        part,
        memory,
    });
    node.numbers.revision(&gateway.revision, settings.iter().filter_map(|settings| settings.tls.as_deref()));
    for (settings, bound_as, socket) in sockets {
        listen(&node, settings, bound_as, socket);
    }
    let mut tasks = Vec::new();
    let admin = admin_socket.as_ref().map(|socket| socket.address());
    if let Some(socket) = admin_socket {
        tasks.push(tokio::spawn(serve::accept(node.clone(), admin_token.clone(), admin_tls, socket)));
    }
    tasks.push(tokio::spawn({
        let node = node.clone();
        async move { node.upstreams.count_ticks().await }
    }));
    tasks.push(tokio::spawn({
        let node = node.clone();
        async move { node.access_log.run(&*node.world, complain).await }
    }));
    attend(&node);
    keep(&node, &gateway).await;
    if let Some(part) = &node.part {
        supervision::complain(&node.supervision.take_part(&node, part));
    }
    let keeper = node.supervision.start();
    node.started.store(true, SeqCst);
    Ok(Running { node, admin, admin_token, tasks, keeper, applying: tokio::sync::Mutex::new(()) })
}

impl Running {
    /// What listens where, in the order of names.
    pub fn addresses(&self) -> Vec<(ListenerName, SocketAddr)> {
        let listeners = self.node.listeners();
        listeners.values().map(|serves| serves.borrow().clone()).map(|live| (live.name.clone(), live.address)).collect()
    }

    /// What the cluster is called, where other nodes reach this one, and where that is bound.
    pub fn cluster(&self) -> Option<(Arc<str>, SocketAddr, SocketAddr)> {
        let part = self.node.part.as_ref()?;
        let (advertised, bound) = part.addresses();
        Some((part.name().clone(), advertised, bound))
    }

    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The token that the admin listener asks for: the configured one, or the one made at the start.
    pub fn admin_token(&self) -> &config::Secret {
        &self.admin_token
    }

    pub fn gateway(&self) -> Arc<Gateway> {
        self.node.snapshot.load().gateway.clone()
    }

    pub fn world(&self) -> &Arc<dyn World> {
        &self.node.world
    }

    /// Returns when an operator has told the node to leave: then it should be drained.
    pub async fn told_to_leave(&self) -> Leaving {
        let mut told = self.node.told_to_leave.subscribe();
        let leaving = told.wait_for(Option::is_some).await.ok().and_then(|leaving| *leaving);
        leaving.expect("the node holds the sender, and is held by this")
    }

    /// Connections that are open, on all listeners.
    pub fn connections(&self) -> usize {
        self.node.census.total()
    }

    /// Counts a revision that was not applied.
    pub fn rejected_revision(&self) {
        self.node.numbers.node.config_rejected.add(1);
    }

    /// Makes a revision live, or changes nothing and says why.
    ///
    /// Connections stay: those on a listener that is gone end as if the node drained.
    pub async fn apply(&self, gateway: Gateway) -> Result<Diff, StartError> {
        let _one_at_a_time = self.applying.lock().await;
        let applied = self.apply_alone(Arc::new(gateway)).await;
        match &applied {
            Ok(_) => self.node.numbers.node.config_applied.add(1),
            Err(_) => self.rejected_revision(),
        }
        applied
    }

    async fn apply_alone(&self, gateway: Arc<Gateway>) -> Result<Diff, StartError> {
        let node = &self.node;
        let before = node.snapshot.load_full();
        let diff = config::diff(&before.gateway, &gateway);
        // Thousands of routes take a while: not on a thread that serves.
        let (snapshot, settings) = offload(&*node.world, {
            let (node, gateway) = (node.clone(), gateway.clone());
            move || {
                let disk = node.world.disk();
                let read = |path: &Path| disk.read(path);
                let lasting = Lasting {
                    upstreams: &node.upstreams,
                    limiter: &node.limiter,
                    metrics: &node.metrics,
                    roots: &node.roots,
                    world: &node.world,
                    now: node.world.now(),
                    before: Some(&before),
                };
                let snapshot = Snapshot::prepare(gateway.clone(), &lasting, &read, node.world.wall())?;
                let settings = listener_settings(&gateway, &node.listener_settings(), &read, &*node.world)?;
                Ok::<_, StartError>((snapshot, settings))
            }
        })
        .await?;

        let mut sockets = Vec::new();
        for settings in &settings {
            for address in &settings.listener.bind {
                if !self.is_bound(&settings.listener.name, *address) {
                    let part = format!("[listen.{}]", settings.listener.name);
                    if let Some(held) = self.holds(*address) {
                        return Err(StartError::Held { part, address: *address, held });
                    }
                    sockets.push((settings.clone(), *address, bind(&*node.world, part, *address).await?));
                }
            }
        }

        // From here on nothing can fail.
        node.metrics.set_series_max(gateway.telemetry.max_series);
        node.access_log.send_to(&gateway.telemetry.access_log.to);
        node.upstreams.name_servers.set(&gateway.node.dns);
        let replaced = node.snapshot.swap(Arc::new(snapshot));
        self.rename_listeners(&settings, gateway.node.drain_bound);
        self.keep_or_close_listeners(&settings, gateway.node.drain_bound);
        for (settings, bound_as, socket) in sockets {
            listen(node, settings, bound_as, socket);
        }
        node.numbers.revision(&gateway.revision, settings.iter().filter_map(|settings| settings.tls.as_deref()));
        keep(node, &gateway).await;
        // Places for thousands of services take a while, and freeing thousands of routes is as long as making them.
        offload(&*node.world, {
            let node = node.clone();
            move || {
                attend(&node);
                node.retire_series();
                drop(replaced);
            }
        })
        .await;
        Ok(diff)
    }

    fn keep_or_close_listeners(&self, settings: &[Arc<Settings>], bound: Duration) {
        let mut gone = Vec::new();
        self.node.listeners().retain(|(name, address), serves| {
            let kept = settings.iter().find(|settings| settings.listener.name == *name && settings.listener.bind.contains(address));
            match kept {
                Some(settings) => serves.borrow().settings.store(settings.clone()),
                None => gone.push(serves.borrow().clone()),
            }
            kept.is_some()
        });
        for live in gone {
            live.drain.advance(Stage::Closed);
            abort_after(&self.node, live, bound);
        }
    }

    /// Whether the node listens there, under this name or another one. Port 0 is another port each time.
    fn is_bound(&self, name: &ListenerName, address: SocketAddr) -> bool {
        let listeners = self.node.listeners();
        listeners.keys().any(|(known, bound)| *bound == address && (known == name || address.port() != 0))
    }

    /// An address of the node itself that another one could not be bound beside.
    fn holds(&self, address: SocketAddr) -> Option<SocketAddr> {
        let listeners = self.node.listeners();
        listeners.values().map(|serves| serves.borrow().address).chain(self.admin).find(|held| config::collide(*held, address))
    }

    /// Hands addresses over to listeners of other names, without a moment in which nobody accepts.
    fn rename_listeners(&self, settings: &[Arc<Settings>], bound: Duration) {
        let mut listeners = self.node.listeners();
        for settings in settings {
            let name = &settings.listener.name;
            for address in settings.listener.bind.iter().filter(|address| address.port() != 0) {
                if listeners.contains_key(&(name.clone(), *address)) {
                    continue;
                }
                let other = listeners.keys().find(|(_, bound)| bound == address).cloned();
                let Some(serves) = other.and_then(|other| listeners.remove(&other)) else { continue };
                let next = live(&self.node, settings.clone(), serves.borrow().address);
                let before = serves.send_replace(next);
                listeners.insert((name.clone(), *address), serves);
                // Connections that it accepted go on under its rules, and end with their next answer.
                before.drain.advance(Stage::Announced);
                abort_after(&self.node, before, bound);
            }
        }
    }

    /// Leaves: announces, waits for `wait`, accepts no more, lets what is in flight take up to `bound`, and ends.
    ///
    /// Returns how many connections had to be cut off.
    pub async fn drain(self, wait: Duration, bound: Duration) -> usize {
        let node = &self.node;
        node.leave(Stage::Announced);
        let announced = node.world.now();
        while node.world.now() - announced < wait && node.census.total() > 0 {
            tokio::time::sleep(DRAIN_LOOK.min(wait)).await;
        }
        // Load balancers that saw no connection still need the time to notice.
        tokio::time::sleep(wait.saturating_sub(node.world.now() - announced)).await;
        node.leave(Stage::Closed);
        self.deserted(bound).await;
        let cut_off = node.census.total();
        if let Some(part) = &node.part {
            part.leave().await;
        }
        node.leave(Stage::Aborted);
        // Those that were cut off have a line in the access log too, which they write as they end.
        self.deserted(LAST_LINES).await;
        // A drill that makes an actor stand still is over with the node.
        for slot in node.supervision.tree().slots() {
            let _ = slot.drill(Drill::Release);
        }
        self.keeper.stop().await;
        for task in self.tasks {
            task.abort();
            // Cancelled is what it was told to be.
            let _ = task.await;
        }
        // Standard output may be blocked for ever: lines are not worth that.
        let _ = tokio::time::timeout(LAST_LINES, node.access_log.flush(&*node.world)).await;
        cut_off
    }

    /// Waits until no connection is open, or for `bound`.
    async fn deserted(&self, bound: Duration) {
        let began = self.node.world.now();
        let accepts = || self.node.listeners().values().any(|serves| serves.borrow().accepts.load(SeqCst));
        while (accepts() || self.node.census.total() > 0) && self.node.world.now() - began < bound {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }
}

/// What the node remembers, if it has a place for it.
async fn remember(world: &Arc<dyn World>, gateway: &Gateway) -> Result<Option<Arc<Memory>>, StartError> {
    if gateway.node.state_dir.is_none() && gateway.cluster.is_none() {
        return Ok(None);
    }
    let (disk, folder) = (world.disk(), gateway.node.state_dir.clone());
    let opened = offload(&**world, move || Memory::open(disk, folder.as_deref())).await;
    opened.map(|memory| Some(Arc::new(memory))).map_err(StartError::Memory)
}

/// Says on standard error what nobody else would hear of.
fn complain(error: &io::Error) {
    use std::io::Write;
    // Where standard error is gone too there is nobody left to tell.
    let _ = writeln!(io::stderr(), "access log: {error}; lines are dropped and counted until it can be written again");
}

/// Remembers what serves, for a start at which its files are gone or broken.
async fn keep(node: &Arc<Node>, gateway: &Gateway) {
    let (Some(memory), Some(kept)) = (&node.memory, Kept::of(gateway)) else { return };
    let memory = memory.clone();
    let kept = offload(&*node.world, move || memory.keep_configuration(&kept.written())).await;
    if let Err(error) = kept {
        use std::io::Write;
        // Where standard error is gone too there is nobody left to tell.
        let _ = writeln!(io::stderr(), "memory: {error}; the configuration is served, and would be forgotten if its files were lost");
    }
}

/// Sees to it that whatever the revision names is looked after, and says on standard error what is not.
fn attend(node: &Arc<Node>) {
    supervision::complain(&node.supervision.apply(node));
}

fn listen(node: &Arc<Node>, settings: Arc<Settings>, bound_as: SocketAddr, socket: Box<dyn cluster::Listener>) {
    let name = settings.listener.name.clone();
    let (serves, served) = watch::channel(live(node, settings, socket.address()));
    node.listeners().insert((name, bound_as), serves);
    tokio::spawn(listener::accept(node.clone(), served, socket));
}

fn live(node: &Arc<Node>, settings: Arc<Settings>, address: SocketAddr) -> Arc<LiveListener> {
    let name = settings.listener.name.clone();
    Arc::new(LiveListener {
        address,
        metrics: ListenerMetrics::new(&node.metrics, name.as_str()),
        name,
        settings: ArcSwap::new(settings),
        drain: Drain::default(),
        open: AtomicUsize::new(0),
        accepts: AtomicBool::new(true),
    })
}

/// Cuts off what a listener that is leaving has not ended by itself, with the node if that leaves sooner.
fn abort_after(node: &Arc<Node>, live: Arc<LiveListener>, bound: Duration) {
    let node = node.clone();
    tokio::spawn(async move {
        let _ = tokio::time::timeout(bound, node.drain.reached(Stage::Aborted)).await;
        live.drain.advance(Stage::Aborted);
    });
}

async fn bind(world: &dyn World, part: String, address: SocketAddr) -> Result<Box<dyn cluster::Listener>, StartError> {
    world.listen(address).await.map_err(|error| StartError::Bind { part, address, error })
}

/// What the admin listener shows, if it speaks TLS.
pub(crate) fn admin_tls(gateway: &Gateway, read: Read<'_>, world: &dyn World) -> Result<Option<Arc<ServerTls>>, StartError> {
    let tls = gateway.admin.tls.as_ref();
    tls.map(|tls| server_tls("[admin]", tls, true, false, read, world)).transpose()
}

/// How each listener is to be served. TLS whose files are as they were is taken over from `before`, tickets and all.
pub(crate) fn listener_settings(
    gateway: &Gateway,
    before: &[Arc<Settings>],
    read: Read<'_>,
    world: &dyn World,
) -> Result<Vec<Arc<Settings>>, StartError> {
    let mut all: Vec<Arc<Settings>> = Vec::new();
    for listener in &gateway.listeners {
        let (tls, tls_fingerprint) = match &listener.tls {
            None => (None, 0),
            Some(tls) => {
                let fingerprint = fingerprint(tls, listener.http1, listener.http2, read);
                let same = |settings: &&Arc<Settings>| settings.tls_fingerprint == fingerprint;
                let known = all.iter().chain(before).find(same).and_then(|settings| settings.tls.clone());
                let part = || format!("[listen.{}] tls", listener.name);
                let tls = match known {
                    Some(tls) => tls,
                    None => server_tls(&part(), tls, listener.http1, listener.http2, read, world)?,
                };
                (Some(tls), fingerprint)
            }
        };
        all.push(Arc::new(Settings { listener: listener.clone(), tls, tls_fingerprint }));
    }
    Ok(all)
}

/// Tells apart what is written and what the files hold; never 0.
fn fingerprint(tls: &config::ListenerTls, http1: bool, http2: bool, read: Read<'_>) -> u64 {
    let mut hash = Fnv::default();
    hash.add(format!("{tls:?} {http1} {http2}").as_bytes());
    let files = tls.certificates.iter().flat_map(|files| [&files.cert, &files.key]).chain(&tls.client_ca);
    for file in files {
        // A file that cannot be read is told of by whoever needs its content.
        hash.add(&read(file).unwrap_or_default());
    }
    hash.finish().max(1)
}

pub(crate) fn server_tls(
    part: &str,
    tls: &config::ListenerTls,
    http1: bool,
    http2: bool,
    read: Read<'_>,
    world: &dyn World,
) -> Result<Arc<ServerTls>, StartError> {
    ServerTls::load(tls, http1, http2, read, world.wall()).map(Arc::new).map_err(|error| StartError::Tls { part: part.to_string(), error })
}

/// Two hundred and fifty-six bits that a caller cannot guess, in hexadecimal.
fn fresh_token(world: &dyn World) -> config::Secret {
    let words: [u64; 4] = std::array::from_fn(|_| world.chance());
    config::Secret::new(words.map(|word| format!("{word:016x}")).concat())
}
