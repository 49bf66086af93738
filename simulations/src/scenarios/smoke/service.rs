//! The service behind the node: repeats what it was asked, and can be slow, rude or broken.

use super::{
    PROMISES,
    body::{Pieces, content},
    caller::echo,
};
use crate::{
    chance::Chance,
    history::{History, Id},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::sleep;
use turmoil::net::TcpListener;

#[derive(Clone)]
pub(super) struct Service {
    history: History,
    manners: Manners,
    chance: Arc<Mutex<Chance>>,
}

/// Which bad manners a service has in this run.
#[derive(Clone, Copy)]
struct Manners {
    /// Closes connections at any moment, without a word.
    hangs_up: bool,
    /// Takes a request and closes the connection instead of answering.
    drops: bool,
    /// Breaks off in the middle of an answer.
    cuts: bool,
    /// Takes longer than a request may, before its answer or in the middle of it.
    stalls: bool,
    /// Answers before it has the whole request.
    interrupts: bool,
}

/// The request that came last on a connection.
type Latest = Arc<Mutex<Option<Id>>>;

impl Service {
    pub(super) fn new(seed: u64, history: History) -> Self {
        let mut chance = Chance::of(seed, "service");
        let mut now_and_then = || chance.one_in(4);
        let manners = Manners {
            hangs_up: now_and_then(),
            drops: now_and_then(),
            cuts: now_and_then(),
            stalls: now_and_then(),
            interrupts: now_and_then(),
        };
        Self { history, manners, chance: Arc::new(Mutex::new(chance)) }
    }

    pub(super) async fn serve(self, port: u16) -> turmoil::Result {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let latest = Arc::new(Mutex::new(None));
            let service = self.clone();
            let (keep_alive, life) =
                self.draw(|chance| (!chance.one_in(8), if chance.one_in(2) { 2_000 } else { chance.between(20..=800) }));
            let life = if self.manners.hangs_up { Duration::from_millis(life) } else { Duration::MAX };
            let answering = service_fn({
                let latest = Arc::clone(&latest);
                move |request| service.clone().answer(request, Arc::clone(&latest))
            });
            let connection = http1::Builder::new().keep_alive(keep_alive).serve_connection(TokioIo::new(stream), answering);
            let history = self.history.clone();
            tokio::spawn(async move {
                tokio::select! {
                    // How it ended shows at the node.
                    _ = connection => {}
                    () = sleep(life) => {
                        let latest = *latest.lock().unwrap_or_else(PoisonError::into_inner);
                        history.hangs_up(latest);
                    }
                }
            });
        }
    }

    fn draw<T>(&self, with: impl FnOnce(&mut Chance) -> T) -> T {
        with(&mut self.chance.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn answer(self, request: Request<Incoming>, latest: Latest) -> io::Result<Response<Pieces>> {
        let (head, body) = request.into_parts();
        let named = head.headers.get("x-request").and_then(|value| value.to_str().ok()).and_then(Id::parse);
        let id = named.ok_or_else(|| io::Error::other("the request has lost its name"))?;
        self.history.arrived("service", id);
        *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);

        if self.manners.interrupts && !body.is_end_stream() && self.draw(|chance| chance.one_in(3)) {
            self.history.interrupted(id);
            let answer = Response::builder().status(StatusCode::SERVICE_UNAVAILABLE).header("x-request", id.to_string());
            return answer.body(Pieces::default()).map_err(io::Error::other);
        }
        let body: Bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let slow = path.starts_with("/slow/");
        sleep(self.draw(|chance| chance.millis(if slow { 200..=900 } else { 0..=30 }))).await;

        let too_long = PROMISES.deadline + Duration::from_secs(1);
        let stalls = || self.manners.stalls && self.draw(|chance| chance.one_in(32));
        let (late, halting) = (stalls(), stalls());
        if late {
            self.history.wronged(id, "has to wait");
            sleep(too_long).await;
        }
        if self.manners.drops && self.draw(|chance| chance.one_in(10)) {
            self.history.wronged(id, "is dropped");
            return Err(io::Error::other("the service drops the request"));
        }
        let echo = echo(&head.method, path, &body);
        let pieces = self.draw(|chance| {
            let most = if chance.one_in(4) { 60_000 } else { 200 };
            let padding = chance.between(0..=most);
            let answer: Bytes = [Bytes::from(echo), Bytes::from_static(b"\n"), content(padding, chance)].concat().into();
            Pieces::of(&answer, chance)
        });
        let cut = self.manners.cuts && self.draw(|chance| chance.one_in(10));
        if cut {
            self.history.cut(id, "is broken off");
        }
        if halting {
            self.history.cut(id, "has to wait for each piece");
        }
        let answer = Response::builder().header("x-request", id.to_string()).header(header::SERVER, "service");
        let pieces = if halting { pieces.halting(too_long) } else { pieces };
        answer.body(if cut { pieces.cut() } else { pieces }).map_err(io::Error::other)
    }
}
