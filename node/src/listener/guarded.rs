//! The byte stream under a connection, watched: what comes and goes is noted in the [`Pulse`], HTTP/2 frames are
//! counted before they reach the codec, and the last words of a connection that is thrown out are said here.

use super::{
    frames::{self, Inbound, Outbound, Verdict},
    pulse::Pulse,
};
use cluster::BoxStream;
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// What is taken at once to find out which protocol a connection speaks: most request heads, whole.
const FIRST_READ: usize = 2048;

/// How long, and how much, an ended connection still takes of what its caller goes on to send.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_MAX: usize = 4 * 1024 * 1024;

const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

pub(super) struct Guarded {
    io: BoxStream,
    /// Read already, to be read again by the codec.
    head: Vec<u8>,
    head_read: usize,
    pulse: Arc<Pulse>,
    frames: Option<Box<Frames>>,
    /// Set once the writing side is closed while the caller may still be sending.
    lingering: Option<Linger>,
}

struct Linger {
    until: Pin<Box<Sleep>>,
    left: usize,
}

struct Frames {
    inbound: Inbound,
    outbound: Outbound,
    /// Streams that were complete when last looked at.
    completed: u64,
}

impl Frames {
    fn wrote(&mut self, bytes: &[u8]) {
        let data = self.outbound.feed(bytes);
        self.inbound.data_sent(data);
    }
}

impl Guarded {
    pub(super) fn new(io: BoxStream, head: Vec<u8>, pulse: Arc<Pulse>) -> Self {
        Self { io, head, head_read: 0, pulse, frames: None, lingering: None }
    }

    pub(super) fn guard_frames(&mut self, control_frames: u32) {
        self.frames = Some(Box::new(Frames { inbound: Inbound::new(control_frames), outbound: Outbound::default(), completed: 0 }));
    }

    /// What has been read so far and will be read again.
    pub(super) fn peeked(&self) -> &[u8] {
        &self.head
    }

    pub(super) async fn peek_more(&mut self) -> io::Result<()> {
        self.head.reserve(FIRST_READ);
        if self.io.read_buf(&mut self.head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pulse.reads_head();
        Ok(())
    }

    fn poll_head(&mut self, buf: &mut ReadBuf<'_>) {
        let left = &self.head[self.head_read..];
        let taken = left.len().min(buf.remaining());
        buf.put_slice(&left[..taken]);
        self.head_read += taken;
        if self.head_read == self.head.len() {
            self.head = Vec::new();
            self.head_read = 0;
        }
    }

    /// The last words of a connection that took too long over a head.
    fn say_timeout(&mut self, cx: &mut Context<'_>) -> io::Error {
        if self.frames.is_none() {
            // Best effort: whoever does not read will not miss it.
            let _ = Pin::new(&mut self.io).poll_write(cx, REQUEST_TIMEOUT);
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
        io::ErrorKind::TimedOut.into()
    }

    /// Ends a flood: GOAWAY where the last frame of ours is complete, and no more reading.
    fn say_calm(&mut self, cx: &mut Context<'_>) -> io::Error {
        self.pulse.calm();
        if let Some(guard) = &self.frames
            && guard.outbound.at_boundary()
        {
            let goaway = frames::goaway_enhance_your_calm(guard.inbound.last_stream());
            let _ = Pin::new(&mut self.io).poll_write(cx, &goaway);
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
        io::Error::other("too many control frames")
    }

    fn inspect(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let pulse = &self.pulse;
        let Some(guard) = &mut self.frames else {
            pulse.reads_head();
            return Ok(());
        };
        let completed = pulse.completed();
        if completed != guard.completed {
            guard.completed = completed;
            guard.inbound.completed();
        }
        let newest = guard.inbound.last_stream();
        match guard.inbound.feed(bytes, || pulse.now()) {
            Verdict::Pass => {
                // A ping between requests is no request that has begun.
                if guard.inbound.last_stream() != newest {
                    pulse.reads_head();
                }
                Ok(())
            }
            Verdict::Calm(_) => Err(self.say_calm(cx)),
        }
    }

    /// Takes what still comes and forgets it, until the caller ends too or the time is up.
    ///
    /// A socket that is closed with unread bytes in it resets the connection, and a reset may overtake the answer that
    /// is still on its way (RFC 9112, section 9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(lingering) = &mut self.lingering else { return Poll::Ready(()) };
        let mut forgotten = [0; FIRST_READ];
        loop {
            if lingering.until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buf = ReadBuf::new(&mut forgotten);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf));
            let count = buf.filled().len();
            if read.is_err() || count == 0 || count > lingering.left {
                return Poll::Ready(());
            }
            lingering.left -= count;
        }
    }

    fn note_write<T>(&mut self, written: &Poll<io::Result<T>>) {
        match written {
            Poll::Ready(_) => self.pulse.wrote(),
            Poll::Pending => self.pulse.write_blocked(),
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.pulse.is_expired() {
            return Poll::Ready(Err(this.say_timeout(cx)));
        }
        let before = buf.filled().len();
        if this.head.is_empty() {
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        } else {
            this.poll_head(buf);
        }
        let inspected = this.inspect(cx, &buf.filled()[before..]);
        Poll::Ready(inspected)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.note_write(&written);
        if let (Some(guard), Poll::Ready(Ok(count))) = (&mut this.frames, &written) {
            guard.wrote(&buf[..*count]);
        }
        written
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.note_write(&written);
        if let (Some(guard), Poll::Ready(Ok(count))) = (&mut this.frames, &written) {
            let mut left = *count;
            for buf in bufs {
                let part = left.min(buf.len());
                guard.wrote(&buf[..part]);
                left -= part;
            }
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // TLS takes bytes for which the socket has no room yet, so that only the flush tells when they are gone.
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.note_write(&flushed);
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            // HTTP/2 tells each stream by itself that it need not go on.
            if this.frames.is_none() && this.pulse.may_be_cut_short() {
                this.pulse.ends();
                this.lingering = Some(Linger { until: Box::pin(tokio::time::sleep(LINGER)), left: LINGER_MAX });
            }
        }
        this.poll_linger(cx).map(Ok)
    }
}

/// A stream with bytes before it that were read too early.
pub(super) struct Rewound {
    head: Vec<u8>,
    read: usize,
    io: BoxStream,
}

impl Rewound {
    pub(super) fn new(head: Vec<u8>, io: BoxStream) -> Self {
        Self { head, read: 0, io }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = &this.head[this.read..];
        if left.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let taken = left.len().min(buf.remaining());
        buf.put_slice(&left[..taken]);
        this.read += taken;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::pulse::{Patience, Slow, Stall};
    use config::{Bounds, ByteSize};
    use std::task::Waker;

    /// Takes every byte at once, and says only at the second look that they are gone, as TLS does where the socket has
    /// had no room for them.
    #[derive(Default)]
    struct Buffering {
        flushed: bool,
    }

    impl AsyncRead for Buffering {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Buffering {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if std::mem::replace(&mut self.flushed, true) { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Patient with everything but a write.
    fn bounds() -> Bounds {
        let hour = Duration::from_secs(3600);
        Bounds {
            head_size: ByteSize(1024),
            head_count: 10,
            uri_size: ByteSize(100),
            head_timeout: hour,
            keep_alive: hour,
            body_idle: hour,
            body_rate_min: ByteSize(0),
            write_stall: Duration::ZERO,
            tls_handshake: hour,
            requests_per_connection: 1,
            h2_streams: 1,
            h2_control_frames: 1,
        }
    }

    #[test]
    fn a_write_is_stalled_no_longer_than_its_flush() {
        let pulse = Arc::new(Pulse::new(Arc::new(crate::world::RealWorld::new())));
        let mut guarded = Guarded::new(Box::new(Buffering::default()), Vec::new(), pulse.clone());
        let mut cx = Context::from_waker(Waker::noop());
        let bounds = bounds();

        assert!(Pin::new(&mut guarded).poll_write(&mut cx, b"answer").is_ready());
        assert!(Pin::new(&mut guarded).poll_flush(&mut cx).is_pending());
        assert!(matches!(pulse.patience(&bounds, &mut Stall::default()), Patience::Over(Slow::Write)));

        assert!(Pin::new(&mut guarded).poll_flush(&mut cx).is_ready());
        assert!(matches!(pulse.patience(&bounds, &mut Stall::default()), Patience::Until(_)));
    }
}
