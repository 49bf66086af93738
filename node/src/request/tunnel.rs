//! Two upgraded connections joined into one, until either ends or both fall silent.

use crate::{drain::Stage, listener::Caller, upstream::Tunnel};
use bytes::{Buf as _, Bytes};
use cluster::BoxStream;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy, split};

/// Carries bytes both ways in a task of its own. The caller's connection counts as open until the tunnel ends.
pub(crate) fn join(caller_half: OnUpgrade, endpoint_half: Tunnel, idle: Duration, caller: Arc<Caller>) {
    tokio::spawn(async move {
        let Ok(down) = caller_half.await else { return };
        let Tunnel { first, stream, permit } = endpoint_half;
        let moved = AtomicU64::new(0);
        let mut down = Watched { io: TokioIo::new(down), moved: &moved };
        let mut up = Watched { io: Endpoint { first, stream }, moved: &moved };
        tokio::select! {
            () = both_ways(&mut down, &mut up) => {}
            () = silence(&moved, idle) => {}
            () = caller.listener.drain.reached(Stage::Aborted) => {}
            () = poll_fn(|cx| permit.poll_cut(cx)) => {}
        }
        drop((caller, permit));
    });
}

/// Copies each way until its reader has no more. A side that takes nothing any more may still have something to say, so
/// neither way ends the other by failing. How they ended matters to nobody: both are closed.
async fn both_ways(down: &mut (impl AsyncRead + AsyncWrite + Unpin), up: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let (mut from_caller, mut to_caller) = split(down);
    let (mut from_endpoint, mut to_endpoint) = split(up);
    let upwards = async {
        let _ = copy(&mut from_caller, &mut to_endpoint).await;
        let _ = to_endpoint.shutdown().await;
    };
    let downwards = async {
        let _ = copy(&mut from_endpoint, &mut to_caller).await;
        let _ = to_caller.shutdown().await;
    };
    futures_util::future::join(upwards, downwards).await;
}

async fn silence(moved: &AtomicU64, idle: Duration) {
    let mut seen = 0;
    loop {
        tokio::time::sleep(idle).await;
        let now = moved.load(Relaxed);
        if now == seen {
            return;
        }
        seen = now;
    }
}

/// The endpoint's half: what came behind its answer is read before the rest.
struct Endpoint {
    first: Bytes,
    stream: BoxStream,
}

impl AsyncRead for Endpoint {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let here = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..here]);
        self.first.advance(here);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endpoint {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

struct Watched<'a, S> {
    io: S,
    moved: &'a AtomicU64,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            self.moved.fetch_add(1, Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
