//! The real world: the machine's clock, sockets, resolver, threads and files.

#![expect(clippy::disallowed_methods, reason = "this is the one place that meets the outside")]

use crate::upstream::resolve;
use cluster::{
    BoxFuture, BoxStream, Disk, DiskFile, Listener, Stamp, World,
    dns::{Answer, Question},
};
use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
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

/// The permissions of a file with secrets in it.
const OWNER_ALONE: u32 = 0o600;

/// Where a file is written before it takes the place of another.
fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    beside.into()
}

fn replace(path: &Path, content: &[u8], how: &std::fs::OpenOptions) -> io::Result<()> {
    let beside = beside(path);
    let mut file = how.open(&beside)?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&beside, path));
    if let Err(error) = written {
        // A disk that is full needs the room more than anybody needs a part of the file.
        let _ = std::fs::remove_file(&beside);
        return Err(error);
    }
    // The rename itself is durable only once its folder is.
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

struct RealFile(std::fs::File);

impl DiskFile for RealFile {
    fn length(&self) -> io::Result<u64> {
        self.0.metadata().map(|meta| meta.len())
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, offset)
    }

    fn write_at(&self, offset: u64, content: &[u8]) -> io::Result<()> {
        self.0.write_all_at(content, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

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
        replace(path, content, std::fs::OpenOptions::new().write(true).create(true).truncate(true))
    }

    fn replace_secret(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        // What an earlier attempt left beside it may be readable by others.
        match std::fs::remove_file(beside(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        replace(path, content, std::fs::OpenOptions::new().write(true).create_new(true).mode(OWNER_ALONE))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
            && !folder.exists()
        {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let opened = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(OWNER_ALONE).open(path);
        let file = match opened {
            Err(error) if matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) => {
                std::fs::File::open(path).map_err(|_| error)?
            }
            opened => opened?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            // Some network file systems have no locks. There it is up to the operator to give each node a folder of its own.
            Err(std::fs::TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
        // Whoever held it may have put another file into its place: that one is to be opened, by the next attempt.
        if file.metadata()?.ino() != std::fs::metadata(path)?.ino() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(RealFile(file)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
    }

    #[test]
    fn files_with_secrets_are_for_their_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (opened, replaced) = (folder.path().join("state/node.redb"), folder.path().join("root.key"));
        drop(RealDisk.open(&opened).expect("a file"));
        // What lies there from an attempt that was broken off is not written into.
        std::fs::write(folder.path().join("root.key.new"), "old").expect("a file");
        RealDisk.replace_secret(&replaced, b"secret").expect("a file");
        assert_eq!((mode(&opened), mode(&replaced), mode(opened.parent().expect("a folder"))), (0o600, 0o600, 0o700));
        assert_eq!(RealDisk.read(&replaced).expect("a file"), b"secret");
    }

    #[test]
    fn an_open_file_belongs_to_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("node.redb");
        let file = RealDisk.open(&path).expect("a file");
        assert_eq!(RealDisk.open(&path).err().map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
        file.write_at(3, b"abc").expect("a file that can be written");
        let mut read = [0; 6];
        file.read_at(0, &mut read).expect("six bytes");
        assert_eq!(&read, b"\0\0\0abc");
        assert_eq!(file.read_at(1, &mut read).expect_err("only five").kind(), io::ErrorKind::UnexpectedEof);
        file.resize(1).expect("a file that can be cut");
        assert_eq!(file.length().expect("a length"), 1);
        drop(file);
        assert!(RealDisk.open(&path).is_ok());
    }
}
