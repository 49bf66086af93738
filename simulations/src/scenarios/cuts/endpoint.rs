//! An endpoint that does nothing wrong: what happens is the network's doing.

use crate::{
    chance::Chance,
    history::{History, Id},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::time::sleep;
use turmoil::net::TcpListener;

#[derive(Clone)]
pub(super) struct Endpoint {
    host: &'static str,
    history: History,
    chance: Arc<Mutex<Chance>>,
}

impl Endpoint {
    pub(super) fn new(seed: u64, host: &'static str, history: History) -> Self {
        Self { host, history, chance: Arc::new(Mutex::new(Chance::of(seed, host))) }
    }

    pub(super) async fn serve(self, port: u16) -> turmoil::Result {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let endpoint = self.clone();
            let answering = service_fn(move |request| endpoint.clone().answer(request));
            tokio::spawn(async move {
                // How it ended shows at the node.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answering).await;
            });
        }
    }

    async fn answer(self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let after = self.chance.lock().unwrap_or_else(PoisonError::into_inner).millis(0..=30);
        sleep(after).await;
        if head.uri.path() == "/health" {
            return Ok(Response::default());
        }
        let named = head.headers.get("x-request").and_then(|value| value.to_str().ok()).and_then(Id::parse);
        let id = named.ok_or_else(|| io::Error::other("the request has lost its name"))?;
        self.history.arrived(self.host, id);
        body.collect().await.map_err(io::Error::other)?;
        let echo = format!("{} {}\n", head.method, head.uri.path());
        let answer = Response::builder().header("x-request", id.to_string());
        answer.body(Full::from(echo)).map_err(io::Error::other)
    }
}
