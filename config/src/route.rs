//! Which route takes a request. The order is the Kubernetes Gateway API's and never depends on the order in the file.
//!
//! Host first (exact, then the longest wildcard, then any), then the path segment by segment from the left (a literal
//! before a capture before the rest), then whether a method is named, then the number of header predicates, then of
//! query predicates, then a `path_regex`, then `priority`.
//!
//! There is one tree of segments for each host that a route names, and one walk over them that meets the routes in
//! exactly that order: [`RouteTable::find`] stops at the first that takes the request, [`RouteTable::survey`] goes on to
//! the end. What a lookup costs depends on the request's path and not on how many routes there are.

mod condition;
mod rank;
mod trie;

pub use rank::{Behind, Candidate};
pub(crate) use rank::{predicates, specificity};

use crate::{HostPattern, ListenerName, PathPattern, Route, RouteId, Segment};
use http::{HeaderMap, Method};
use std::{
    collections::HashMap,
    ops::ControlFlow::{self, Break, Continue},
    sync::Arc,
};
use trie::{Quick, Trie};

/// A request as routing sees it: normalised, and without its body.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    pub listener: &'a ListenerName,
    pub method: &'a Method,
    /// Lower case, without port and trailing dot.
    pub host: &'a str,
    /// Normalised; begins with a slash.
    pub path: &'a str,
    /// Without the question mark; empty where there is none.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
}

/// Hears why each candidate lost. `()` hears nothing and costs nothing.
pub trait Reasons {
    fn lost(&mut self, _route: &Arc<Route>, _why: Lost) {}
}

impl Reasons for () {}

/// Why a route that was looked at did not take the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    Listener,
    Method,
    /// Index into `Matcher::headers`.
    Header(usize),
    /// Index into `Matcher::query`.
    Query(usize),
    PathRegex,
}

/// Every route, arranged so that the first one found is the right one.
#[derive(Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    ids: HashMap<RouteId, usize>,
    exact: HashMap<Arc<str>, Trie, Quick>,
    /// By what follows the `*.`.
    wildcards: HashMap<Arc<str>, Trie, Quick>,
    any: Trie,
}

impl RouteTable {
    /// Arranges routes, and numbers them in their order.
    pub fn new(routes: Vec<Route>) -> Self {
        let mut table = Self::default();
        let numbered = routes.into_iter().enumerate().map(|(number, route)| Arc::new(Route { number, ..route }));
        let routes: Vec<_> = numbered.collect();
        for route in &routes {
            let trie = match &route.matcher.host {
                HostPattern::Exact(host) => table.exact.entry(Arc::clone(host)).or_default(),
                HostPattern::Wildcard(suffix) => table.wildcards.entry(Arc::clone(suffix)).or_default(),
                HostPattern::Any => &mut table.any,
            };
            trie.insert(route);
        }
        let tries = table.exact.values_mut().chain(table.wildcards.values_mut());
        tries.chain([&mut table.any]).for_each(Trie::arrange);
        table.ids = routes.iter().enumerate().map(|(index, route)| (route.id.clone(), index)).collect();
        table.routes = routes;
        table
    }

    /// All routes, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    pub fn len(&self) -> usize {
        self.routes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    pub fn get(&self, id: &str) -> Option<&Arc<Route>> {
        self.ids.get(id).map(|index| &self.routes[*index])
    }

    /// Returns the route that takes the request. Does not allocate, except to decode a query that a regular expression
    /// asks for.
    pub fn find<'a>(&'a self, ask: &Ask<'_>, reasons: &mut impl Reasons) -> Option<&'a Arc<Route>> {
        let mut found = None;
        let _ = self.walk(ask, &mut |route| match condition::unmet(&route.matcher, ask) {
            Some(why) => {
                reasons.lost(route, why);
                Continue(())
            }
            None => {
                found = Some(route);
                Break(())
            }
        });
        found
    }

    /// Returns what [`find`](Self::find) does, and every other route that would have taken the request with the reason why
    /// it came later, best first. `reasons` hears of all that were looked at in vain, before the winner and after it.
    pub fn survey<'a>(&'a self, ask: &Ask<'_>, reasons: &mut impl Reasons) -> (Option<&'a Arc<Route>>, Vec<Candidate>) {
        let mut winner: Option<&'a Arc<Route>> = None;
        let mut others = Vec::new();
        let _ = self.walk(ask, &mut |route| {
            match (condition::unmet(&route.matcher, ask), winner) {
                (Some(why), _) => reasons.lost(route, why),
                (None, None) => winner = Some(route),
                (None, Some(winner)) => {
                    others.push(Candidate { route: Arc::clone(route), behind: rank::behind(&winner.matcher, &route.matcher) });
                }
            }
            Continue(())
        });
        (winner, others)
    }

    /// The runners-up, best first: every route but the winner that would have taken the request.
    pub fn others(&self, ask: &Ask<'_>) -> Vec<Candidate> {
        self.survey(ask, &mut ()).1
    }

    /// Visits every route whose host and path meet the request, in the order of precedence.
    fn walk<'a>(&'a self, ask: &Ask<'_>, visit: &mut impl FnMut(&'a Arc<Route>) -> ControlFlow<()>) -> ControlFlow<()> {
        if let Some(trie) = self.exact.get(ask.host) {
            trie.walk(ask.path, visit)?;
        }
        if !self.wildcards.is_empty() {
            let mut host = ask.host;
            while let Some((_, suffix)) = host.split_once('.') {
                if let Some(trie) = self.wildcards.get(suffix) {
                    trie.walk(ask.path, visit)?;
                }
                host = suffix;
            }
        }
        self.any.walk(ask.path, visit)
    }
}

impl std::fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.routes).finish()
    }
}

impl PathPattern {
    /// What a capture stands for in a path that the pattern matches: one segment, or for `{name=**}` all that is left,
    /// without the slash before it.
    pub fn capture<'a>(&self, path: &'a str, name: &str) -> Option<&'a str> {
        let mut left = path.strip_prefix('/');
        for segment in &self.segments {
            let (head, tail) = split(left?);
            if matches!(segment, Segment::Capture(capture) if &**capture == name) {
                return Some(head);
            }
            left = tail;
        }
        self.rest.as_ref().filter(|rest| &*rest.0 == name && !name.is_empty()).map(|_| left.unwrap_or_default())
    }

    /// Every capture and what it stands for in a path that the pattern matches.
    pub fn captures<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.capture_names().filter_map(move |name| Some((name, self.capture(path, name)?)))
    }

    pub fn capture_names(&self) -> impl Iterator<Item = &str> {
        let rest = self.rest.iter().map(|rest| &*rest.0).filter(|name| !name.is_empty());
        self.segments.iter().filter_map(Segment::capture).chain(rest)
    }
}

impl Segment {
    fn capture(&self) -> Option<&str> {
        match self {
            Self::Capture(name) => Some(name),
            Self::Literal(_) => None,
        }
    }
}

/// The first segment of a path without its leading slash, and what follows the next slash.
fn split(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((head, tail)) => (head, Some(tail)),
        None => (path, None),
    }
}
