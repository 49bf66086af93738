//! What of a node its admin may see.

use super::{Cluster, Health, Look, upstreams};
use crate::{drain::Leaving, explain, node::Node, snapshot::LiveService};
use actors::{
    inspect::{Found, Id, View},
    service::{Drain, Drained, NotDrained},
};
use serde_json::Value;
use std::{
    io::{self, Write},
    sync::Arc,
};

impl Look for Node {
    fn health(&self) -> Health {
        let mut failing = Vec::new();
        if !self.is_started() {
            failing.push("starting".to_string());
        }
        if self.drain.is_announced() {
            failing.push("draining".to_string());
        }
        Health { started: self.is_started(), live: true, ready: self.is_ready(), failing }
    }

    fn metrics(&self) -> String {
        self.observe();
        self.metrics.render()
    }

    fn route(&self, id: &str) -> Option<Value> {
        self.snapshot.load().table().get(id).map(|route| route.describe())
    }

    fn routes(&self, after: Option<&str>, count: usize) -> Vec<(String, Value)> {
        let snapshot = self.snapshot.load();
        let mut routes: Vec<_> = snapshot.table().iter().filter(|route| after.is_none_or(|after| route.id.as_str() > after)).collect();
        routes.sort_by(|a, b| a.id.cmp(&b.id));
        routes.into_iter().take(count).map(|route| (route.id.to_string(), route.describe())).collect()
    }

    fn config(&self) -> Value {
        self.snapshot.load().gateway.describe()
    }

    fn upstreams(&self) -> Value {
        let snapshot = self.snapshot.load();
        let describe = |live: &Arc<LiveService>| upstreams::describe(live, &snapshot.gateway.node, self.world.now());
        Value::Array(snapshot.services.iter().map(describe).collect())
    }

    fn drain(&self, service: &str, endpoint: &str, wish: Drain) -> Option<Result<Drained, NotDrained>> {
        let snapshot = self.snapshot.load();
        let live = snapshot.services.iter().find(|live| live.service.name.as_str() == service)?;
        let drained = self.supervision.drain(live, endpoint, wish);
        if let Ok(Drained { changed: true, .. }) = drained {
            let what = if wish == Drain::End { "takes requests again" } else { "gets no new requests" };
            // Where standard error is gone, the verdict still tells.
            let _ = writeln!(io::stderr(), "upstreams: {endpoint} of {service} {what}, by hand");
        }
        Some(drained)
    }

    fn explain(&self, question: Value) -> Result<Value, String> {
        explain::answer(self, question)
    }

    fn actors(&self) -> Vec<View> {
        self.supervision.tree().views()
    }

    fn actor(&self, id: &Id) -> Option<Found> {
        self.supervision.tree().find(id)
    }

    fn drills_allowed(&self) -> bool {
        self.snapshot.load().gateway.drills.allow
    }

    fn drilled(&self, id: &Id, what: &str) {
        // Where standard error is gone, the story of the actor still tells.
        let _ = writeln!(io::stderr(), "drill: {what} {id}");
    }

    fn cluster(&self) -> Option<&dyn Cluster> {
        self.part.as_deref().map(|part| part as &dyn Cluster)
    }

    fn leave(&self, wait: bool) -> String {
        self.told_to_leave.send_replace(Some(if wait { Leaving::Politely } else { Leaving::AtOnce }));
        self.snapshot.load().gateway.node.name.to_string()
    }
}
