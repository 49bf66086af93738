//! Asking an endpoint how it is, over a connection of its own: what a probe finds must not depend on what requests have
//! open, nor take a connection from them.
//!
//! Whether what was said is good is decided by [`Reply::judge`]; here is only how to get it said.

mod grpc;

use super::{
    Upstream,
    connect::{ConnectError, Dialed, Purpose, Target},
};
use actors::service::{ProbeError, Prober, Reply};
use bytes::Bytes;
use cluster::{BoxFuture, World};
use config::{HealthPolicy, ProbeKind};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

/// So much of a body is looked at.
const BODY_MAX: usize = 64 * 1024;

/// What endpoints see in their logs.
const USER_AGENT: HeaderValue = HeaderValue::from_static("shoal-probe");

/// Whoever probes one endpoint.
pub(crate) struct Probing {
    upstream: Arc<Upstream>,
    world: Arc<dyn World>,
}

impl Probing {
    pub(crate) fn new(upstream: &Arc<Upstream>, world: &Arc<dyn World>) -> Self {
        Self { upstream: upstream.clone(), world: world.clone() }
    }
}

impl Prober for Probing {
    fn probe(&self, policy: &HealthPolicy) -> BoxFuture<'static, Result<(), ProbeError>> {
        let (upstream, world, policy) = (self.upstream.clone(), self.world.clone(), policy.clone());
        Box::pin(async move {
            let asked = tokio::time::timeout(policy.timeout, ask(&upstream, &*world, &policy));
            asked.await.unwrap_or(Err(ProbeError::Timeout))
        })
    }
}

async fn ask(upstream: &Upstream, world: &dyn World, policy: &HealthPolicy) -> Result<(), ProbeError> {
    let elsewhere = policy.port.map(|port| upstream.target.at_port(port));
    let target = elsewhere.as_ref().unwrap_or(&upstream.target);
    let dial = async |target: &Target| {
        let dialed = target.dial(world, upstream.tls().as_deref(), Purpose::Requests, policy.timeout).await;
        dialed.map_err(|error| match error {
            ConnectError::TimedOut => ProbeError::Timeout,
            error => ProbeError::Connect(error.to_string()),
        })
    };
    match &policy.probe {
        kind @ ProbeKind::Tcp => {
            dial(target).await?;
            Reply::Connected.judge(kind)
        }
        kind @ ProbeKind::Http { path, host, body, .. } => {
            let host = host.as_ref().unwrap_or(&target.authority);
            let said = exchange(dial(target).await?, get(path, host, target.tls)?, if body.is_some() { BODY_MAX } else { 0 }).await?;
            Reply::Http { status: said.status.as_u16(), body: &said.body }.judge(kind)
        }
        kind @ ProbeKind::Grpc { service } => {
            let target = target.by_h2();
            let said = exchange(dial(&target).await?, grpc::check(service, &target.authority, target.tls)?, BODY_MAX).await?;
            grpc::read(&said)?.judge(kind)
        }
    }
}

fn get(path: &str, host: &HeaderValue, tls: bool) -> Result<Request<Full<Bytes>>, ProbeError> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = absolute(path, host, tls)?;
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
    Ok(request)
}

fn absolute(path: &str, host: &HeaderValue, tls: bool) -> Result<Uri, ProbeError> {
    let scheme = if tls { Scheme::HTTPS } else { Scheme::HTTP };
    let uri = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(path).build();
    uri.map_err(|error| ProbeError::Broken(format!("the probe cannot be written: {error}")))
}

/// What an endpoint said.
struct Said {
    status: StatusCode,
    headers: HeaderMap,
    /// As much of it as was wanted.
    body: Vec<u8>,
    /// Where the whole body was read, and something follows it.
    trailers: Option<HeaderMap>,
}

/// Sends the request and reads the answer, of its body at most `body_max` bytes. The connection is closed after it.
async fn exchange(dialed: Dialed, mut request: Request<Full<Bytes>>, body_max: usize) -> Result<Said, ProbeError> {
    let io = TokioIo::new(dialed.stream);
    if dialed.h2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(broken)?;
        return beside(connection, async move { read(sender.send_request(request).await.map_err(broken)?, body_max).await }).await;
    }
    let uri = std::mem::take(request.uri_mut()).into_parts();
    if let Some(host) = uri.authority.and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
        request.headers_mut().insert(header::HOST, host);
    }
    *request.uri_mut() = uri.path_and_query.map(Uri::from).unwrap_or_default();
    let (mut sender, connection) = http1::handshake(io).await.map_err(broken)?;
    beside(connection, async move { read(sender.send_request(request).await.map_err(broken)?, body_max).await }).await
}

/// Drives a connection as long as what happens on it goes on.
async fn beside(connection: impl Future, exchange: impl Future<Output = Result<Said, ProbeError>>) -> Result<Said, ProbeError> {
    let (mut connection, mut exchange) = (pin!(connection), pin!(exchange));
    let mut open = true;
    poll_fn(|cx| {
        // How the connection ends is told by the exchange.
        if open && connection.as_mut().poll(cx).is_ready() {
            open = false;
        }
        match exchange.as_mut().poll(cx) {
            Poll::Pending if !open => Poll::Ready(Err(ProbeError::Broken("the connection was closed".to_string()))),
            polled => polled,
        }
    })
    .await
}

async fn read(response: Response<Incoming>, body_max: usize) -> Result<Said, ProbeError> {
    let (head, mut incoming) = response.into_parts();
    let mut said = Said { status: head.status, headers: head.headers, body: Vec::new(), trailers: None };
    while said.body.len() < body_max {
        let Some(frame) = incoming.frame().await else { break };
        match frame.map_err(broken)?.into_data() {
            Ok(data) => said.body.extend_from_slice(&data[..data.len().min(body_max - said.body.len())]),
            Err(frame) => said.trailers = frame.into_trailers().ok(),
        }
    }
    Ok(said)
}

fn broken(error: hyper::Error) -> ProbeError {
    ProbeError::Broken(error.to_string())
}
