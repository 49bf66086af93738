//! The outside of a node: clock, wall clock, chance, listening, connecting, names, blocking work and disk.
//!
//! Waiting is `tokio::time`, whose clock a simulation can turn; asking what time it is goes through [`World::now`].
//! Nothing else in the workspace opens a socket or a file, reads a clock or draws a number.

use crate::dns::{Absence, Answer, Question, Record, RecordKind};
use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};
use tokio::io::{AsyncRead, AsyncWrite};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Bytes both ways: a TCP connection, or what stands for one.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> Stream for T {}

pub type BoxStream = Box<dyn Stream>;

/// A bound address that hands out connections.
pub trait Listener: Send + Sync + 'static {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxStream, SocketAddr)>>;

    /// The address it is really bound to: the port is known even where 0 was asked for.
    fn address(&self) -> SocketAddr;
}

/// A question that no server has answered by then has failed.
pub const LOOKUP_BOUND: Duration = Duration::from_secs(8);

/// How long the addresses of one family wait for those of the other; the "resolution delay" of RFC 8305.
const FAMILY_DELAY: Duration = Duration::from_millis(50);

pub trait World: Send + Sync + 'static {
    /// Monotonic; never steps.
    fn now(&self) -> Instant;

    /// For logs, certificates and tokens only: it may step either way.
    fn wall(&self) -> SystemTime;

    /// Sixty-four bits that a caller cannot guess.
    fn chance(&self) -> u64;

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>>;

    /// Asks these DNS servers in their order, or those of the system where there are none. What the machine itself knows
    /// (`localhost`, its list of hosts) is not asked of anybody. Ends within [`LOOKUP_BOUND`].
    fn lookup<'a>(&'a self, servers: &'a [SocketAddr], question: &'a Question) -> BoxFuture<'a, Answer>;

    /// Runs blocking work away from the requests: a thread in production, inline in a simulation.
    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()>;

    /// To be used inside [`World::offload`] once requests are served.
    fn disk(&self) -> Arc<dyn Disk>;
}

/// Files. Every call may block.
pub trait Disk: Send + Sync + 'static {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Replaces the whole file or leaves the old one: never half of each.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()>;

    /// As [`Disk::replace`], for what nobody but the node's own user may read.
    fn replace_secret(&self, path: &Path, content: &[u8]) -> io::Result<()>;

    fn append(&self, path: &Path, content: &[u8]) -> io::Result<()>;

    /// A file to be read and written anywhere in it. It and its folder are made where they are missing, readable by the node's
    /// own user alone. It is ours until it is dropped: as long as somebody else has it open, this is `WouldBlock`. Where it may
    /// not be written it is opened all the same, and writing fails.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// What is in a folder, sorted by name.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// Something that differs whenever the file does, without reading it.
    fn stamp(&self, path: &Path) -> io::Result<Stamp>;
}

/// A file that is open. Every call may block.
pub trait DiskFile: Send + Sync + 'static {
    fn length(&self) -> io::Result<u64>;

    /// Cuts the file, or makes it longer by zeros.
    fn resize(&self, length: u64) -> io::Result<()>;

    /// Fills `into`; what lies past the end is `UnexpectedEof`.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    fn write_at(&self, offset: u64, content: &[u8]) -> io::Result<()>;

    /// Returns once everything that was written would survive a loss of power.
    fn sync(&self) -> io::Result<()>;
}

/// When a file was last changed and how long it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    pub modified: Duration,
    pub length: u64,
    /// Tells a replaced file from an edited one; 0 where there is nothing to tell.
    pub identity: u64,
}

/// Runs `work` through [`World::offload`] and hands back what it made.
pub async fn offload<T: Send + 'static>(world: &dyn World, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = tokio::sync::oneshot::channel();
    world
        .offload(Box::new(move || {
            // Nobody may be waiting any more: the work was worth doing all the same.
            let _ = tell.send(work());
        }))
        .await;
    told.await.expect("offload runs its work before it returns")
}

/// The addresses of a host, in the order to try them: IPv4 first, as where one family is chosen for an endpoint. An address in
/// text is its own.
pub async fn resolve(world: &dyn World, servers: &[SocketAddr], host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let question = |kind| Question { name: host.into(), kind };
    let (v4, v6) = (question(RecordKind::A), question(RecordKind::Aaaa));
    let (mut v4, mut v6) = (pin!(world.lookup(servers, &v4)), pin!(world.lookup(servers, &v6)));
    // There are servers that never answer about one of the families.
    let answers = tokio::select! {
        biased;
        first = &mut v4 => late(first, v6).await,
        first = &mut v6 => late(first, v4).await,
    };
    let mut addresses: Vec<SocketAddr> = answers.iter().flat_map(Answer::addresses).map(|ip| SocketAddr::new(ip, port)).collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    if !addresses.is_empty() {
        return Ok(addresses);
    }
    let failed = answers.iter().find_map(|answer| match answer {
        Answer::Failed(why) => Some(io::Error::other(&**why)),
        Answer::Records { .. } | Answer::Nothing(_) => None,
    });
    let unknown = answers.contains(&Answer::Nothing(Absence::NoName));
    let absent = if unknown { "the name does not exist" } else { "the name has no addresses" };
    Err(failed.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, absent)))
}

/// Where the service of a name is (RFC 2782), the preferred ones first.
pub async fn resolve_srv(world: &dyn World, servers: &[SocketAddr], name: &str) -> io::Result<Vec<SocketAddr>> {
    let records = match world.lookup(servers, &Question { name: name.into(), kind: RecordKind::Srv }).await {
        Answer::Records { records, .. } => records,
        Answer::Nothing(Absence::NoName) => return Err(io::Error::new(io::ErrorKind::NotFound, "the name does not exist")),
        Answer::Nothing(Absence::NoRecord) => return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no service")),
        Answer::Failed(why) => return Err(io::Error::other(&*why)),
    };
    let mut places: Vec<(u16, Arc<str>, u16)> = records
        .into_iter()
        .filter_map(|record| match record {
            Record::Srv { priority, port, target, .. } if &*target != "." => Some((priority, target, port)),
            Record::Srv { .. } | Record::Address(_) => None,
        })
        .collect();
    places.sort();
    places.truncate(SRV_MAX);
    let mut addresses = Vec::new();
    let mut failed = None;
    for (_, target, port) in places {
        match resolve(world, servers, &target, port).await {
            Ok(found) => addresses.extend(found),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if addresses.is_empty() => Err(error),
        _ => Ok(addresses),
    }
}

/// Targets of a service that are looked up.
const SRV_MAX: usize = 64;

/// The first answer, and the other: that one is waited for as long as the first has nothing to offer.
async fn late(first: Answer, other: impl Future<Output = Answer>) -> Vec<Answer> {
    if first.addresses().next().is_none() {
        return vec![first, other.await];
    }
    let other = tokio::time::timeout(FAMILY_DELAY, other).await.ok();
    std::iter::once(first).chain(other).collect()
}
