//! Actors as operators see them: one at a time or page by page, with the story of their lives; and drills.
//!
//! Everything here but the state inside an actor is read without asking the actor, so an actor that is stalled is shown
//! as fast as any other.

use super::{
    Answer, Question, Refusal, Reply, allow,
    pages::{READ, json_response, json_response_of, page_of},
    refusal::Above,
};
use actors::inspect::{Busy, Drill, Exit, Found, Id, Life, Slot, Snapshot, State, View};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a stall lasts that nobody says more about.
const STALL: Duration = Duration::from_secs(30);
const STALL_MAX: Duration = Duration::from_secs(600);

impl Question<'_> {
    pub(super) fn actors(self) -> Answer {
        allow(&self.head.method, READ)?;
        let (page, filter) = self.query.actors()?;
        let under = filter.under.as_deref().map(Id::meant);
        if let Some(under) = &under {
            self.slot(under)?;
        }
        let base = under.as_ref().map_or(0, Id::depth);
        let after = page.after.as_deref().map(Id::written);
        let wanted = |view: &View| {
            under.as_ref().is_none_or(|under| under.covers(&view.id))
                && filter.depth.is_none_or(|depth| view.id.depth() <= base + depth)
                && filter.kind.as_deref().is_none_or(|kind| view.kind == kind)
                && after.as_ref().is_none_or(|after| view.id > *after)
        };
        let mut views: Vec<View> = self.look.actors().into_iter().filter(wanted).take(page.limit + 1).collect();
        let more = views.len() > page.limit;
        views.truncate(page.limit);
        let next = views.last().filter(|_| more).map(|view| view.id.to_string());
        let items = views.into_iter().map(|view| shown(view, self.now)).collect();
        let (list, link) = page_of(items, next.as_deref(), &format!("/v1/actors?limit={}{}", page.limit, filter.written));
        let mut response = json_response_of(&list);
        if let Some(link) = link {
            response.headers_mut().insert(http::header::LINK, link);
        }
        Ok(response.into())
    }

    /// The state inside has to be asked for, which is for somebody who can wait.
    pub(super) fn actor(self, id: &str) -> Answer {
        allow(&self.head.method, READ)?;
        self.query.none()?;
        self.slot(&Id::meant(id)).map(Reply::Actor)
    }

    pub(super) fn history(self, id: &str) -> Answer {
        allow(&self.head.method, READ)?;
        self.query.none()?;
        let slot = self.slot(&Id::meant(id))?;
        let lives: Vec<Value> = slot.lives().iter().map(|life| lived(life, self.now)).collect();
        let View { id, kind, state, until, .. } = slot.view();
        let again = until.map(|until| millis(until.saturating_duration_since(self.now)));
        let story = json!({ "id": id.as_str(), "kind": kind, "state": state.word(), "again_in_ms": again, "lives": lives });
        Ok(json_response_of(&story).into())
    }

    pub(super) fn drill(self) -> Answer {
        allow(&self.head.method, &[Method::POST])?;
        self.query.none()?;
        if !self.look.drills_allowed() {
            return Err(Refusal::Drills);
        }
        let order = Order::of(&self.json()?).map_err(|detail| Refusal::Question { detail })?;
        let slot = self.slot(&order.actor)?;
        let drill = match order.does {
            Does::Kill => Drill::Kill,
            Does::Stall(stall) => Drill::Stall { until: Some(self.now + stall) },
            Does::Release => Drill::Release,
        };
        let incarnation = slot.view().incarnation;
        slot.drill(drill).map_err(|state| {
            let above = self.missing_above(&order.actor);
            Refusal::NobodyThere { id: order.actor.to_string(), state: state.word(), above }
        })?;
        self.look.drilled(&order.actor, order.does.word());
        let mut answer = json!({ "actor": order.actor.as_str(), "do": order.does.word(), "incarnation": incarnation });
        if let Does::Stall(stall) = order.does {
            answer["for_ms"] = millis(stall);
        }
        let mut response = json_response_of(&answer);
        *response.status_mut() = StatusCode::ACCEPTED;
        Ok(response.into())
    }

    /// The highest actor above this one that does not run.
    fn missing_above(&self, id: &Id) -> Option<Above> {
        let mut views: Vec<View> = self.look.actors().into_iter().filter(|view| view.id != *id && view.id.covers(id)).collect();
        views.retain(|view| view.state != State::Running);
        views.sort_by_key(|view| view.id.depth());
        let View { id, state, until, .. } = views.into_iter().next()?;
        Some(Above { id: id.to_string(), state: state.word(), again: until.map(|until| until.saturating_duration_since(self.now)) })
    }

    fn slot(&self, id: &Id) -> Result<Arc<Slot>, Refusal> {
        match self.look.actor(id) {
            Some(Found::Here(slot)) => Ok(slot),
            Some(Found::Gone(slot)) => {
                let ended = slot.lives().last().and_then(|life| life.ended.clone());
                let ended = ended.map(|(at, exit)| format!("{exit}, {} s ago", ago(at, self.now).as_secs()));
                Err(Refusal::ActorGone { id: id.to_string(), ended })
            }
            None => Err(Refusal::NoActor { id: id.to_string() }),
        }
    }
}

/// An actor with the state inside it, or with what keeps it from telling.
pub(super) fn told(slot: &Slot, state: &Snapshot, now: Instant) -> Response<bytes::Bytes> {
    let mut actor = shown(slot.view(), now);
    match state {
        Snapshot::Fresh(state) => actor["inside"] = (**state).clone(),
        Snapshot::Stale(before) => {
            actor["inside"] = Value::Null;
            if let Some((at, state)) = before {
                actor["told_last"] = json!({ "ms_ago": millis(ago(*at, now)), "inside": **state });
            }
        }
    }
    json_response(super::pages::body_of(&actor))
}

fn shown(view: View, now: Instant) -> Value {
    let since = |Busy { since, with }: Busy| json!({ "with": with, "for_ms": millis(ago(since, now)) });
    json!({
        "id": view.id.as_str(),
        "kind": view.kind,
        "depth": view.id.depth(),
        "state": view.state.word(),
        "again_in_ms": view.until.map(|until| millis(until.saturating_duration_since(now))),
        "incarnation": view.incarnation,
        "restarts": view.restarts,
        "busy": view.busy.map(since),
        "last": view.last,
        "mailbox": {
            "depth": view.depth,
            "bound": view.bound,
            "handled": view.handled,
            "refused": view.refused,
            "dropped": view.dropped,
            "replaced": view.replaced,
        },
        "failure": view.failure.map(|(at, exit)| json!({ "ms_ago": millis(ago(at, now)), "exit": ended(&exit) })),
    })
}

fn lived(life: &Life, now: Instant) -> Value {
    let lasted = life.ended.as_ref().map_or(now, |(at, _)| *at).saturating_duration_since(life.started);
    json!({
        "incarnation": life.incarnation,
        "started_ms_ago": millis(ago(life.started, now)),
        "lasted_ms": millis(lasted),
        "ended_ms_ago": life.ended.as_ref().map(|(at, _)| millis(ago(*at, now))),
        "exit": life.ended.as_ref().map(|(_, exit)| ended(exit)),
    })
}

fn ended(exit: &Exit) -> Value {
    let during = if let Exit::Panicked { during, .. } = exit { Some(during) } else { None };
    json!({ "how": exit.word(), "failed": exit.failed(), "during": during, "text": exit.to_string() })
}

fn ago(at: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(at)
}

fn millis(duration: Duration) -> Value {
    json!(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// What an operator wants to be broken, or mended.
#[derive(PartialEq, Eq, Debug)]
struct Order {
    actor: Id,
    does: Does,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Does {
    Kill,
    Stall(Duration),
    Release,
}

impl Does {
    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stall(_) => "stall",
            Self::Release => "release",
        }
    }
}

impl Order {
    fn of(order: &Value) -> Result<Self, String> {
        let members = order.as_object().ok_or("a drill is an object: {\"actor\": ID, \"do\": \"kill\"}")?;
        if let Some(unknown) = members.keys().find(|name| !["actor", "do", "for"].contains(&name.as_str())) {
            return Err(format!("`{unknown}` is not known here; `actor`, `do` and `for` are"));
        }
        let actor = order["actor"].as_str().ok_or("`actor` is the id of an actor; /v1/actors lists them")?;
        let last = match &order["for"] {
            Value::Null => None,
            Value::String(written) => Some(config::parse_duration(written).map_err(|error| format!("`for`: {error}"))?),
            _ => return Err("`for` is a duration such as \"30s\"".into()),
        };
        let does = match (order["do"].as_str(), last) {
            (Some("stall"), last) => Does::Stall(last.unwrap_or(STALL)),
            (Some("kill" | "release"), Some(_)) => return Err("only a stall lasts: take `for` away".into()),
            (Some("kill"), None) => Does::Kill,
            (Some("release"), None) => Does::Release,
            _ => return Err("`do` is \"kill\", \"stall\" or \"release\"".into()),
        };
        match does {
            Does::Stall(stall) if stall.is_zero() || stall > STALL_MAX => {
                Err(format!("a stall lasts longer than nothing, and at most {} s", STALL_MAX.as_secs()))
            }
            does => Ok(Self { actor: Id::meant(actor), does }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(order: Value, expected: Result<Does, &str>) {
        match (Order::of(&order), expected) {
            (Ok(order), Ok(does)) => assert_eq!(order.does, does),
            (Err(said), Err(expected)) => assert!(said.contains(expected), "{order}: {said}"),
            (read, expected) => panic!("{order}: {read:?}, not {expected:?}"),
        }
    }

    #[test]
    fn a_drill_is_read_strictly() {
        check(json!({ "actor": "root", "do": "kill" }), Ok(Does::Kill));
        check(json!({ "actor": "root", "do": "release" }), Ok(Does::Release));
        check(json!({ "actor": "root", "do": "stall" }), Ok(Does::Stall(STALL)));
        check(json!({ "actor": "root", "do": "stall", "for": "250ms" }), Ok(Does::Stall(Duration::from_millis(250))));
        check(json!({ "actor": "root", "do": "stall", "for": "11m" }), Err("at most 600 s"));
        check(json!({ "actor": "root", "do": "stall", "for": "0s" }), Err("longer than nothing"));
        check(json!({ "actor": "root", "do": "stall", "for": 30 }), Err("a duration"));
        check(json!({ "actor": "root", "do": "stall", "for": "soon" }), Err("`for`"));
        check(json!({ "actor": "root", "do": "kill", "for": "1s" }), Err("only a stall lasts"));
        check(json!({ "actor": "root", "do": "burn" }), Err("`do` is"));
        check(json!({ "actor": "root", "do": "kill", "now": true }), Err("`now` is not known"));
        check(json!({ "do": "kill" }), Err("`actor` is"));
        check(json!([]), Err("a drill is an object"));
    }
}
