//! What of a node its admin may see.

use super::{Health, Look};
use crate::{explain, node::Node};
use serde_json::{Value, json};

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
        let region = &snapshot.gateway.node.region;
        let services = snapshot.services.iter().map(|live| {
            let endpoints = live.service.endpoints.iter().zip(&live.upstreams).map(|(endpoint, upstream)| {
                json!({
                    "endpoint": endpoint.authority(),
                    "tls": endpoint.tls,
                    "weight": endpoint.weight,
                    "connections": upstream.open_connections(),
                    "active_requests": upstream.load.in_flight(),
                    "latency_ms": upstream.load.latency(self.world.now()).as_secs_f64() * 1e3,
                })
            });
            json!({ "service": live.service.name, "region": region, "endpoints": endpoints.collect::<Vec<_>>() })
        });
        Value::Array(services.collect())
    }

    fn explain(&self, question: Value) -> Result<Value, String> {
        explain::answer(self, question)
    }
}
