//! A connection that can be ended from outside: tonic keeps connections in tasks of its own, and whoever is responsible
//! for one must be able to close it and to know when it has closed.

use crate::{BoxStream, trust::is_doubted_by_us};
use http::Uri;
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready as due},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};
use tonic::{codegen::Service, transport::server::Connected};

/// The connection, as tonic has it.
pub(super) struct Leash {
    stream: BoxStream,
    held: oneshot::Receiver<Infallible>,
    cut: bool,
    _gone: oneshot::Sender<Infallible>,
    distrust: Arc<OnceLock<String>>,
}

/// Our end of the leash: dropping it closes the connection.
pub(super) struct Hold {
    _held: oneshot::Sender<Infallible>,
    gone: oneshot::Receiver<Infallible>,
    distrust: Arc<OnceLock<String>>,
}

impl Leash {
    pub(super) fn new(stream: BoxStream) -> (Self, Hold) {
        let (hold, held) = oneshot::channel();
        let (tell, gone) = oneshot::channel();
        let distrust = Arc::new(OnceLock::new());
        let held_distrust = Arc::clone(&distrust);
        (Self { stream, held, cut: false, _gone: tell, distrust }, Hold { _held: hold, gone, distrust: held_distrust })
    }

    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        self.cut = self.cut || Pin::new(&mut self.held).poll(cx).is_ready();
        self.cut
    }
}

impl Hold {
    /// Until the connection has closed by itself.
    pub(super) async fn gone(&mut self) {
        let _ = (&mut self.gone).await;
    }

    /// What the other side found wrong with our certificate: TLS 1.3 tells it by an alert in the place of the first answer, and
    /// of what tonic makes of that little is left.
    pub(super) fn distrust(&self) -> Option<&str> {
        self.distrust.get().map(String::as_str)
    }
}

fn cut<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
}

impl AsyncRead for Leash {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return cut();
        }
        let read = due!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        if let Err(error) = &read
            && is_doubted_by_us(error).is_some()
        {
            // Only the first tells where it began.
            let _ = self.distrust.set(error.to_string());
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Leash {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut { cut() } else { Pin::new(&mut self.stream).poll_write(cx, bytes) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut { cut() } else { Pin::new(&mut self.stream).poll_flush(cx) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut { cut() } else { Pin::new(&mut self.stream).poll_shutdown(cx) }
    }
}

impl Connected for Leash {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// Gives tonic the one connection that is there, and none after it: who dials again does so here, not in tonic.
pub(super) struct Once(Option<Leash>);

impl Once {
    pub(super) fn new(leash: Leash) -> Self {
        Self(Some(leash))
    }
}

impl Service<Uri> for Once {
    type Response = TokioIo<Leash>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<Leash>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().map(TokioIo::new).ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}
