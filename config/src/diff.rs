//! What a reload changes, part by part and by content: a part that only moved within its file did not change.

use crate::{Action, Gateway, Limit, Listener, Matcher, Route, Service, ValueMatch};
use serde::Serialize;
use std::{collections::HashMap, fmt, sync::Arc};

/// The difference between two configurations.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Diff {
    pub listeners: Changes,
    pub services: Changes,
    pub routes: Changes,
    /// Named ones; inline limits are part of their route.
    pub limits: Changes,
    pub node: bool,
    pub cluster: bool,
    pub admin: bool,
    pub telemetry: bool,
    pub drills: bool,
}

/// Names of parts of one kind, each list in the order of its files.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Changes {
    pub added: Vec<Arc<str>>,
    pub removed: Vec<Arc<str>>,
    pub changed: Vec<Arc<str>>,
}

/// Compares the configuration in effect with the one that is to follow it.
pub fn diff(old: &Gateway, new: &Gateway) -> Diff {
    Diff {
        listeners: changes(old.listeners.iter(), new.listeners.iter(), |it| it.name.as_str(), Listener::same_as),
        services: changes(old.services.iter(), new.services.iter(), |it| it.name.as_str(), Service::same_as),
        routes: changes(old.routes.iter(), new.routes.iter(), |it| it.id.as_str(), Route::same_as),
        limits: changes(old.limits.iter(), new.limits.iter(), |it| it.name.as_str(), Limit::same_as),
        node: old.node != new.node,
        cluster: old.cluster != new.cluster,
        admin: old.admin != new.admin,
        telemetry: old.telemetry != new.telemetry,
        drills: old.drills != new.drills,
    }
}

fn changes<'a, T: 'a>(
    old: impl Iterator<Item = &'a Arc<T>>,
    new: impl Iterator<Item = &'a Arc<T>>,
    name: fn(&T) -> &str,
    same: fn(&T, &T) -> bool,
) -> Changes {
    let old: Vec<&T> = old.map(|part| &**part).collect();
    let by_name: HashMap<&str, &T> = old.iter().map(|part| (name(part), *part)).collect();
    let mut kept = HashMap::new();
    let mut changes = Changes::default();
    for part in new {
        match by_name.get(name(part)) {
            None => changes.added.push(name(part).into()),
            Some(before) => {
                kept.insert(name(part), ());
                if !same(before, part) {
                    changes.changed.push(name(part).into());
                }
            }
        }
    }
    changes.removed = old.iter().map(|part| name(part)).filter(|name| !kept.contains_key(name)).map(Arc::from).collect();
    changes
}

impl Diff {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// One line for a log: `routes +1 -2 ~3, services ~1, admin`.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [("listeners", &self.listeners), ("services", &self.services), ("routes", &self.routes), ("limits", &self.limits)];
        let mut parts: Vec<String> =
            kinds.iter().filter(|(_, changes)| !changes.is_empty()).map(|(kind, changes)| format!("{kind}{changes}")).collect();
        let single =
            [("node", self.node), ("cluster", self.cluster), ("admin", self.admin), ("telemetry", self.telemetry), ("drills", self.drills)];
        parts.extend(single.iter().filter(|(_, changed)| *changed).map(|(name, _)| name.to_string()));
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [('+', self.added.len()), ('-', self.removed.len()), ('~', self.changed.len())];
        counts.iter().filter(|(_, count)| *count > 0).try_for_each(|(sign, count)| write!(f, " {sign}{count}"))
    }
}

impl Listener {
    /// Whether both are the same but for where they were written.
    pub fn same_as(&self, other: &Self) -> bool {
        *self == Self { place: self.place.clone(), ..other.clone() }
    }
}

impl Service {
    /// Whether both are the same but for where they were written.
    pub fn same_as(&self, other: &Self) -> bool {
        *self == Self { place: self.place.clone(), ..other.clone() }
    }
}

impl Limit {
    /// Whether both are the same but for where they were written.
    pub fn same_as(&self, other: &Self) -> bool {
        *self == Self { place: self.place.clone(), ..other.clone() }
    }
}

impl Route {
    /// Whether both are the same but for where they were written. Services count by their name: that one of them
    /// changed is no change of the route.
    pub fn same_as(&self, other: &Self) -> bool {
        self.id == other.id
            && self.matcher.same_as(&other.matcher)
            && same_action(&self.action, &other.action)
            && self.limits.len() == other.limits.len()
            && self.limits.iter().zip(&other.limits).all(|(a, b)| a.same_as(b))
            && self.networks == other.networks
            && self.request == other.request
            && self.response == other.response
            && self.max_body == other.max_body
            && self.deadlines == other.deadlines
            && self.retry == other.retry
            && (self.encoded_slash, self.semicolon, self.websocket) == (other.encoded_slash, other.semicolon, other.websocket)
    }
}

impl Matcher {
    fn same_as(&self, other: &Self) -> bool {
        self.written == other.written
            && self.headers == other.headers
            && self.query == other.query
            && self.path_regex.as_ref().map(regex::Regex::as_str) == other.path_regex.as_ref().map(regex::Regex::as_str)
            && (self.priority, &self.listeners) == (other.priority, &other.listeners)
    }
}

impl PartialEq for ValueMatch {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            (Self::Present, Self::Present) | (Self::Absent, Self::Absent) => true,
            _ => false,
        }
    }
}

fn same_action(a: &Action, b: &Action) -> bool {
    match (a, b) {
        (Action::Forward(a), Action::Forward(b)) => {
            let parts = |forward: &crate::Forward| {
                forward.split.iter().map(|(service, weight)| (service.name.clone(), *weight)).collect::<Vec<_>>()
            };
            a.sticky == b.sticky && parts(a) == parts(b)
        }
        (Action::Redirect(a), Action::Redirect(b)) => a == b,
        (Action::Respond(a), Action::Respond(b)) => a == b,
        _ => false,
    }
}
