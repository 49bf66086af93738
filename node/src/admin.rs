//! What operators may ask of a node, and who may ask.
//!
//! [`Admin::answer`] is a plain function from a request to an answer: the listener reads, this decides. It sees the
//! node through [`Look`] only, and changes nothing but what an operator orders by POST; even `explain` is a question. In the order of its doors:
//! the name the node was called by, where a browser came from, the token, then the path, the method and the body.
//!
//! One page needs somebody who can wait: the state inside an actor has to be asked for. For that one the answer is a
//! [`Reply::Actor`], which the listener asks, and has told by [`Admin::tell`].
//!
//! Health is answered before every door, because load balancers have no token and call by any name.

mod actors;
mod doors;
mod look;
pub(crate) mod members;
mod pages;
mod refusal;
pub(crate) mod serve;
mod tag;
mod target;
mod upstreams;

pub use doors::{Callers, Doors};
pub use members::{Asked, Cluster, Place, Told, Whom};

use self::{
    doors::Lockout,
    refusal::Refusal,
    tag::Tag,
    target::{Query, Target},
};
use crate::telemetry::{metrics, request_id::X_REQUEST_ID};
use ::actors::{
    inspect::{Found, Id, Slot, Snapshot, View},
    service::{Drain, Drained, NotDrained},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use serde_json::Value;
use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

/// A larger body is refused.
pub const BODY_MAX: usize = 64 * 1024;

/// What admin sees of its node. Whatever takes long belongs into [`metrics`](Look::metrics), [`routes`](Look::routes)
/// and the like, never into [`health`](Look::health), which must not wait for any of them.
pub trait Look: Send + Sync {
    fn health(&self) -> Health;

    /// The page for a scraper.
    fn metrics(&self) -> String;

    /// Match, service, policies and place of one route.
    fn route(&self, id: &str) -> Option<Value>;

    /// At most `count` routes with their ids, in the order of the ids, beginning behind `after`.
    fn routes(&self, after: Option<&str>, count: usize) -> Vec<(String, Value)>;

    /// The configuration that is served, without its secrets.
    fn config(&self) -> Value;

    /// The endpoints of every service and what is known of them.
    fn upstreams(&self) -> Value;

    /// Does what an operator wants of an endpoint; `None` where there is no such service.
    fn drain(&self, service: &str, endpoint: &str, wish: Drain) -> Option<Result<Drained, NotDrained>>;

    /// What would become of a request; `Err` says what is wrong with the question.
    fn explain(&self, question: Value) -> Result<Value, String>;

    /// Every actor, a parent before its children.
    fn actors(&self) -> Vec<View>;

    fn actor(&self, id: &Id) -> Option<Found>;

    /// Whether an operator may break things on purpose.
    fn drills_allowed(&self) -> bool;

    /// Leaves a trace of a drill that was ordered.
    fn drilled(&self, id: &Id, what: &str);

    /// The cluster that the node belongs to.
    fn cluster(&self) -> Option<&dyn Cluster>;

    /// Has the node leave, and returns its name. With `wait`, load balancers get the time to notice.
    fn leave(&self, wait: bool) -> String;
}

/// How a node is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// It has served since its start.
    pub started: bool,
    /// It need not be killed.
    pub live: bool,
    /// It wants requests.
    pub ready: bool,
    /// What is wrong, one phrase each; told only to those with a token.
    pub failing: Vec<String>,
}

/// The body of a request, as far as it was read.
#[derive(Clone, Debug)]
pub enum Body {
    Whole(Bytes),
    /// It is larger than [`BODY_MAX`]; the rest was not read.
    TooLarge,
}

/// One for a node, over all its revisions: it remembers who guessed wrongly.
#[derive(Debug)]
pub struct Admin {
    doors: Doors,
    lockout: Mutex<Lockout>,
}

/// One question with everything that its answer depends on.
struct Question<'a> {
    head: &'a Parts,
    body: &'a Body,
    look: &'a dyn Look,
    query: Query<'a>,
    now: Instant,
}

/// What becomes of a question.
pub enum Reply {
    Whole(Response<Bytes>),
    /// This actor is to be looked into, and what it says goes to [`Admin::tell`].
    Actor(Arc<Slot>),
    /// This member is to be asked, and what it says goes to [`Admin::relay`].
    Member(Asked),
    /// Every member is to be asked whom it sees, and what they say goes to [`Admin::show`].
    Views,
}

impl From<Response<Bytes>> for Reply {
    fn from(response: Response<Bytes>) -> Self {
        Self::Whole(response)
    }
}

type Answer = Result<Reply, Refusal>;

impl Admin {
    pub fn new(doors: Doors) -> Self {
        Self { doors, lockout: Mutex::default() }
    }

    /// May take milliseconds: not for a thread that serves requests.
    pub fn answer(&self, head: &Parts, body: &Body, look: &dyn Look, now: Instant, request_id: &str) -> Reply {
        match self.decide(head, body, look, now) {
            Ok(Reply::Whole(response)) => Reply::Whole(finished(response, head, request_id)),
            Ok(waiting) => waiting,
            Err(refusal) => Reply::Whole(finished(refusal.response(request_id), head, request_id)),
        }
    }

    /// The page of an actor that has been looked into.
    pub fn tell(&self, head: &Parts, slot: &Slot, state: &Snapshot, now: Instant, request_id: &str) -> Response<Bytes> {
        finished(actors::told(slot, state, now), head, request_id)
    }

    fn decide(&self, head: &Parts, body: &Body, look: &dyn Look, now: Instant) -> Answer {
        if let Some(page) = health_page(head.uri.path()) {
            allow(&head.method, &[Method::GET, Method::HEAD])?;
            // A wrong token is as good as none here, and no reason to lock anybody out.
            let health = look.health();
            return Ok(page.response(&health, self.doors.token_is_right(&head.headers)).into());
        }
        self.doors.check_name(head)?;
        self.doors.check_origin(head)?;
        let (path, query) = (head.uri.path(), Query::of(&head.uri));
        if !(path == "/metrics" && self.doors.metrics_open) {
            self.check_token(&head.headers, now)?;
        }
        Question { head, body, look, query, now }.answer(Target::of(path)?)
    }

    fn check_token(&self, headers: &HeaderMap, now: Instant) -> Result<(), Refusal> {
        if self.doors.token_is_right(headers) {
            return Ok(());
        }
        if !headers.contains_key(header::AUTHORIZATION) {
            return Err(Refusal::NoToken);
        }
        // A counter of instants cannot be left half-way by a panic.
        let mut lockout = self.lockout.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match lockout.observe(now) {
            None => Err(Refusal::WrongToken),
            Some(wait) => Err(Refusal::TooManyWrongTokens { wait }),
        }
    }
}

impl Question<'_> {
    fn answer(self, target: Target) -> Answer {
        match target {
            Target::Metrics => self.metrics(),
            Target::Routes => self.routes(),
            Target::Route(id) => self.route(&id),
            Target::Config => self.config(),
            Target::Upstreams => self.upstreams(),
            Target::Drain { service, endpoint } => self.drain(&service, &endpoint),
            Target::Undrain { service, endpoint } => self.undrain(&service, &endpoint),
            Target::Explain => self.explain(),
            Target::Actors => self.actors(),
            Target::Actor(id) => self.actor(&id),
            Target::History(id) => self.history(&id),
            Target::Drills => self.drill(),
            Target::Members => self.members(),
            Target::Member { name, page } => self.member(&name, page.as_deref()),
            Target::Views => self.views(),
            Target::Sees => self.sees(),
            Target::Join => self.join(),
            Target::Forget => self.forget(),
            Target::Leave => self.leave(),
        }
    }
}

/// With what every answer has.
fn finished(mut response: Response<Bytes>, head: &Parts, request_id: &str) -> Response<Bytes> {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(request_id) = HeaderValue::from_str(request_id) {
        headers.insert(&X_REQUEST_ID, request_id);
    }
    keep_head(&head.method, &mut response);
    response
}

/// The answer to a health question on a public listener, which has no token to tell more. `None` where it is not one:
/// then it is a request like any other.
pub fn health(head: &Parts, health: &Health) -> Option<Response<Bytes>> {
    let page = health_page(head.uri.path())?;
    if ![Method::GET, Method::HEAD].contains(&head.method) {
        return None;
    }
    let mut response = page.response(health, false);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    keep_head(&head.method, &mut response);
    Some(response)
}

/// `HEAD` is told the length of what `GET` would be sent.
fn keep_head(method: &Method, response: &mut Response<Bytes>) {
    if method == Method::HEAD {
        let length = std::mem::take(response.body_mut()).len();
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
}

#[derive(Clone, Copy)]
enum HealthPage {
    Live,
    Ready,
    Started,
}

fn health_page(path: &str) -> Option<HealthPage> {
    match path {
        "/livez" => Some(HealthPage::Live),
        "/readyz" => Some(HealthPage::Ready),
        "/startupz" => Some(HealthPage::Started),
        _ => None,
    }
}

impl HealthPage {
    fn response(self, health: &Health, known: bool) -> Response<Bytes> {
        let (well, unwell) = match self {
            Self::Live => (health.live, "not live"),
            Self::Ready => (health.ready, "not ready"),
            Self::Started => (health.started, "not started"),
        };
        let mut text = String::from(if well { "ok\n" } else { unwell });
        if !well {
            text.push('\n');
        }
        if known {
            for failing in &health.failing {
                text += failing;
                text.push('\n');
            }
        }
        let mut response = Response::new(Bytes::from(text));
        *response.status_mut() = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}

fn allow(method: &Method, allowed: &'static [Method]) -> Result<(), Refusal> {
    if allowed.contains(method) { Ok(()) } else { Err(Refusal::Method { allowed }) }
}

#[cfg(test)]
mod tests;
