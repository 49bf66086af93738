//! A caller: one connection at a time, one request at a time, and a note of each.

use super::body::{Pieces, content};
use crate::{
    chance::Chance,
    history::{Answer, History, Id},
    trace::Fnv,
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Method, Request, Response, Version, body::Incoming, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    sync::Barrier,
    task::JoinHandle,
    time::{sleep, timeout},
};
use turmoil::net::TcpStream;

pub(super) struct Caller {
    number: u32,
    node: SocketAddr,
    chance: Chance,
    history: History,
    /// Whether it now and then does not wait for its answer.
    fickle: bool,
    kept: Option<Connection>,
}

struct Connection {
    sender: SendRequest<Pieces>,
    driver: JoinHandle<()>,
}

/// Well beyond every deadline: who waits for so long has been forgotten.
const PATIENCE: Duration = Duration::from_secs(20);

impl Caller {
    pub(super) fn new(seed: u64, number: u32, node: SocketAddr, history: History) -> Self {
        let mut chance = Chance::of(seed, &format!("caller {number}"));
        let fickle = chance.one_in(6);
        Self { number, node, chance, history, fickle, kept: None }
    }

    /// Asks all its requests, the last one together with the other callers and not before `calm`.
    pub(super) async fn ask(mut self, requests: u32, together: Arc<Barrier>, calm: Duration) {
        for number in 0..requests {
            let last = number + 1 == requests;
            if last {
                together.wait().await;
                sleep(calm.saturating_sub(crate::shim::elapsed())).await;
            } else {
                sleep(self.chance.millis(0..=150)).await;
            }
            self.ask_one(Id { caller: self.number, number }, last).await;
        }
        // What it keeps open is closed by the node's drain.
        self.history.caller_done();
        std::future::pending::<()>().await;
    }

    async fn ask_one(&mut self, id: Id, last: bool) {
        let path = match self.chance.between(0..=9) {
            _ if last => format!("/slow/{id}"),
            0..=2 => format!("/limited/{id}"),
            3 => format!("/slow/{id}"),
            4 => format!("/{id}?q=%2F&r=a+b"),
            _ => format!("/plain/{id}"),
        };
        let post = self.chance.one_in(3);
        let most = if self.chance.one_in(4) { 40_000 } else { 300 };
        let length = if post { self.chance.between(0..=most) } else { 0 };
        let body = content(length, &mut self.chance);
        let method = if post { Method::POST } else { Method::GET };
        let echo = echo(&method, &path, &body);

        let mut request = Request::builder()
            .method(method.clone())
            .uri(&path)
            .version(Version::HTTP_11)
            .header(header::HOST, "shop.example")
            .header("x-request", id.to_string());
        if self.chance.one_in(5) {
            request = request.header(header::CONNECTION, "close");
        }
        let body = if post { Pieces::of(&body, &mut self.chance) } else { Pieces::default() };
        let request = request.body(body).expect("the parts are those of a request");

        let gives_up = !last && self.fickle && self.chance.one_in(4);
        let patience = if gives_up { self.chance.millis(1..=150) } else { PATIENCE };

        let connection = self.connection().await;
        self.history.asked(id, method, &path, path.starts_with("/limited/"), echo);
        match connection {
            Ok(mut connection) => match timeout(patience, exchange(&mut connection.sender, request)).await {
                Ok(answer) => {
                    self.history.answered(id, answer);
                    self.kept = Some(connection);
                }
                Err(_elapsed) if gives_up => {
                    self.history.given_up(id);
                    connection.driver.abort();
                }
                // Who runs out of patience has no answer, and that is what is on record then.
                Err(_elapsed) => {}
            },
            Err(how) => self.history.answered(id, Answer::None(how)),
        }
    }

    /// The kept connection if it is still good, or else a new one.
    async fn connection(&mut self) -> Result<Connection, String> {
        if let Some(mut kept) = self.kept.take()
            && kept.sender.ready().await.is_ok()
        {
            return Ok(kept);
        }
        self.open().await
    }

    async fn open(&self) -> Result<Connection, String> {
        let stream = TcpStream::connect(self.node).await.map_err(|error| error.to_string())?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let driver = tokio::spawn(async move {
            // How it ended shows in the answer to the request that was on it.
            let _ = connection.await;
        });
        Ok(Connection { sender, driver })
    }
}

async fn exchange(sender: &mut SendRequest<Pieces>, request: Request<Pieces>) -> Answer {
    match sender.send_request(request).await {
        Ok(response) => whole(response).await,
        Err(error) => Answer::None(said(&error)),
    }
}

async fn whole(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let id = head.headers.get("x-request").and_then(|value| value.to_str().ok()).and_then(Id::parse);
    match body.collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            let end = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
            Answer::Whole { status: head.status, id, echo: String::from_utf8_lossy(&body[..end]).into_owned() }
        }
        Err(error) => Answer::Broken(said(&error)),
    }
}

fn said(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// How the service repeats a request that it got whole.
pub(super) fn echo(method: &Method, path: &str, body: &Bytes) -> String {
    format!("{method} {path} {} {:016x}", body.len(), Fnv::of(body))
}
