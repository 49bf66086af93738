//! One HTTP/1.1 connection to an endpoint, driven by whoever holds it.

use crate::{request::Upload, upstream::pool::Permit};
use cluster::BoxStream;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{Builder, Connection, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

pub(crate) type Io = TokioIo<BoxStream>;

/// An endpoint that sends a longer head than this gets no second chance.
const HEAD_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 200;

pub(crate) struct H1 {
    sender: SendRequest<Upload>,
    connection: Connection<Io, Upload>,
    /// Whether it has carried a request before: only then may its loss be the endpoint's idle timeout.
    pub(super) used: bool,
    /// Ticks of the pool at which it was opened and last given back.
    pub(super) opened: u32,
    pub(super) idle_since: u32,
    _permit: Permit,
}

/// Why an exchange ended without an answer.
pub(crate) enum ExchangeError {
    /// Nothing of the request has reached the connection: it is here again, whole.
    Unsent(Box<Request<Upload>>),
    /// The endpoint may have seen the request.
    Broken(hyper::Error),
    /// The connection ended without a word.
    Closed,
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent(_) => f.write_str("connection closed before the request was sent"),
            Self::Broken(error) => write!(f, "{error}"),
            Self::Closed => f.write_str("connection closed without an answer"),
        }
    }
}

pin_project_lite::pin_project! {
    /// Written out by hand: as an async block it would hold the request twice.
    struct Exchange<'a, F> {
        #[pin]
        response: F,
        connection: &'a mut Connection<Io, Upload>,
    }
}

impl<F> Future for Exchange<'_, F>
where
    F: Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>>,
{
    type Output = Result<Response<Incoming>, ExchangeError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // The connection first: it is what makes the answer appear.
        let done = Pin::new(&mut **this.connection).poll(cx);
        match (this.response.poll(cx), done) {
            (Poll::Ready(Ok(response)), _) => Poll::Ready(Ok(response)),
            (Poll::Ready(Err(error)), _) => Poll::Ready(Err(error.into())),
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(ExchangeError::Broken(error))),
            (Poll::Pending, Poll::Ready(Ok(()))) => Poll::Ready(Err(ExchangeError::Closed)),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
        }
    }
}

impl From<TrySendError<Request<Upload>>> for ExchangeError {
    fn from(mut error: TrySendError<Request<Upload>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unsent(Box::new(request)),
            None => Self::Broken(error.into_error()),
        }
    }
}

impl H1 {
    pub(super) async fn open(stream: BoxStream, permit: Permit, tick: u32) -> Result<Box<Self>, hyper::Error> {
        let (sender, connection) =
            Builder::new().max_headers(HEADERS_MAX).max_buf_size(HEAD_MAX * 2).handshake(TokioIo::new(stream)).await?;
        Ok(Box::new(Self { sender, connection, used: false, opened: tick, idle_since: tick, _permit: permit }))
    }

    /// Lets the connection notice what has happened to it. False means that it is of no use any more.
    pub(super) fn is_alive(&mut self, cx: &mut Context<'_>) -> bool {
        Pin::new(&mut self.connection).poll(cx).is_pending() && !self.sender.is_closed()
    }

    /// Whether the exchange before is over in every respect, so that the next one may begin.
    pub(super) fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        self.sender.is_ready() || (self.is_alive(cx) && self.sender.is_ready())
    }

    /// Moves bytes both ways. `Ready` means that the connection is done, for better or worse.
    pub(crate) fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        Pin::new(&mut self.connection).poll(cx)
    }

    /// Sends a request and waits for the head of its answer. The answer's body needs [`H1::poll_drive`] to arrive.
    pub(crate) fn exchange(&mut self, request: Request<Upload>) -> impl Future<Output = Result<Response<Incoming>, ExchangeError>> {
        self.used = true;
        Exchange { response: self.sender.try_send_request(request), connection: &mut self.connection }
    }

    /// Sends a request that may turn the connection into a tunnel. The connection gets a task of its own, which lives
    /// until the answer or the tunnel ends.
    pub(crate) async fn exchange_upgrade(self: Box<Self>, request: Request<Upload>) -> Result<Response<Incoming>, ExchangeError> {
        let Self { mut sender, connection, _permit: permit, .. } = *self;
        tokio::spawn(async move {
            // Its failure reaches the caller through the answer or the tunnel.
            let _ = connection.with_upgrades().await;
            drop(permit);
        });
        Ok(sender.try_send_request(request).await?)
    }
}
