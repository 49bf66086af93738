//! HTTP/2 that behaves: a caller and an endpoint on hyper, with trailers, as gRPC needs them.

use crate::{h1::Io, wait::within};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http2::SendRequest,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

pub type AnyBody = UnsyncBoxBody<Bytes, Infallible>;

/// What came back, whole.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("the header is text"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// One connection.
pub struct H2Caller {
    sender: SendRequest<AnyBody>,
    connection: JoinHandle<()>,
}

impl H2Caller {
    /// By prior knowledge.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.expect("the gateway listens");
        stream.set_nodelay(true).expect("a socket of TCP");
        Self::over(stream).await
    }

    pub async fn over(io: impl Io + 'static) -> Self {
        let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let (sender, connection) = within("settings", builder.handshake(TokioIo::new(io))).await.expect("HTTP/2");
        let connection = tokio::spawn(async move {
            // Whoever sends on it learns how it ended.
            let _ = connection.await;
        });
        Self { sender, connection }
    }

    pub async fn try_send(&mut self, request: Request<AnyBody>) -> hyper::Result<Response<Incoming>> {
        within("a stream", self.sender.ready()).await?;
        within("the head of an answer", self.sender.send_request(request)).await
    }

    pub async fn send(&mut self, request: Request<AnyBody>) -> Reply {
        let response = self.try_send(request).await.expect("an answer");
        whole(response).await.expect("a whole answer")
    }

    pub async fn get(&mut self, path: &str) -> Reply {
        self.send(request(Method::GET, path).body(nothing()).expect("a request")).await
    }

    /// Sends a body; `None` where the goodbye came first, so that it was never looked at (RFC 9113 6.8).
    pub async fn post(&mut self, path: &str, body: &'static str) -> Option<Reply> {
        within("a stream", self.sender.ready()).await.ok()?;
        let request = request(Method::POST, path).body(full(body)).expect("a request");
        match within("the head of an answer", self.sender.try_send_request(request)).await {
            Ok(response) => Some(whole(response).await.expect("a whole answer")),
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                let error = format!("{:?}", error.into_error());
                assert!(unsent || error.contains("GoAway") && error.contains("NO_ERROR"), "what was taken is answered: {error}");
                None
            }
        }
    }

    /// Whether the other end has said that it leaves, or has left.
    pub fn is_over(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the connection has ended.
    pub async fn end(mut self) {
        let connection = std::mem::replace(&mut self.connection, tokio::spawn(async {}));
        within("the end of the connection", connection).await.expect("the connection does not panic");
    }
}

impl Drop for H2Caller {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A request of the host that all tests ask for.
pub fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://shop.test{path}"))
}

pub fn nothing() -> AnyBody {
    Empty::new().boxed_unsync()
}

pub fn full(body: impl Into<Bytes>) -> AnyBody {
    Full::new(body.into()).boxed_unsync()
}

/// A body that is sent as it is pushed; it ends when the other half is dropped.
pub fn pushed() -> (mpsc::UnboundedSender<Frame<Bytes>>, AnyBody) {
    struct Pushed(mpsc::UnboundedReceiver<Frame<Bytes>>);
    impl Body for Pushed {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(cx).map(|frame| frame.map(Ok))
        }
    }
    let (push, pull) = mpsc::unbounded_channel();
    (push, Pushed(pull).boxed_unsync())
}

pub async fn whole(response: Response<Incoming>) -> hyper::Result<Reply> {
    let (head, body) = response.into_parts();
    let body = within("the body of an answer", body.collect()).await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok(Reply { status: head.status, headers: head.headers, body: body.to_bytes(), trailers })
}

/// An endpoint that speaks HTTP/2 only and sends back what it gets, frame by frame, with the trailers that gRPC ends with.
pub struct H2Origin {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<http::request::Parts>>>,
    trailers: Arc<Mutex<Vec<HeaderMap>>>,
    accepting: JoinHandle<()>,
}

impl H2Origin {
    pub async fn start() -> Self {
        Self::bound(None, 100).await
    }

    /// One whose connections carry only so many requests at once.
    pub async fn start_with_streams(streams: u32) -> Self {
        Self::bound(None, streams).await
    }

    pub async fn start_tls(tls: TlsAcceptor) -> Self {
        Self::bound(Some(tls), 100).await
    }

    async fn bound(tls: Option<TlsAcceptor>, streams: u32) -> Self {
        let listener = crate::origin::listen();
        let address = listener.local_addr().expect("a bound listener has an address");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let trailers = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn(accept(listener, tls, streams, heads.clone(), trailers.clone()));
        Self { address, heads, trailers, accepting }
    }

    pub fn requests(&self) -> Vec<http::request::Parts> {
        self.heads.lock().expect("no test panics in here").clone()
    }

    /// The trailers of the requests whose end has been seen.
    pub fn trailers(&self) -> Vec<HeaderMap> {
        self.trailers.lock().expect("no test panics in here").clone()
    }
}

impl Drop for H2Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    streams: u32,
    heads: Arc<Mutex<Vec<http::request::Parts>>>,
    trailers: Arc<Mutex<Vec<HeaderMap>>>,
) {
    let mut serving = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (heads, trailers, tls) = (heads.clone(), trailers.clone(), tls.clone());
        serving.spawn(async move {
            let io: Box<dyn Io> = match tls {
                None => Box::new(stream),
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => Box::new(stream),
                    Err(_) => return,
                },
            };
            let service = service_fn(move |request: Request<Incoming>| {
                let (parts, incoming) = request.into_parts();
                heads.lock().expect("no test panics in here").push(parts);
                let echo = Echo { incoming, trailers: trailers.clone(), ended: false };
                let response = Response::builder().header("content-type", "application/grpc").body(echo);
                std::future::ready(response)
            });
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = builder.max_concurrent_streams(streams).serve_connection(TokioIo::new(io), service).await;
        });
    }
}

/// A request's frames as an answer's.
struct Echo {
    incoming: Incoming,
    trailers: Arc<Mutex<Vec<HeaderMap>>>,
    ended: bool,
}

impl Body for Echo {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut received = HeaderMap::new();
        match std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(frame) => received = frame.into_trailers().unwrap_or_default(),
            },
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {}
        }
        self.ended = true;
        self.trailers.lock().expect("no test panics in here").push(received.clone());
        received.insert("grpc-status", HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(received))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
