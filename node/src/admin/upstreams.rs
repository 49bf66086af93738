//! The endpoints of a service as operators see them: what is concluded of each, why, and what it is doing; and the order to leave
//! one of them alone.

use super::{Answer, Question, Refusal, allow, pages::json_response_of};
use crate::snapshot::LiveService;
use actors::service::{Drain, Drained, NotDrained, names::Located};
use config::Node;
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

impl Question<'_> {
    /// Lets an endpoint get nothing new. It may be ordered again and again.
    pub(super) fn drain(self, service: &str, endpoint: &str) -> Answer {
        self.wish(service, endpoint, |order| force(order).map(|force| Drain::Begin { force }))
    }

    /// Lets an endpoint get requests again.
    pub(super) fn undrain(self, service: &str, endpoint: &str) -> Answer {
        self.wish(service, endpoint, |order| match order.as_object() {
            Some(members) if members.is_empty() => Ok(Drain::End),
            _ => Err("the order is an empty object: {}".into()),
        })
    }

    fn wish(self, service: &str, endpoint: &str, read: impl Fn(&Value) -> Result<Drain, String>) -> Answer {
        allow(&self.head.method, &[Method::POST])?;
        self.query.none()?;
        let wish = read(&self.json()?).map_err(|detail| Refusal::Question { detail })?;
        let (service, endpoint) = (service.to_string(), endpoint.to_string());
        match self.look.drain(&service, &endpoint, wish) {
            None => Err(Refusal::NoService { service }),
            Some(Err(NotDrained::Unknown)) => Err(Refusal::NoEndpoint { service, endpoint }),
            Some(Err(NotDrained::Last)) => Err(Refusal::LastEndpoint { service, endpoint }),
            Some(Err(NotDrained::Configured)) => Err(Refusal::DrainedByFile { endpoint }),
            Some(Ok(Drained { changed, in_flight })) => {
                let draining = wish != Drain::End;
                let answer = json!({
                    "service": service,
                    "endpoint": endpoint,
                    "draining": draining,
                    "changed": changed,
                    "active_requests": in_flight,
                });
                Ok(json_response_of(&answer).into())
            }
        }
    }
}

/// Whether an order insists: `{}`, or `{"force": true}`.
fn force(order: &Value) -> Result<bool, String> {
    let members = order.as_object().ok_or("the order is an object: {} or {\"force\": true}")?;
    if let Some(unknown) = members.keys().find(|name| *name != "force") {
        return Err(format!("`{unknown}` is not known here; `force` is"));
    }
    match &order["force"] {
        Value::Null => Ok(false),
        Value::Bool(force) => Ok(*force),
        _ => Err("`force` is true or false".into()),
    }
}

pub(super) fn describe(live: &LiveService, node: &Node, now: Instant) -> Value {
    let endpoints = live.endpoints.load();
    let (balancer, breaker) = (&endpoints.balancer, live.watch.breaker());
    let (verdicts, counted, shares) = (live.watch.verdicts(now), live.watch.counted(), balancer.shares());
    let levels: Vec<Value> = balancer
        .capacities(now)
        .iter()
        .enumerate()
        .map(|(level, capacity)| {
            json!({
                "level": level + 1,
                "priority": capacity.rank.priority,
                "locality": capacity.rank.locality,
                "doubted": capacity.rank.doubted,
                "share_percent": shares.percent(level),
                "panic": shares.is_panicking(level),
                "weight": capacity.total,
                "healthy_weight": capacity.healthy,
            })
        })
        .collect();
    let describe = |at: usize, located: &Located| {
        let (name, endpoint, upstream) = (located.name(), &located.endpoint, &endpoints.upstreams[at]);
        let judged = verdicts.of(&name);
        let mut shown = json!({
            "endpoint": name,
            "host": endpoint.host,
            "address": located.address.map(|address| address.to_string()),
            "tls": endpoint.tls,
            "weight": endpoint.weight,
            "region": endpoint.region.as_ref().unwrap_or(&node.region),
            "zone": endpoint.zone.as_ref().unwrap_or(&node.zone),
            "level": balancer.level_of(at).map(|level| level + 1),
            "connections": upstream.open_connections(),
            "active_requests": upstream.load.in_flight(),
            "latency_ms": millis(upstream.load.latency(now)),
            "slow_start_percent": (balancer.ramp_of(at, now) * 100.0).round(),
        });
        // What is judged is described by itself, so that both say the same everywhere.
        if let (Some(Value::Object(judged)), Some(shown)) = (judged.map(|judged| json!(judged)), shown.as_object_mut()) {
            shown.extend(judged.into_iter().filter(|(key, _)| key != "in_flight"));
        }
        shown
    };
    json!({
        "service": live.service.name,
        "region": node.region,
        "panic": shares.any_panicking(),
        "out": verdicts.out,
        "out_max": verdicts.out_max,
        "active_requests_bounded": breaker.in_flight(),
        "waiting_requests_bounded": breaker.waiting(),
        "probes": live.service.health.as_ref().map(|_| json!({ "passed": counted.probes_passed, "failed": counted.probes_failed })),
        "levels": levels,
        "names": live.watch.resolved().states.iter().map(|(name, state)| state.shown(name, now)).collect::<Vec<_>>(),
        "endpoints": endpoints.located.iter().enumerate().map(|(at, located)| describe(at, located)).collect::<Vec<_>>(),
    })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
