//! The cluster as operators see it: its members, who of them sees whom, and the pages of each, whichever node is asked.
//!
//! A page of another member has to be asked for, which is for somebody who can wait; one that cannot be reached is told as
//! such, with since when. Peers ask through the same pages and are answered by [`answer_peer`]: who is at the other end of a link
//! has shown a certificate, and may only read.

use super::{
    Admin, Answer, Body, Look, Question, Refusal, Reply, allow, finished,
    pages::{READ, json_response_of, page_of},
    target::{Query, Target},
};
use bytes::Bytes;
use config::Seed;
use http::{Method, Request, Response, StatusCode, request::Parts};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What admin sees of a node's cluster.
pub trait Cluster: Send + Sync {
    /// Every member in the order of names, this node among them.
    fn members(&self, now: Instant) -> Vec<Value>;

    /// Whom this node sees.
    fn sees(&self, now: Instant) -> Value;

    /// Where a member is to be asked; `None` if there is no such member.
    fn place(&self, member: &str) -> Option<Place>;

    /// Asks there for the cluster, until somebody answers.
    fn join(&self, seed: Seed);

    /// Forgets members that will not come back, and returns who that was. Never those that are alive.
    fn forget(&self, whom: &Whom) -> Vec<String>;
}

/// Where a member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Here,
    Elsewhere,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whom {
    Member(String),
    Region(String),
}

/// A page of another member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    pub member: String,
    /// As the member itself serves it.
    pub path: String,
    pub query: String,
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    Answer {
        status: u16,
        content_type: String,
        body: Bytes,
    },
    Unreachable {
        why: String,
        /// Since when it has not been seen.
        gone: Option<Duration>,
    },
}

/// Answers a peer, which may read whatever an operator may.
pub(crate) fn answer_peer(path: &str, query: &str, look: &dyn Look, now: Instant, request_id: &str) -> Reply {
    let uri = if query.is_empty() { path.to_string() } else { format!("{path}?{query}") };
    let Ok(request) = Request::get(uri).body(()) else { return Reply::Whole(Refusal::Encoding.response(request_id)) };
    let (head, ()) = request.into_parts();
    let question = Question { head: &head, body: &Body::Whole(Bytes::new()), look, query: Query::of(&head.uri), now };
    let answer = match Target::of(head.uri.path()) {
        // A page of a member is asked of that member, never of one that would have to ask on.
        Ok(Target::Member { .. } | Target::Views) => Err(Refusal::NoPage),
        Ok(target) => question.answer(target),
        Err(refusal) => Err(refusal),
    };
    answer.unwrap_or_else(|refusal| Reply::Whole(refusal.response(request_id)))
}

impl Admin {
    /// What had to be waited for.
    pub fn show(&self, head: &Parts, content: &Value, request_id: &str) -> Response<Bytes> {
        finished(json_response_of(content), head, request_id)
    }

    /// What a member said of itself, or why it said nothing.
    pub fn relay(&self, head: &Parts, asked: &Asked, told: Told, request_id: &str) -> Response<Bytes> {
        let response = match told {
            Told::Answer { status, content_type, body } => {
                let mut response = Response::new(body);
                *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                if let Ok(content_type) = content_type.parse() {
                    response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
                }
                response
            }
            Told::Unreachable { why, gone } => Refusal::Unreachable { member: asked.member.clone(), why, gone }.response(request_id),
        };
        finished(response, head, request_id)
    }
}

impl Question<'_> {
    pub(super) fn members(self) -> Answer {
        allow(&self.head.method, READ)?;
        let page = self.query.page()?;
        let members = self.cluster()?.members(self.now);
        let behind = |member: &Value| page.after.as_deref().is_none_or(|after| member["name"].as_str() > Some(after));
        let mut items: Vec<Value> = members.into_iter().filter(behind).take(page.limit + 1).collect();
        let more = items.len() > page.limit;
        items.truncate(page.limit);
        let next = items.last().filter(|_| more).and_then(|member| member["name"].as_str()).map(String::from);
        let (list, link) = page_of(items, next.as_deref(), &format!("/v1/members?limit={}", page.limit));
        let mut response = json_response_of(&list);
        if let Some(link) = link {
            response.headers_mut().insert(http::header::LINK, link);
        }
        Ok(response.into())
    }

    pub(super) fn views(self) -> Answer {
        allow(&self.head.method, READ)?;
        self.query.none()?;
        self.cluster()?;
        Ok(Reply::Views)
    }

    pub(super) fn sees(self) -> Answer {
        allow(&self.head.method, READ)?;
        self.query.none()?;
        Ok(json_response_of(&self.cluster()?.sees(self.now)).into())
    }

    /// One of its members, or a page of it.
    pub(super) fn member(self, member: &str, page: Option<&str>) -> Answer {
        allow(&self.head.method, READ)?;
        let cluster = self.cluster()?;
        let place = cluster.place(member).ok_or_else(|| Refusal::NoMember { name: member.into() })?;
        let Some(page) = page else {
            self.query.none()?;
            let found = cluster.members(self.now).into_iter().find(|found| found["name"] == member);
            return found.map(|found| json_response_of(&found).into()).ok_or_else(|| Refusal::NoMember { name: member.into() });
        };
        let path = format!("/v1/{page}");
        match (place, Target::of(&path)?) {
            (_, Target::Member { .. } | Target::Views) => Err(Refusal::NoPage),
            (Place::Here, target) => self.answer(target),
            (Place::Elsewhere, _) => {
                let query = self.head.uri.query().unwrap_or_default().to_string();
                Ok(Reply::Member(Asked { member: member.into(), path, query }))
            }
        }
    }

    pub(super) fn join(self) -> Answer {
        allow(&self.head.method, &[Method::POST])?;
        self.query.none()?;
        let cluster = self.cluster()?;
        let question = self.json()?;
        let seed = question["address"].as_str().and_then(Seed::parse);
        let detail = "`address` is where a node is reached, as \"192.0.2.7:7900\", \"node-1.example:7900\" or \"dns:nodes.example:7900\"";
        let seed = seed.ok_or_else(|| Refusal::Question { detail: detail.into() })?;
        let address = seed.to_string();
        cluster.join(seed);
        Ok(accepted(&json!({ "address": address })))
    }

    pub(super) fn forget(self) -> Answer {
        allow(&self.head.method, &[Method::POST])?;
        self.query.none()?;
        let cluster = self.cluster()?;
        let question = self.json()?;
        let word = |name: &str| question[name].as_str().map(String::from);
        let whom = match (word("name"), word("region")) {
            (Some(name), None) => Whom::Member(name),
            (None, Some(region)) => Whom::Region(region),
            _ => return Err(Refusal::Question { detail: "either `name` or `region` says who will not come back".into() }),
        };
        let known = cluster.members(self.now);
        let mut meant = known.iter().filter(|member| match &whom {
            Whom::Member(name) => member["name"] == name.as_str(),
            Whom::Region(region) => member["region"] == region.as_str(),
        });
        let alive: Vec<&str> =
            meant.clone().filter(|member| member["seen"] == "alive").filter_map(|member| member["name"].as_str()).collect();
        if meant.next().is_none() {
            return Err(match whom {
                Whom::Member(name) => Refusal::NoMember { name },
                Whom::Region(name) => Refusal::NoRegion { name },
            });
        }
        if !alive.is_empty() {
            return Err(Refusal::Alive { names: alive.join(", ") });
        }
        Ok(accepted(&json!({ "forgotten": cluster.forget(&whom) })))
    }

    /// The node leaves: as politely as on SIGTERM, or at once.
    pub(super) fn leave(self) -> Answer {
        allow(&self.head.method, &[Method::POST])?;
        self.query.none()?;
        let question = self.json()?;
        let wait = question["wait"].as_bool().ok_or_else(|| Refusal::Question {
            detail: "`wait` says whether load balancers are given time to notice: true or false".into(),
        })?;
        let name = self.look.leave(wait);
        Ok(accepted(&json!({ "name": name, "wait": wait })))
    }

    fn cluster(&self) -> Result<&dyn Cluster, Refusal> {
        self.look.cluster().ok_or(Refusal::NoCluster)
    }
}

fn accepted(answer: &Value) -> Reply {
    let mut response = json_response_of(answer);
    *response.status_mut() = StatusCode::ACCEPTED;
    response.into()
}
