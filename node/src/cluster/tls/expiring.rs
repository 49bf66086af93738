//! A connection that is over when the certificate of its other side is.
//!
//! It looks at the clock whenever something is read or written, which peers do several times a second. Who has renewed meanwhile
//! is dialed again and shows the new certificate; who has not is refused.

use super::Distrust;
use ::cluster::{BoxStream, World};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) struct Expiring {
    stream: BoxStream,
    world: Arc<dyn World>,
    ends: SystemTime,
}

impl Expiring {
    pub(super) fn new(stream: BoxStream, world: Arc<dyn World>, ends: SystemTime) -> Self {
        Self { stream, world, ends }
    }

    fn lasting(&mut self) -> io::Result<Pin<&mut BoxStream>> {
        if self.world.wall() > self.ends {
            return Err(Distrust::Expired.into());
        }
        Ok(Pin::new(&mut self.stream))
    }
}

impl AsyncRead for Expiring {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.lasting()?.poll_read(cx, into)
    }
}

impl AsyncWrite for Expiring {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.lasting()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.lasting()?.poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
