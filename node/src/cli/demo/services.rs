//! Services that answer something one can recognise, for as long as the process lives.

use bytes::Bytes;
use cluster::{Listener, World};
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    fmt::Write,
    future::poll_fn,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Interval;

const TICK: Duration = Duration::from_secs(1);

/// How long accepting rests after it failed.
const ACCEPT_REST: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sample {
    /// One of two endpoints.
    Catalog(u8),
    /// One of two versions.
    Orders(u8),
    /// Shows the request that it got.
    Echo,
    /// Server-sent events, one a second.
    Ticks,
}

impl Sample {
    pub(super) const ALL: [Self; 6] = [Self::Catalog(1), Self::Catalog(2), Self::Orders(1), Self::Orders(2), Self::Echo, Self::Ticks];

    /// What stands for its address in the configuration.
    pub(super) fn placeholder(self) -> String {
        match self {
            Self::Catalog(number) => format!("CATALOG-{number}"),
            Self::Orders(version) => format!("ORDERS-{version}"),
            Self::Echo => "ECHO".to_string(),
            Self::Ticks => "TICKS".to_string(),
        }
    }

    /// Serves on a port that the system chooses.
    pub(super) async fn start(self, world: &dyn World) -> io::Result<SocketAddr> {
        let listener = world.listen((Ipv4Addr::LOCALHOST, 0).into()).await?;
        let address = listener.address();
        tokio::spawn(self.accept(listener));
        Ok(address)
    }

    async fn accept(self, mut listener: Box<dyn Listener>) {
        loop {
            match poll_fn(|cx| listener.poll_accept(cx)).await {
                Ok((stream, _)) => {
                    let service = service_fn(move |request| async move { Ok::<_, Infallible>(self.answer(&request)) });
                    // How a connection to the demo's own services ends is of no interest.
                    tokio::spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(stream), service).await });
                }
                Err(_) => tokio::time::sleep(ACCEPT_REST).await,
            }
        }
    }

    fn answer(self, request: &Request<Incoming>) -> Response<Answer> {
        let path = request.uri().path();
        match self {
            Self::Catalog(number) => {
                let item = path.rsplit('/').next().unwrap_or_default();
                json_answer(&json!({ "item": item, "endpoint": format!("catalog-{number}") }))
            }
            Self::Orders(version) => json_answer(&json!({ "orders": [], "version": format!("v{version}") })),
            Self::Echo => labelled("text/plain; charset=utf-8", Answer::Whole(Some(as_received(request).into()))),
            Self::Ticks => labelled("text/event-stream", Answer::Ticks { interval: tokio::time::interval(TICK), sent: 0 }),
        }
    }
}

fn as_received(request: &Request<Incoming>) -> String {
    let mut text = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
    for (name, value) in request.headers() {
        // Writing into a string cannot go wrong.
        let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    text
}

fn json_answer(value: &Value) -> Response<Answer> {
    labelled("application/json", Answer::Whole(Some(format!("{value}\n").into())))
}

fn labelled(content_type: &'static str, answer: Answer) -> Response<Answer> {
    let mut response = Response::new(answer);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// All at once, or without end.
enum Answer {
    Whole(Option<Bytes>),
    Ticks { interval: Interval, sent: u64 },
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(whole) => Poll::Ready(whole.take().map(|whole| Ok(Frame::data(whole)))),
            Self::Ticks { interval, sent } => {
                ready!(interval.poll_tick(cx));
                *sent += 1;
                Poll::Ready(Some(Ok(Frame::data(format!("data: tick {sent}\n\n").into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => SizeHint::with_exact(whole.as_ref().map_or(0, |whole| whole.len() as u64)),
            Self::Ticks { .. } => SizeHint::default(),
        }
    }
}
