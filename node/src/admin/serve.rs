//! The admin listener: a small server of its own, so that nothing that callers do can keep operators out.

use super::{Admin, BODY_MAX, Body, Callers, Doors, Reply, Told, actors::told, members::answer_peer as decide_for_peer};
use crate::{drain::Stage, node::Node, telemetry::request_id::RequestId, tls::ServerTls};
use actors::inspect::look_into;
use bytes::Bytes;
use cluster::{BoxStream, Listener, offload};
use config::Secret;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};
use tokio_rustls::TlsAcceptor;

/// Operators are few; whatever comes beyond is refused.
const CONNECTIONS_MAX: usize = 64;

/// For a handshake, a head, and a body.
const PATIENCE: Duration = Duration::from_secs(10);

const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Everything that one admin listener shares between its connections.
struct Desk {
    node: Arc<Node>,
    admin: Admin,
    tls: Option<Arc<ServerTls>>,
    open: AtomicUsize,
}

/// Answers operators for as long as the node runs, and while it drains.
pub(crate) async fn accept(node: Arc<Node>, token: Secret, tls: Option<Arc<ServerTls>>, mut socket: Box<dyn Listener>) {
    let metrics_open = node.snapshot.load().gateway.admin.metrics_open;
    let callers = Callers { bound: socket.address(), names: tls.iter().flat_map(|tls| tls.names()).collect(), tls: tls.is_some() };
    let admin = Admin::new(Doors { token, metrics_open, callers });
    let desk = Arc::new(Desk { node: node.clone(), admin, tls, open: AtomicUsize::new(0) });
    let mut over = pin!(node.drain.reached(Stage::Aborted));
    loop {
        let accepted = poll_fn(|cx| match socket.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending => over.as_mut().poll(cx).map(|()| None),
        })
        .await;
        match accepted {
            None => return,
            Some(Ok((stream, _))) => {
                if desk.open.fetch_add(1, Relaxed) >= CONNECTIONS_MAX {
                    desk.open.fetch_sub(1, Relaxed);
                    continue;
                }
                tokio::spawn(connection(desk.clone(), stream));
            }
            Some(Err(_)) => tokio::time::sleep(ACCEPT_REST).await,
        }
    }
}

async fn connection(desk: Arc<Desk>, stream: BoxStream) {
    let stream = match &desk.tls {
        None => Some(stream),
        Some(tls) => {
            let accepting = TlsAcceptor::from(tls.config()).accept(stream);
            let accepted = tokio::time::timeout(PATIENCE, accepting).await;
            accepted.ok().and_then(Result::ok).map(|stream| Box::new(stream) as BoxStream)
        }
    };
    if let Some(stream) = stream {
        let service = service_fn(|request| {
            let desk = desk.clone();
            async move { Ok::<_, Infallible>(answer(desk, request).await) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let over = desk.node.drain.reached(Stage::Aborted);
        tokio::select! {
            // Whether an operator hung up politely is of no interest.
            _ = served.as_mut() => {}
            () = over => {}
        }
    }
    desk.open.fetch_sub(1, Relaxed);
}

async fn answer(desk: Arc<Desk>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(PATIENCE, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(body)) => Body::Whole(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Body::TooLarge,
        // What came is less than what was announced: no question that asks for a body can be answered from it.
        Ok(Err(_)) | Err(_) => Body::Whole(Bytes::new()),
    };
    let world = desk.node.world.clone();
    let request_id = RequestId::new(world.wall(), [world.chance(), world.chance()]);
    // Pages take their time: not on a thread that serves requests.
    let (reply, head, desk, request_id) = offload(&*world, move || {
        let reply = desk.admin.answer(&head, &body, &*desk.node, desk.node.world.now(), request_id.as_str());
        (reply, head, desk, request_id)
    })
    .await;
    let response = match reply {
        Reply::Whole(response) => response,
        Reply::Actor(slot) => {
            let state = look_into(&slot).await;
            desk.admin.tell(&head, &slot, &state, world.now(), request_id.as_str())
        }
        Reply::Views => {
            let views = match &desk.node.part {
                Some(part) => part.views().await,
                None => unreachable!("views are asked for where there is a cluster"),
            };
            desk.admin.show(&head, &views, request_id.as_str())
        }
        Reply::Member(asked) => {
            let told = match &desk.node.part {
                Some(part) => part.ask(&asked).await,
                None => Told::Unreachable { why: "this node is in no cluster".into(), gone: None },
            };
            desk.admin.relay(&head, &asked, told, request_id.as_str())
        }
    };
    response.map(Full::new)
}

/// What a peer is answered, who reads the pages of this node.
pub(crate) async fn answer_peer(node: &Arc<Node>, path: String, query: String, request_id: RequestId) -> Response<Bytes> {
    let world = node.world.clone();
    let reply = offload(&*world, {
        let node = node.clone();
        move || decide_for_peer(&path, &query, &*node, node.world.now(), request_id.as_str())
    })
    .await;
    match reply {
        Reply::Whole(response) => response,
        Reply::Actor(slot) => {
            let state = look_into(&slot).await;
            told(&slot, &state, world.now())
        }
        Reply::Member(_) | Reply::Views => unreachable!("a peer is answered about this node alone"),
    }
}
