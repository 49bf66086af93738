//! An operator, through the admin listener and nothing else: looks at endpoints and actors all the time, notes what has
//! changed, and drills.

use super::{
    super::client::{Admin, Failed, listed},
    ENDPOINTS, SERVICE,
    plan::Drill,
};
use crate::{shim, trace::Trace};
use hyper::Method;
use serde_json::json;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

/// Time between two looks.
pub(super) const EVERY: Duration = Duration::from_millis(100);

/// One look: the verdict on each endpoint in the order of [`ENDPOINTS`], and each actor with its state and how often it was
/// started again, by id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Look {
    pub(super) at: Duration,
    pub(super) verdicts: Vec<String>,
    pub(super) actors: BTreeMap<String, (String, u64)>,
}

/// What the operator has seen.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) looks: Vec<Look>,
    /// Who was killed, when, and how often it had been started again before.
    pub(super) killed: Vec<(Duration, String, u64)>,
}

#[derive(Clone)]
pub(super) struct Operator {
    drills: Vec<Drill>,
    findings: Arc<Mutex<Findings>>,
    trace: Trace,
}

impl Operator {
    pub(super) fn new(drills: Vec<Drill>, findings: Arc<Mutex<Findings>>, trace: Trace) -> Self {
        Self { drills, findings, trace }
    }

    /// Looks and drills until `stop`, and once more after it.
    pub(super) async fn work(mut self, admin: SocketAddr, token: &str, stop: &Notify) -> Result<(), Failed> {
        let mut admin = Admin::connect(admin, token).await?;
        self.drills.reverse();
        let mut before = None;
        loop {
            let look = Look::take(&mut admin).await?;
            self.note(before.as_ref(), &look);
            while let Some(drill) = self.drills.pop_if(|drill| drill.at <= look.at) {
                self.drill(&mut admin, drill, &look).await?;
            }
            before = Some(look);
            if timeout(EVERY, stop.notified()).await.is_ok() {
                break;
            }
        }
        let last = Look::take(&mut admin).await?;
        self.note(before.as_ref(), &last);
        drop(admin);
        // The end of the connection takes its way through the network.
        sleep(Duration::from_millis(50)).await;
        Ok(())
    }

    async fn drill(&self, admin: &mut Admin<'_>, drill: Drill, look: &Look) -> Result<(), Failed> {
        let (id, (_, restarts)) = look.actors.iter().nth((drill.whom % look.actors.len() as u64) as usize).ok_or("a service has actors")?;
        let order = match drill.stall {
            Some(stall) => json!({ "actor": id, "do": "stall", "for": format!("{}ms", stall.as_millis()) }),
            None => json!({ "actor": id, "do": "kill" }),
        };
        let status = admin.ask(Method::POST, "/v1/drills", order.to_string()).await?.0;
        self.trace.line("operator", format_args!("{order}: {status}"));
        if drill.stall.is_none() && status == 202 {
            self.findings().killed.push((shim::elapsed(), id.clone(), *restarts));
        }
        Ok(())
    }

    /// Puts a look on record, and into the trace what has changed.
    fn note(&self, before: Option<&Look>, look: &Look) {
        for (at, verdict) in look.verdicts.iter().enumerate() {
            if before.is_none_or(|before| before.verdicts.get(at) != Some(verdict)) {
                self.trace.line("operator", format_args!("{} is {verdict}", ENDPOINTS[at]));
            }
        }
        for (id, (state, restarts)) in &look.actors {
            if before.is_none_or(|before| before.actors.get(id) != Some(&(state.clone(), *restarts))) {
                self.trace.line("operator", format_args!("{id} is {state} after {restarts} restarts"));
            }
        }
        for id in before.iter().flat_map(|before| before.actors.keys()).filter(|id| !look.actors.contains_key(*id)) {
            self.trace.line("operator", format_args!("{id} is gone"));
        }
        self.findings().looks.push(look.clone());
    }

    fn findings(&self) -> std::sync::MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Look {
    async fn take(admin: &mut Admin<'_>) -> Result<Self, Failed> {
        let upstreams = admin.get("/v1/upstreams").await?;
        let mut verdicts = vec![String::new(); ENDPOINTS.len()];
        for endpoint in listed(&upstreams[0]["endpoints"])? {
            let shown = |host: &str| endpoint["host"] == format!("{host}.internal");
            let at = ENDPOINTS.iter().position(|host| shown(host)).ok_or_else(|| format!("{endpoint} is nobody's"))?;
            endpoint["verdict"].as_str().unwrap_or("nothing").clone_into(&mut verdicts[at]);
        }
        let mut actors = BTreeMap::new();
        let tree = admin.get(&format!("/v1/actors?under=root/services/{SERVICE}&limit=100")).await?;
        for actor in listed(&tree)? {
            let id = actor["id"].as_str().ok_or("an actor has an id")?;
            let state = actor["state"].as_str().ok_or("an actor has a state")?;
            actors.insert(id.to_owned(), (state.to_owned(), actor["restarts"].as_u64().unwrap_or_default()));
        }
        Ok(Self { at: shim::elapsed(), verdicts, actors })
    }
}

/// Whether this is the id of an actor that looks after an endpoint's connections.
pub(super) fn is_pool(id: &str) -> bool {
    id.strip_prefix("root/services/").and_then(|id| id.strip_prefix(SERVICE)).is_some_and(|id| id.starts_with("/pool:"))
}

/// Whether the endpoint of this pool is an address, and not a name that nobody has looked up.
pub(super) fn has_address(pool: &str) -> bool {
    pool.contains('@')
}
