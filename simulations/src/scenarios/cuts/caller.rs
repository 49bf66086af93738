//! A caller that asks one node one request after the other, as long as it is up, until it is enough.

use super::super::client::{connect, exchange};
use crate::{
    chance::Chance,
    history::{Answer, History, Id},
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, client::conn::http1::SendRequest, header};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{sleep, timeout};

pub(super) struct Caller {
    number: u32,
    node: SocketAddr,
    /// Whether the node serves.
    up: Arc<AtomicBool>,
    chance: Chance,
    history: History,
    kept: Option<SendRequest<Full<Bytes>>>,
}

/// Well beyond every deadline: who waits for so long has been forgotten.
const PATIENCE: Duration = Duration::from_secs(10);

impl Caller {
    pub(super) fn new(seed: u64, number: u32, node: SocketAddr, up: Arc<AtomicBool>, history: History) -> Self {
        Self { number, node, up, chance: Chance::of(seed, &format!("caller {number}")), history, kept: None }
    }

    pub(super) async fn ask(mut self, enough: Arc<AtomicBool>) {
        let mut number = 0;
        while !enough.load(Relaxed) {
            sleep(self.chance.millis(100..=700)).await;
            if self.up.load(Relaxed) {
                self.ask_one(Id { caller: self.number, number }).await;
                number += 1;
            }
        }
        // What it keeps open is closed by the node's drain.
        self.history.caller_done();
        std::future::pending::<()>().await;
    }

    async fn ask_one(&mut self, id: Id) {
        let path = format!("/{id}");
        self.history.asked(id, Method::GET, &path, false, format!("GET {path}"));
        let mut sender = match self.connection().await {
            Ok(sender) => sender,
            Err(how) => return self.history.answered(id, Answer::None(how)),
        };
        let request = Request::get(&path).header(header::HOST, "shop.example").header("x-request", id.to_string());
        let request = request.body(Full::default()).expect("the parts are those of a request");
        // Who runs out of patience has no answer, and that is what is on record then.
        if let Ok(answer) = timeout(PATIENCE, exchange(&mut sender, request)).await {
            self.history.answered(id, answer);
            self.kept = Some(sender);
        }
    }

    /// The kept connection if it is still good, or else a new one.
    async fn connection(&mut self) -> Result<SendRequest<Full<Bytes>>, String> {
        if let Some(mut kept) = self.kept.take()
            && kept.ready().await.is_ok()
        {
            return Ok(kept);
        }
        connect(self.node).await
    }
}
