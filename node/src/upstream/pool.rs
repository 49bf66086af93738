//! Taking a connection and giving it back, without asking anyone.

mod tended;

use super::{
    connect::{ConnectError, Dialed, Purpose, Target},
    h1::H1,
    permit::{Counts, Permit},
};
use crate::{request::Upload, tls::UpstreamTls};
use actors::service::Load;
use arc_swap::ArcSwapOption;
use cluster::{BoxStream, World};
use config::{PoolPolicy, Protocol};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};
use tokio::sync::Mutex as WaitingMutex;

/// What ages are counted in, so that giving a connection back needs no clock.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Idle connections are kept apart by the thread that gave them back, so that threads seldom meet at a lock.
const SHELVES: usize = 8;

/// Streams on one HTTP/2 connection before another is opened.
const STREAMS_MAX: usize = 100;

pub(crate) struct Upstream {
    pub(crate) target: Target,
    tls: ArcSwapOption<UpstreamTls>,
    policy: Mutex<PoolPolicy>,
    bounds: Bounds,
    shelves: [Mutex<Shelf>; SHELVES],
    /// Connections on all shelves.
    idle: AtomicUsize,
    shared: Mutex<Vec<H2>>,
    /// Held while an HTTP/2 connection is opened, so that a burst of first requests opens one and not a hundred.
    opening: WaitingMutex<()>,
    /// Whether ALPN has agreed on HTTP/2 before.
    speaks_h2: AtomicBool,
    counts: Arc<Counts>,
    /// Idle connections that turned out to be dead when a request took them.
    lost: AtomicU64,
    /// Since when the endpoint is not wanted any more.
    left: Mutex<Option<Instant>>,
    leaving: AtomicBool,
    /// Of the whole node.
    tick: Arc<AtomicU32>,
    pub(crate) load: Arc<Load>,
}

/// What requests need of the policy.
#[derive(Default)]
struct Bounds {
    connections: AtomicUsize,
    idle: AtomicUsize,
    /// Ticks after which an idle connection is used no more.
    unused: AtomicU32,
}

impl Bounds {
    fn set(&self, policy: &PoolPolicy) {
        self.connections.store(policy.max_connections, Relaxed);
        self.idle.store(policy.max_idle, Relaxed);
        self.unused.store(u32::try_from(policy.idle.as_secs().max(1)).unwrap_or(u32::MAX), Relaxed);
    }
}

/// Boxed, because a connection moves from the shelf to a request and on to its answer.
type Shelf = Vec<Box<H1>>;

struct H2 {
    sender: SendRequest<Upload>,
    streams: Arc<AtomicUsize>,
    /// How many streams the endpoint takes at once, as it has said last.
    allowed: Arc<AtomicUsize>,
    opened: u32,
    /// When it was last known to carry something.
    used: u32,
}

/// One request's hold on a shared HTTP/2 connection.
pub(crate) struct Stream {
    pub(crate) sender: SendRequest<Upload>,
    _held: Held,
}

struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A connection that one request may use.
pub(crate) enum Lease {
    H1(Box<H1>),
    H2(Stream),
}

impl Lease {
    /// Whether the connection was open before this request came.
    pub(crate) fn is_reused(&self) -> bool {
        match self {
            Self::H1(connection) => connection.used,
            Self::H2(_) => true,
        }
    }
}

thread_local! {
    static SHELF: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn own_shelf() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    SHELF.with(|shelf| {
        if shelf.get() == usize::MAX {
            shelf.set(NEXT.fetch_add(1, Relaxed) % SHELVES);
        }
        shelf.get()
    })
}

impl Upstream {
    /// One without connections. `tick` counts seconds, for all upstreams of a node.
    pub(super) fn new(target: Target, tls: Option<Arc<UpstreamTls>>, policy: PoolPolicy, tick: Arc<AtomicU32>, load: Arc<Load>) -> Self {
        let bounds = Bounds::default();
        bounds.set(&policy);
        Self {
            target,
            tls: ArcSwapOption::new(tls),
            policy: Mutex::new(policy),
            bounds,
            shelves: Default::default(),
            idle: AtomicUsize::new(0),
            shared: Mutex::default(),
            opening: WaitingMutex::default(),
            speaks_h2: AtomicBool::new(false),
            counts: Arc::default(),
            lost: AtomicU64::new(0),
            left: Mutex::default(),
            leaving: AtomicBool::new(false),
            tick,
            load,
        }
    }

    pub(super) fn renew_tls(&self, tls: Option<Arc<UpstreamTls>>) {
        if tls.is_some() {
            self.tls.store(tls);
        }
    }

    pub(super) fn tls(&self) -> Option<Arc<UpstreamTls>> {
        self.tls.load_full()
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.counts.open.load(Relaxed)
    }

    /// A connection that is open already and has room for a request: an idle one, or a share of an HTTP/2 one.
    pub(crate) fn lease_open(&self) -> Option<Lease> {
        if self.prefers_h2() { self.take_stream().map(Lease::H2) } else { self.take_idle().map(Lease::H1) }
    }

    /// A connection for one request where none was open.
    pub(crate) async fn lease(&self, world: &dyn World, within: Duration) -> Result<Lease, ConnectError> {
        if self.prefers_h2() { self.lease_h2(world, within).await } else { self.lease_new(world, Purpose::Requests, within).await }
    }

    fn prefers_h2(&self) -> bool {
        self.target.protocol == Protocol::H2 || self.speaks_h2.load(Relaxed)
    }

    /// A connection that nobody has used yet, for a request that cannot bear the endpoint's idle timeout.
    pub(crate) async fn lease_new(&self, world: &dyn World, purpose: Purpose, within: Duration) -> Result<Lease, ConnectError> {
        let permit = match self.permit() {
            Some(permit) => permit,
            None => {
                let _place = self.load.breaker().wait().map_err(|_| ConnectError::WaitingFull)?;
                match self.wait_for_room(within).await? {
                    Freed::Connection(connection) => return Ok(Lease::H1(connection)),
                    Freed::Permit(permit) => permit,
                }
            }
        };
        let Dialed { stream, h2 } = self.target.dial(world, self.tls.load().as_deref(), purpose, within).await?;
        if h2 {
            self.speaks_h2.store(true, Relaxed);
            return self.share(stream, permit).await;
        }
        if purpose == Purpose::Requests {
            self.speaks_h2.store(false, Relaxed);
        }
        Ok(Lease::H1(H1::open(stream, permit, self.tick.load(Relaxed))))
    }

    async fn lease_h2(&self, world: &dyn World, within: Duration) -> Result<Lease, ConnectError> {
        let Ok(_opening) = tokio::time::timeout(within, self.opening.lock()).await else {
            return Err(ConnectError::TimedOut);
        };
        match self.take_stream() {
            Some(stream) => Ok(Lease::H2(stream)),
            None => self.lease_new(world, Purpose::Requests, within).await,
        }
    }

    async fn share(&self, stream: BoxStream, permit: Permit) -> Result<Lease, ConnectError> {
        let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(4 * 1024 * 1024)
            .max_header_list_size(64 * 1024)
            .keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .handshake::<TokioIo<BoxStream>, Upload>(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectError::Refused(std::io::Error::other(error)))?;
        let allowed = Arc::new(AtomicUsize::new(STREAMS_MAX));
        tokio::spawn({
            let allowed = allowed.clone();
            async move {
                // Its failure reaches every request that it carries.
                poll_fn(|cx| {
                    let done = Pin::new(&mut connection).poll(cx).map(drop);
                    allowed.store(connection.current_max_send_streams(), Relaxed);
                    if done.is_ready() { done } else { permit.poll_cut(cx) }
                })
                .await;
                drop((connection, permit));
            }
        });
        let now = self.tick.load(Relaxed);
        let shared = H2 { sender, streams: Arc::new(AtomicUsize::new(1)), allowed, opened: now, used: now };
        let stream = Stream { sender: shared.sender.clone(), _held: Held(shared.streams.clone()) };
        lock(&self.shared).push(shared);
        Ok(Lease::H2(stream))
    }

    fn take_stream(&self) -> Option<Stream> {
        let mut shared = lock(&self.shared);
        shared.retain(|connection| connection.sender.is_ready());
        let has_room = |connection: &H2| connection.streams.load(Relaxed) < connection.allowed.load(Relaxed).min(STREAMS_MAX);
        let connection = shared.iter_mut().find(|connection| has_room(connection))?;
        connection.streams.fetch_add(1, Relaxed);
        connection.used = self.tick.load(Relaxed);
        Some(Stream { sender: connection.sender.clone(), _held: Held(connection.streams.clone()) })
    }

    /// The connection that came back last, because the endpoint is least likely to have closed it. One that has been idle for
    /// too long is not used, whether or not anybody has had the time to close it.
    fn take_idle(&self) -> Option<Box<H1>> {
        let own = own_shelf();
        let (now, unused) = (self.tick.load(Relaxed), self.bounds.unused.load(Relaxed));
        let mut cx = Context::from_waker(Waker::noop());
        for shelf in (0..SHELVES).map(|step| (own + step) % SHELVES) {
            loop {
                let Some(mut connection) = lock(&self.shelves[shelf]).pop() else { break };
                self.idle.fetch_sub(1, Relaxed);
                if now.wrapping_sub(connection.idle_since) > unused {
                    continue;
                }
                if connection.is_alive(&mut cx) {
                    return Some(connection);
                }
                self.lost.fetch_add(1, Relaxed);
            }
        }
        None
    }

    /// Takes back a connection whose exchange is over; one that is not ready for the next is closed.
    pub(crate) fn give_back(&self, mut connection: Box<H1>) {
        if !connection.is_ready() || self.leaving.load(Relaxed) {
            return;
        }
        connection.rest(self.tick.load(Relaxed));
        if self.idle.fetch_add(1, Relaxed) < self.bounds.idle.load(Relaxed) {
            lock(&self.shelves[own_shelf()]).push(connection);
        } else {
            self.idle.fetch_sub(1, Relaxed);
        }
        if self.counts.waiting.load(Relaxed) > 0 {
            self.counts.freed.notify_one();
        }
    }

    fn permit(&self) -> Option<Permit> {
        self.counts.permit(self.bounds.connections.load(Relaxed))
    }

    async fn wait_for_room(&self, within: Duration) -> Result<Freed, ConnectError> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        self.counts.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.counts.waiting);
        let room = async {
            loop {
                // Listening begins before looking, so that nothing freed in between is missed: two of those who wait may
                // be told at once.
                let mut freed = pin!(self.counts.freed.notified());
                freed.as_mut().enable();
                if let Some(connection) = self.take_idle() {
                    return Freed::Connection(connection);
                }
                if let Some(permit) = self.permit() {
                    return Freed::Permit(permit);
                }
                freed.await;
            }
        };
        tokio::time::timeout(within, room).await.map_err(|_elapsed| ConnectError::PoolFull)
    }
}

enum Freed {
    Connection(Box<H1>),
    Permit(Permit),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
