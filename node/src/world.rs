//! The real world: the machine's clock, sockets, resolver, threads and files.

#![expect(clippy::disallowed_methods, reason = "this is the one place that meets the outside")]

use crate::upstream::resolve;
use cluster::{
    BoxFuture, BoxStream, Disk, Listener, Stamp, World,
    dns::{Answer, Question},
};
use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// Connections that the kernel keeps while all workers are busy.
const BACKLOG: i32 = 4096;

/// A connection whose other side has vanished is known to be dead after 30 s.
const KEEPALIVE: socket2::TcpKeepalive =
    socket2::TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5)).with_retries(3);

pub struct RealWorld {
    disk: Arc<RealDisk>,
}

impl RealWorld {
    #[expect(clippy::new_without_default, reason = "a world is made on purpose, once")]
    pub fn new() -> Self {
        Self { disk: Arc::new(RealDisk) }
    }
}

thread_local! {
    /// SipHash over a counter, under a key from the operating system: fast, and nobody outside can predict it.
    static CHANCE: (RandomState, Cell<u64>) = (RandomState::new(), const { Cell::new(0) });
}

impl World for RealWorld {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn chance(&self) -> u64 {
        CHANCE.with(|(key, counter)| {
            counter.set(counter.get().wrapping_add(1));
            key.hash_one(counter.get())
        })
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
            if address.is_ipv6() {
                // `[::]` means IPv6 alone: an operator who wants both writes both, and sees both in the banner.
                socket.set_only_v6(true)?;
            }
            // Without it a restart would wait for connections in TIME_WAIT.
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            let listener = TcpListener::from_std(socket.into())?;
            let address = listener.local_addr()?;
            Ok(Box::new(RealListener { listener, address }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            // What lies between may forget a connection without a word; whoever holds it idle should hear of it.
            socket2::SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
            Ok(Box::new(RealStream(stream)) as BoxStream)
        })
    }

    fn lookup<'a>(&'a self, servers: &'a [SocketAddr], question: &'a Question) -> BoxFuture<'a, Answer> {
        Box::pin(resolve::lookup(self, servers, question))
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(error) = tokio::task::spawn_blocking(work).await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        })
    }

    fn disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }
}

struct RealListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener for RealListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxStream, SocketAddr)>> {
        let (stream, peer) = std::task::ready!(self.listener.poll_accept(cx))?;
        stream.set_nodelay(true)?;
        Poll::Ready(Ok((Box::new(RealStream(stream)), peer)))
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Pieces of no more than this are joined before they are written.
const JOINED: usize = 4096;

/// A TCP connection. A head and a small body are written with one plain `send`: gathering them in the kernel costs more
/// than copying them.
struct RealStream(TcpStream);

impl AsyncRead for RealStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for RealStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.get_mut().0);
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        match bufs {
            [only] => stream.poll_write(cx, only),
            _ if total <= JOINED => {
                let mut joined = [0; JOINED];
                let mut end = 0;
                for buf in bufs {
                    joined[end..end + buf.len()].copy_from_slice(buf);
                    end += buf.len();
                }
                stream.poll_write(cx, &joined[..end])
            }
            _ => stream.poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

/// A configuration, a certificate or a token is smaller than this; a device that never ends is not.
const FILE_MAX: u64 = 64 << 20;

struct RealDisk;

impl Disk for RealDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        std::fs::File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut content)?;
        if content.len() as u64 > FILE_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 64 MiB"));
        }
        Ok(content)
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        // The rename itself is durable only once its folder is.
        match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => std::fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    fn append(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        std::fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(content)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut entries = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
        entries.sort();
        Ok(entries)
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        let meta = std::fs::metadata(path)?;
        let modified = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Ok(Stamp { modified, length: meta.len(), identity: meta.ino() })
    }
}
