//! The outside of a node: clock, wall clock, chance, listening, connecting, names, blocking work and disk.
//!
//! Waiting is `tokio::time`, whose clock a simulation can turn; asking what time it is goes through [`World::now`].
//! Nothing else in the workspace opens a socket or a file, reads a clock or draws a number.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
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

pub trait World: Send + Sync + 'static {
    /// Monotonic; never steps.
    fn now(&self) -> Instant;

    /// For logs, certificates and tokens only: it may step either way.
    fn wall(&self) -> SystemTime;

    /// Sixty-four bits that a caller cannot guess.
    fn chance(&self) -> u64;

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>>;

    /// The addresses of a name, in the order to try them. An address in text resolves to itself.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

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

    fn append(&self, path: &Path, content: &[u8]) -> io::Result<()>;

    /// What is in a folder, sorted by name.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// Something that differs whenever the file does, without reading it.
    fn stamp(&self, path: &Path) -> io::Result<Stamp>;
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
