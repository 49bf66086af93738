//! The outside of a simulated node: turmoil's network, virtual time, chance from the seed, and a disk in memory.
//!
//! Whatever a node does to the outside is traced here: bytes with their hash, connections, names, files. Two runs
//! that differ anywhere inside the node therefore differ in the trace as soon as it can be noticed from outside.

mod disk;

use crate::{
    chance::Chance,
    shim,
    trace::{Fnv, Trace},
};
use cluster::{
    BoxFuture, BoxStream, Disk, Listener, World,
    dns::{Absence, Answer, Question, Record, RecordKind},
};
use config::Source;
use disk::MemoryDisk;
use std::{
    collections::BTreeMap,
    fmt::Display,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::sleep,
};
use turmoil::net::{TcpListener, TcpStream};

/// What a name stands for in the simulation.
pub(crate) type Names = BTreeMap<String, Vec<IpAddr>>;

/// How long an answer about a name counts.
const NAME_TTL: Duration = Duration::from_secs(10);

/// One host's outside. Clones are the same host: its disk, its chance and its counts outlive a restart.
#[derive(Clone)]
pub(crate) struct SimWorld(Arc<Machine>);

struct Machine {
    host: &'static str,
    trace: Trace,
    names: Names,
    chance: Mutex<Chance>,
    disk: Arc<MemoryDisk>,
    /// The hosts that this one knows by an address of its loopback, as if all were processes of one machine: for nodes that
    /// speak to each other without certificates, which they do on loopback alone.
    neighbours: BTreeMap<IpAddr, IpAddr>,
    /// By how many microseconds the wall clock is ahead of the simulation's.
    ahead: AtomicI64,
    /// The longest write that a connection takes at once.
    write_max: usize,
    connections: AtomicU64,
    open: AtomicUsize,
    listening: AtomicUsize,
}

impl SimWorld {
    pub(crate) fn new(host: &'static str, seed: u64, write_max: usize, names: Names, trace: Trace) -> Self {
        Self(Arc::new(Machine {
            host,
            names,
            chance: Mutex::new(Chance::of(seed, host)),
            disk: Arc::new(MemoryDisk::new(host, trace.clone())),
            trace,
            write_max,
            neighbours: BTreeMap::new(),
            ahead: AtomicI64::new(0),
            connections: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            listening: AtomicUsize::new(0),
        }))
    }

    /// As one of several processes of a machine. To be said before there are clones.
    pub(crate) fn beside(mut self, neighbours: BTreeMap<IpAddr, IpAddr>) -> Self {
        Arc::get_mut(&mut self.0).expect("a world that was just made has no clones").neighbours = neighbours;
        self
    }

    /// Sets the wall clock.
    pub(crate) fn set_clock(&self, ahead_micros: i64) {
        self.0.ahead.store(ahead_micros, Relaxed);
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.0.open.load(Relaxed)
    }

    pub(crate) fn open_listeners(&self) -> usize {
        self.0.listening.load(Relaxed)
    }
}

impl Machine {
    fn trace(&self, event: impl Display) {
        self.trace.line(self.host, event);
    }

    fn adopt(self: &Arc<Self>, stream: TcpStream, event: impl Display) -> BoxStream {
        let number = self.connections.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        self.trace(format_args!("#{number} {event}"));
        Box::new(SimStream { stream, number, machine: Arc::clone(self) })
    }

    fn lookup(&self, question: &Question) -> Answer {
        let name = question.name.strip_suffix('.').unwrap_or(&question.name);
        let Some(addresses) = self.names.get(name) else { return Answer::Nothing(Absence::NoName) };
        let asked = |ip: &&IpAddr| match question.kind {
            RecordKind::A => ip.is_ipv4(),
            RecordKind::Aaaa => ip.is_ipv6(),
            RecordKind::Srv => false,
        };
        let records: Vec<_> = addresses.iter().filter(asked).copied().map(Record::Address).collect();
        if records.is_empty() { Answer::Nothing(Absence::NoRecord) } else { Answer::Records { records, ttl: NAME_TTL } }
    }
}

impl World for SimWorld {
    #[expect(clippy::disallowed_methods, reason = "this is the world's clock: tokio's, which the simulation turns")]
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn wall(&self) -> SystemTime {
        let (wall, ahead) = (SystemTime::UNIX_EPOCH + shim::wall(), self.0.ahead.load(Relaxed));
        let by = Duration::from_micros(ahead.unsigned_abs());
        if ahead < 0 { wall - by } else { wall + by }
    }

    fn chance(&self) -> u64 {
        self.0.chance.lock().unwrap_or_else(PoisonError::into_inner).draw()
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let machine = &self.0;
            let neighbour = machine.neighbours.contains_key(&address.ip());
            let bound = if neighbour { SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()) } else { address };
            let listener = Arc::new(TcpListener::bind(bound).await?);
            let address = if neighbour { address } else { listener.local_addr()? };
            self.0.trace(format_args!("listens on {address}"));
            self.0.listening.fetch_add(1, Relaxed);
            let accepting = Box::pin(accept(Arc::clone(&listener)));
            Ok(Box::new(SimListener { listener, accepting, address, machine: Arc::clone(&self.0) }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async move {
            self.0.trace(format_args!("connects to {address}"));
            let host = self.0.neighbours.get(&address.ip()).copied().unwrap_or(address.ip());
            match connect(SocketAddr::new(host, address.port())).await {
                Ok(stream) => Ok(self.0.adopt(stream, format_args!("connected to {address}"))),
                Err(error) => {
                    self.0.trace(format_args!("cannot connect to {address}: {}", error.kind()));
                    Err(error)
                }
            }
        })
    }

    fn lookup<'a>(&'a self, _: &'a [SocketAddr], question: &'a Question) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let answer = self.0.lookup(question);
            self.0.trace(format_args!("asks for {:?} of {}: {answer:?}", question.kind, question.name));
            answer
        })
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()> {
        Box::pin(async move { work() })
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.0.disk) as Arc<dyn Disk>
    }
}

/// What a configuration is read from: the host's disk, and an environment without variables.
impl Source for SimWorld {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.disk.read(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.0.disk.list(folder)
    }

    fn env(&self, _name: &str) -> Option<String> {
        None
    }
}

/// Linux tries so often (`tcp_syn_retries`), the first time after [`SYN_AGAIN`] and then twice as long each time.
const SYN_RETRIES: u32 = 6;
const SYN_AGAIN: Duration = Duration::from_secs(1);

/// Asks again when the question was lost, as TCP does. turmoil says at once that a connection is refused when a link is cut, where
/// a caller in the world hears nothing: an answer that took no time at all cannot have come from the other side.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let mut again = SYN_AGAIN;
    for _ in 0..=SYN_RETRIES {
        let asked = shim::elapsed();
        match TcpStream::connect(address).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && shim::elapsed() == asked => sleep(again).await,
            answered => return answered,
        }
        again *= 2;
    }
    Err(io::ErrorKind::TimedOut.into())
}

type Accepting = Pin<Box<dyn Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send + Sync>>;

async fn accept(listener: Arc<TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    listener.accept().await
}

struct SimListener {
    listener: Arc<TcpListener>,
    /// The accept that is under way: turmoil has no poll of its own for it.
    accepting: Accepting,
    address: SocketAddr,
    machine: Arc<Machine>,
}

impl Listener for SimListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxStream, SocketAddr)>> {
        let accepted = ready!(self.accepting.as_mut().poll(cx));
        self.accepting = Box::pin(accept(Arc::clone(&self.listener)));
        let (stream, caller) = accepted?;
        Poll::Ready(Ok((self.machine.adopt(stream, format_args!("accepted from {caller}")), caller)))
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.machine.listening.fetch_sub(1, Relaxed);
        self.machine.trace(format_args!("no longer listens on {}", self.address));
    }
}

struct SimStream {
    stream: TcpStream,
    number: u64,
    machine: Arc<Machine>,
}

impl SimStream {
    fn trace(&self, event: impl Display) {
        self.machine.trace(format_args!("#{} {event}", self.number));
    }
}

impl AsyncRead for SimStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let room = buffer.remaining();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        match &result {
            Ok(()) if room == 0 => {}
            Ok(()) if buffer.filled().len() == before => self.trace("read the end"),
            Ok(()) => {
                let bytes = &buffer.filled()[before..];
                self.trace(format_args!("read {} {:016x}", bytes.len(), Fnv::of(bytes)));
            }
            Err(error) => self.trace(format_args!("cannot read: {}", error.kind())),
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(self.machine.write_max)];
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        match &result {
            Ok(written) => self.trace(format_args!("wrote {written} {:016x}", Fnv::of(&bytes[..*written]))),
            Err(error) => self.trace(format_args!("cannot write: {}", error.kind())),
        }
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
        self.trace("ended writing");
        Poll::Ready(result)
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.machine.open.fetch_sub(1, Relaxed);
        self.trace("closed");
    }
}
