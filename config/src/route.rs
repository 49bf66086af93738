//! Which route takes a request. The order is the Kubernetes Gateway API's and never depends on the order in the file.
//!
//! Host first (exact, then the longest wildcard, then any), then the path segment by segment from the left (a literal
//! before a capture before the rest), then whether a method is named, then the number of header predicates, then of
//! query predicates, then a `path_regex`, then `priority`.

use crate::{ListenerName, Route};
use http::{HeaderMap, Method};
use std::sync::Arc;

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
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
}

impl RouteTable {
    /// All routes, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    pub fn find<'a>(&'a self, _ask: &Ask<'_>, _reasons: &mut impl Reasons) -> Option<&'a Arc<Route>> {
        None
    }
}
