//! A network in memory, on tokio's paused clock: addresses, connections, and cuts that lose what is sent.

use crate::{
    BoxFuture, BoxStream, Disk, Listener, World,
    dns::{Absence, Answer, Question},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::mpsc,
};

#[derive(Clone, Default)]
pub(super) struct Net(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    listening: BTreeMap<SocketAddr, mpsc::UnboundedSender<(BoxStream, SocketAddr)>>,
    /// From whom to whom nothing arrives.
    cuts: BTreeSet<(IpAddr, IpAddr)>,
    ports: u16,
}

impl Net {
    pub(super) fn host(&self, last: u8) -> Arc<Host> {
        Arc::new(Host {
            net: self.clone(),
            ip: IpAddr::from([192, 0, 2, last]),
            ahead: Duration::ZERO,
            chance: AtomicU64::new(last.into()),
        })
    }

    /// A host whose wall clock is ahead.
    pub(super) fn host_ahead(&self, last: u8, ahead: Duration) -> Arc<Host> {
        Arc::new(Host { net: self.clone(), ip: IpAddr::from([192, 0, 2, last]), ahead, chance: AtomicU64::new(last.into()) })
    }

    pub(super) fn cut(&self, from: u8, to: u8) {
        self.state().cuts.insert((IpAddr::from([192, 0, 2, from]), IpAddr::from([192, 0, 2, to])));
    }

    pub(super) fn heal(&self) {
        self.state().cuts.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Host {
    net: Net,
    ip: IpAddr,
    ahead: Duration,
    chance: AtomicU64,
}

impl Host {
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, 7946)
    }
}

impl World for Host {
    #[expect(clippy::disallowed_methods, reason = "this is the world's clock: tokio's, which the test turns")]
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn wall(&self) -> SystemTime {
        // The same moment on all hosts, which is all that offsets need.
        thread_local!(static BEGAN: std::cell::OnceCell<Instant> = const { std::cell::OnceCell::new() });
        let began = BEGAN.with(|began| *began.get_or_init(|| self.now()));
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.ahead + (self.now() - began)
    }

    fn chance(&self) -> u64 {
        self.chance.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (tell, accepted) = mpsc::unbounded_channel();
            self.net.state().listening.insert(address, tell);
            Ok(Box::new(Bound { accepted, address }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async move {
            let cut = {
                let state = self.net.state();
                state.cuts.contains(&(self.ip, address.ip())) || state.cuts.contains(&(address.ip(), self.ip))
            };
            if cut {
                std::future::pending::<()>().await;
            }
            let (near, far) = tokio::io::duplex(64 << 10);
            let mut state = self.net.state();
            state.ports += 1;
            let from = SocketAddr::new(self.ip, 40_000 + state.ports);
            let tell = state.listening.get(&address).ok_or(io::ErrorKind::ConnectionRefused)?;
            let wire = |stream, from, to| Box::new(Wire { stream, net: self.net.clone(), from, to }) as BoxStream;
            tell.send((wire(far, address.ip(), self.ip), from)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(wire(near, self.ip, address.ip()))
        })
    }

    fn lookup<'a>(&'a self, _: &'a [SocketAddr], _: &'a Question) -> BoxFuture<'a, Answer> {
        Box::pin(async { Answer::Nothing(Absence::NoName) })
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()> {
        Box::pin(async move { work() })
    }

    fn disk(&self) -> Arc<dyn Disk> {
        unreachable!("links need no disk")
    }
}

struct Bound {
    accepted: mpsc::UnboundedReceiver<(BoxStream, SocketAddr)>,
    address: SocketAddr,
}

impl Listener for Bound {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxStream, SocketAddr)>> {
        self.accepted.poll_recv(cx).map(|accepted| accepted.ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

struct Wire {
    stream: DuplexStream,
    net: Net,
    from: IpAddr,
    to: IpAddr,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let lost = self.net.state().cuts.contains(&(self.from, self.to));
        if lost { Poll::Ready(Ok(bytes.len())) } else { Pin::new(&mut self.stream).poll_write(cx, bytes) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
