//! The journey, asked for its reasons.
//!
//! A question is decided by the very function that decides a request, `decide`, on the same snapshot and the same
//! limiter; only what listens differs. A journey takes its tokens and goes on; a `Listening` takes nothing, surveys
//! all routes instead of stopping at the first, and keeps what it hears. So an explanation cannot disagree with what is
//! served, and asking for one changes nothing.
//!
//! What only an endpoint can tell is not in it: whether it can be reached, and what it answers.

mod question;
mod text;

pub use question::{Question, Values};

use crate::{
    listener::{Entrance, Settings},
    node::Node,
    request::{Decided, Keys, Onward, Purpose, Rejection, Routed, Step, decide, seconds_up},
    snapshot::{LiveAction, LiveRoute, Snapshot},
};
use actors::{
    limiter::{Decision, Limiter, Take, Verdict as LimitVerdict},
    service::{Judged, Tried, Verdict as HealthVerdict, Why},
};
use cluster::World;
use config::{Ask, Candidate, KeyPart, LimitMode, LimitName, Lost, Missing, Route, RouteTable};
use http::{HeaderValue, request::Parts};
use question::Asked;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Instant};

/// Routes that lost are named up to so many of each kind; the best come first.
const OTHERS_MAX: usize = 20;

/// What would become of a request, and why.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Explanation {
    pub verdict: Verdict,
    /// `None` where the head was refused before it could be understood.
    pub understood: Option<Understood>,
    pub listener: String,
    pub route: Option<Taken>,
    pub others: Vec<Other>,
    /// How many more routes lost than are named.
    pub others_left_out: usize,
    pub limits: Vec<Limited>,
    pub service: Option<Chosen>,
    /// The revision that was asked.
    pub config: String,
    pub node: String,
    pub elapsed_us: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    Forward,
    Respond {
        status: u16,
    },
    Redirect {
        status: u16,
        location: String,
    },
    /// The listener answers for the node's own health.
    Health,
    Reject {
        status: u16,
        code: String,
        detail: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_s: Option<u64>,
    },
}

/// The request in the form that everything is decided by.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Understood {
    pub client_ip: IpAddr,
    pub scheme: String,
    pub host: String,
    pub path: String,
}

/// The route that takes the request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Taken {
    pub id: String,
    pub place: String,
    #[serde(rename = "match")]
    pub matcher: String,
    pub captures: BTreeMap<String, String>,
}

/// A route that does not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Other {
    pub id: String,
    pub place: String,
    #[serde(rename = "match")]
    pub matcher: String,
    pub how: How,
    pub reason: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It would have taken the request if it were not for a better one.
    Over,
    /// Its host and path fit, and something else does not.
    Not,
}

/// A limit of the route, before anything is taken from it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limited {
    pub name: String,
    pub answer: LimitAnswer,
    pub rate: String,
    pub burst: u64,
    /// What the request is counted by; `None` stands for a part that it does not have.
    pub key: Vec<(String, Option<String>)>,
    /// Whole tokens that are left; `None` where the limit was not asked.
    pub remaining: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// Whose view of the usage it is.
    pub basis: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitAnswer {
    Grant,
    Refusal,
    /// It would refuse if it were not in shadow mode.
    ShadowRefusal,
    /// The request has no value for the key, and the limit does not ask for one.
    Skipped,
    /// The request has no value for the key, and the limit refuses it for that.
    Missing,
    /// Something before it ended the journey.
    NotAsked,
}

/// Where the request would go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Chosen {
    pub name: String,
    pub by: ChosenBy,
    /// The services of the split and their weights.
    pub split: Vec<(String, u64)>,
    pub balance: String,
    /// The endpoint that a request at this moment would be sent to.
    pub endpoint: Option<String>,
    pub endpoints: usize,
    /// Endpoints that would be left out.
    pub left_out: Vec<LeftOut>,
    /// Whether so few endpoints are well that health is ignored, at least among those that are as near as each other.
    pub panic: bool,
    /// The path and the query as the endpoint sees them.
    pub path: String,
}

/// An endpoint that is not asked while others can be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeftOut {
    pub endpoint: String,
    /// In the words of `shoal upstreams`.
    pub verdict: String,
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tried_in_ms: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChosenBy {
    /// There is no other.
    Only,
    /// The caller stays with it.
    Sticky,
    Chance,
}

/// Answers a question that came as JSON; `Err` says what is wrong with it.
pub(crate) fn answer(node: &Node, question: Value) -> Result<Value, String> {
    let question: Question = serde_json::from_value(question).map_err(|error| error.to_string())?;
    let explanation = explain(node, &question)?;
    serde_json::to_value(explanation).map_err(|error| error.to_string())
}

/// Asks a node that serves.
pub(crate) fn explain(node: &Node, question: &Question) -> Result<Explanation, String> {
    let mut doors = Vec::<Door>::new();
    let listeners: Vec<_> = node.listeners().values().map(|serves| serves.borrow().clone()).collect();
    for live in listeners {
        match doors.iter_mut().find(|door| door.settings.listener.name == live.name) {
            Some(door) => door.ports.push(live.address.port()),
            None => doors.push(Door { settings: live.settings.load_full(), ports: vec![live.address.port()] }),
        }
    }
    let snapshot = node.snapshot.load_full();
    let subject = Subject { world: &*node.world, snapshot: &snapshot, limiter: &node.limiter, doors };
    subject.explain(question)
}

/// What a question is put to.
pub(crate) struct Subject<'a> {
    pub(crate) world: &'a dyn World,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) limiter: &'a Limiter,
    pub(crate) doors: Vec<Door>,
}

/// A listener and the ports it is reached by.
pub(crate) struct Door {
    pub(crate) settings: Arc<Settings>,
    pub(crate) ports: Vec<u16>,
}

impl Subject<'_> {
    pub(crate) fn explain(&self, question: &Question) -> Result<Explanation, String> {
        let asked = question.read()?;
        let settings = &self.door(question, &asked)?.settings;
        let entrance = Entrance {
            listener: &settings.listener,
            connected: asked.connected(settings.tls.is_some()),
            tls: settings.tls.as_deref().map(|tls| (tls, asked.server_name.as_deref())),
        };
        let began = self.world.now();
        let mut listening = Listening { world: self.world, limiter: self.limiter, now: began, heard: Heard::default() };
        let decided = decide(&asked.parts, &asked.parts.uri, asked.declared, &entrance, self.snapshot, &mut listening);
        let elapsed = self.world.now().saturating_duration_since(began);
        let heard = listening.heard;

        let service = match &decided {
            Ok(Decided::Routed(Routed { live, step: Step::Forward(onward), .. })) => Some(self.chosen(live, onward, &asked.parts, &heard)),
            _ => None,
        };
        let missing = matches!(decided, Err(Rejection::LimitKey));
        let limits = heard.route.as_ref().map(|live| self.limits(live, &asked.parts, &heard, missing)).unwrap_or_default();
        Ok(Explanation {
            verdict: verdict(decided),
            listener: settings.listener.name.to_string(),
            route: heard.route.as_ref().map(|live| taken(&live.route, heard.path())),
            others: heard.others,
            others_left_out: heard.left_out,
            understood: heard.understood,
            limits,
            service,
            config: self.snapshot.gateway.revision.to_string(),
            node: self.snapshot.gateway.node.name.to_string(),
            elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        })
    }

    /// The listener that is named; else the one with the port of the URL; else the first that speaks its scheme.
    fn door(&self, question: &Question, asked: &Asked) -> Result<&Door, String> {
        let first = self.doors.first().ok_or("there is no listener")?;
        if let Some(name) = &question.listener {
            let names = || self.doors.iter().map(|door| door.settings.listener.name.as_str()).collect::<Vec<_>>().join(", ");
            let named = self.doors.iter().find(|door| door.settings.listener.name.as_str() == name);
            return named.ok_or_else(|| format!("there is no listener `{name}`, only {}", names()));
        }
        let speaks = |door: &&Door| asked.tls.is_none_or(|tls| tls == door.settings.tls.is_some());
        let by_port = self.doors.iter().filter(speaks).find(|door| asked.port.is_some_and(|port| door.ports.contains(&port)));
        Ok(by_port.or_else(|| self.doors.iter().find(speaks)).unwrap_or(first))
    }

    fn chosen(&self, live: &LiveRoute, onward: &Onward<'_>, parts: &Parts, heard: &Heard) -> Chosen {
        let service = &onward.service.service;
        let mut before = 0;
        let mut split = Vec::new();
        let mut by = ChosenBy::Only;
        if let LiveAction::Forward(to) = &live.action {
            for (upto, service) in &to.split {
                split.push((service.service.name.to_string(), upto - before));
                before = *upto;
            }
            if split.len() > 1 {
                let sticks = to.sticky.as_ref().and_then(|sticky| heard.keys(parts, &live.route)?.number(sticky));
                by = if sticks.is_some() { ChosenBy::Sticky } else { ChosenBy::Chance };
            }
        }
        let now = self.world.now();
        let endpoints = onward.service.endpoints.load();
        let picked = endpoints.balancer.peek(self.world.chance(), now, onward.affinity, Tried::default());
        let judged = onward.service.watch.verdicts(now).endpoints.into_iter();
        Chosen {
            name: service.name.to_string(),
            by,
            split,
            balance: balance(&service.balance).to_string(),
            endpoint: picked.map(|index| endpoints.located[index].name()),
            endpoints: endpoints.located.len(),
            left_out: judged.filter_map(LeftOut::of).take(OTHERS_MAX).collect(),
            panic: endpoints.balancer.shares().any_panicking(),
            path: onward.path.to_string(),
        }
    }

    fn limits(&self, live: &LiveRoute, parts: &Parts, heard: &Heard, missing: bool) -> Vec<Limited> {
        let Some(keys) = heard.keys(parts, &live.route) else { return Vec::new() };
        let redact = &self.snapshot.gateway.telemetry.access_log.redact;
        let one = |limit: &Arc<config::Limit>| {
            let key: Vec<_> = limit.key.iter().map(|part| (part_name(part), part_value(&keys, part, redact))).collect();
            let complete = key.iter().all(|(_, value)| value.is_some());
            let verdict = heard.verdicts.iter().find(|(name, _)| *name == limit.name).map(|(_, verdict)| verdict);
            let answer = match verdict {
                Some(verdict) if verdict.granted() => LimitAnswer::Grant,
                Some(_) if limit.mode == LimitMode::Shadow => LimitAnswer::ShadowRefusal,
                Some(_) => LimitAnswer::Refusal,
                None if !complete && limit.missing == Missing::Refuse && missing => LimitAnswer::Missing,
                None if !complete && limit.missing == Missing::Skip => LimitAnswer::Skipped,
                None => LimitAnswer::NotAsked,
            };
            let waits = verdict.filter(|verdict| !verdict.granted());
            Limited {
                name: limit.name.to_string(),
                answer,
                rate: limit.rate.to_string(),
                burst: limit.burst,
                key,
                remaining: verdict.map(LimitVerdict::remaining),
                retry_after_s: waits.and_then(LimitVerdict::retry_after).map(seconds_up),
                basis: "node".to_string(),
            }
        };
        live.route.limits.iter().map(one).collect()
    }
}

impl LeftOut {
    fn of(judged: Judged) -> Option<Self> {
        if matches!(judged.verdict, HealthVerdict::Healthy | HealthVerdict::HalfOpen) {
            return None;
        }
        let why = judged.why.map_or("", Why::as_str);
        let said = if judged.verdict == HealthVerdict::Unhealthy { &judged.last_probe_error } else { &judged.last_error };
        let said = said.as_ref().filter(|_| judged.verdict != HealthVerdict::Draining).map(|error| format!(": {}", error.what));
        Some(Self {
            endpoint: judged.endpoint.to_string(),
            verdict: judged.verdict.as_str().to_string(),
            reason: format!("{why}{}", said.unwrap_or_default()),
            tried_in_ms: judged.out_for.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}

fn verdict(decided: Result<Decided<'_>, Rejection>) -> Verdict {
    match decided {
        Ok(Decided::Health(_)) => Verdict::Health,
        Ok(Decided::Routed(routed)) => match routed.step {
            Step::Forward(_) => Verdict::Forward,
            Step::Respond(respond) => Verdict::Respond { status: respond.status },
            Step::Redirect(redirect, location) => Verdict::Redirect { status: redirect.status, location: shown(&location) },
        },
        Err(rejection) => Verdict::Reject {
            status: rejection.status().as_u16(),
            code: rejection.code().to_string(),
            detail: rejection.detail().to_string(),
            retry_after_s: match &rejection {
                Rejection::Limited(limited) => Some(seconds_up(limited.retry_after)),
                _ => None,
            },
        },
    }
}

fn taken(route: &Route, path: &str) -> Taken {
    let captures = route.matcher.path.captures(path).map(|(name, value)| (name.to_string(), value.to_string()));
    Taken {
        id: route.id.to_string(),
        place: route.place.to_string(),
        matcher: route.matcher.written.to_string(),
        captures: captures.collect(),
    }
}

fn balance(balance: &config::Balance) -> &'static str {
    match balance {
        config::Balance::PeakEwma => "peak_ewma",
        config::Balance::RoundRobin => "round_robin",
        config::Balance::LeastRequests => "least_requests",
        config::Balance::Hash { .. } => "hash",
    }
}

/// As it is written in a file.
pub(crate) fn part_name(part: &KeyPart) -> String {
    match part {
        KeyPart::ClientIp => "client_ip".to_string(),
        KeyPart::Header(name) => format!("header:{name}"),
        KeyPart::Cookie(name) => format!("cookie:{name}"),
        KeyPart::Path(name) => format!("path:{name}"),
        KeyPart::Host => "host".to_string(),
        KeyPart::Route => "route".to_string(),
    }
}

/// The value that a request has for a part of a key, as far as it may be shown.
fn part_value(keys: &Keys<'_>, part: &KeyPart, redact: &[http::HeaderName]) -> Option<String> {
    let mut found = None;
    keys.part(part, &mut |value| found = Some(String::from_utf8_lossy(value).into_owned()));
    let secret = match part {
        KeyPart::Header(name) => redact.contains(name),
        KeyPart::Cookie(_) => redact.contains(&http::header::COOKIE),
        KeyPart::ClientIp => return Some(client_network(keys.client_ip)),
        KeyPart::Path(_) | KeyPart::Host | KeyPart::Route => false,
    };
    if secret { found.map(|_| "••••".to_string()) } else { found }
}

/// What of an address is counted: IPv6 by its /64.
fn client_network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = ipnet::Ipv6Net::new(address, 64).expect("64 is no longer than an address");
            network.trunc().to_string()
        }
    }
}

fn shown(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Has a request decided without acting on it.
struct Listening<'a> {
    world: &'a dyn World,
    limiter: &'a Limiter,
    now: Instant,
    heard: Heard,
}

/// What the decision said on its way.
#[derive(Default)]
struct Heard {
    understood: Option<Understood>,
    others: Vec<Other>,
    left_out: usize,
    route: Option<Arc<LiveRoute>>,
    verdicts: Vec<(LimitName, LimitVerdict)>,
}

impl Heard {
    fn path(&self) -> &str {
        self.understood.as_ref().map_or("", |understood| &understood.path)
    }

    /// What keys of the request are made of, once it is understood.
    fn keys<'a>(&'a self, parts: &'a Parts, route: &'a Route) -> Option<Keys<'a>> {
        let understood = self.understood.as_ref()?;
        let Understood { client_ip, host, path, .. } = understood;
        Some(Keys { client_ip: *client_ip, headers: &parts.headers, host, path, route })
    }
}

impl Purpose for Listening<'_> {
    fn knows(&mut self, checked: &crate::request::Checked<'_>) {
        self.heard.understood = Some(Understood {
            client_ip: checked.origin.client_ip,
            scheme: checked.origin.scheme.as_str().to_string(),
            host: checked.head.host().to_string(),
            path: checked.path.text.to_string(),
        });
    }

    fn find<'t>(&mut self, table: &'t RouteTable, ask: &Ask<'_>) -> Option<&'t Arc<Route>> {
        let mut lost = Losers::default();
        let (winner, behind) = table.survey(ask, &mut lost);
        self.heard.left_out = behind.len().saturating_sub(OTHERS_MAX) + lost.0.len().saturating_sub(OTHERS_MAX);
        let over = behind.iter().take(OTHERS_MAX).map(over);
        let not = lost.0.iter().take(OTHERS_MAX).map(|(route, why)| other(route, How::Not, why_not(route, *why, ask)));
        self.heard.others = over.chain(not).collect();
        winner
    }

    fn takes(&mut self, live: &Arc<LiveRoute>) {
        self.heard.route = Some(live.clone());
    }

    fn spend(&mut self, takes: &[Take<'_>]) -> Decision {
        let decision = self.limiter.peek(takes, self.now);
        let names = takes.iter().map(|take| take.policy.name().clone());
        self.heard.verdicts = names.zip(decision.verdicts().copied()).collect();
        decision
    }

    fn chance(&mut self) -> u64 {
        self.world.chance()
    }
}

#[derive(Default)]
struct Losers(Vec<(Arc<Route>, Lost)>);

impl config::Reasons for Losers {
    fn lost(&mut self, route: &Arc<Route>, why: Lost) {
        self.0.push((route.clone(), why));
    }
}

fn over(candidate: &Candidate) -> Other {
    other(&candidate.route, How::Over, candidate.behind.to_string())
}

fn other(route: &Route, how: How, reason: String) -> Other {
    Other { id: route.id.to_string(), place: route.place.to_string(), matcher: route.matcher.written.to_string(), how, reason }
}

fn why_not(route: &Route, why: Lost, ask: &Ask<'_>) -> String {
    let matcher = &route.matcher;
    match why {
        Lost::Listener => format!("it is not served on listener `{}`", ask.listener),
        Lost::Method => format!("its method is not {}", ask.method),
        Lost::Header(index) => format!("header `{}` is not what it asks for", matcher.headers[index].0),
        Lost::Query(index) => format!("query parameter `{}` is not what it asks for", matcher.query[index].0),
        Lost::PathRegex => "its path_regex does not match".to_string(),
    }
}

#[cfg(test)]
mod tests;
