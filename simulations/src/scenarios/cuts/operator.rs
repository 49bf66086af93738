//! An operator at each node, through its admin listener and nothing else: looks whom it sees and to whom it has links, and
//! notes what has changed.

use super::{
    super::client::{Admin, Failed, listed},
    NODES,
};
use crate::{shim, trace::Trace};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(500);

/// What one node says at one time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Look {
    pub(super) at: Duration,
    pub(super) by: usize,
    /// How often this node had been started.
    pub(super) life: u32,
    pub(super) members: BTreeMap<usize, Seen>,
}

/// How a node sees another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    /// `alive`, `gone` or `left`.
    pub(super) seen: String,
    pub(super) generation: u64,
    /// Whether there is a link, and whether it was dialed from here.
    pub(super) link: Option<bool>,
    pub(super) represents: bool,
}

/// Who sees whom, as one node draws it in the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Views {
    pub(super) by: usize,
    pub(super) members: Vec<String>,
    /// Who sees whom, and how, in its own words.
    pub(super) cells: Vec<(String, String, String)>,
    pub(super) disagree: usize,
}

/// What the operators have seen.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) looks: Vec<Look>,
    pub(super) views: Vec<Views>,
}

#[derive(Clone)]
pub(super) struct Operator {
    node: usize,
    findings: Arc<Mutex<Findings>>,
    trace: Trace,
}

impl Operator {
    pub(super) fn new(node: usize, findings: Arc<Mutex<Findings>>, trace: Trace) -> Self {
        Self { node, findings, trace }
    }

    /// Looks until `stop`, and once more after it.
    pub(super) async fn work(&self, life: u32, admin: SocketAddr, token: &str, stop: &Notify) -> Result<(), Failed> {
        let mut admin = Admin::connect(admin, token).await?;
        let mut before = None;
        loop {
            let look = self.look(life, &mut admin).await?;
            self.note(before.as_ref(), &look);
            before = Some(look);
            if timeout(EVERY, stop.notified()).await.is_ok() {
                break;
            }
        }
        let views = admin.get("/v1/views").await?;
        let views = self.views(&views)?;
        self.trace.line("operator", format_args!("{} draws {views:?}", NODES[self.node]));
        self.findings().views.push(views);
        drop(admin);
        // The end of the connection takes its way through the network.
        sleep(Duration::from_millis(50)).await;
        Ok(())
    }

    async fn look(&self, life: u32, admin: &mut Admin<'_>) -> Result<Look, Failed> {
        let mut members = BTreeMap::new();
        for member in listed(&admin.get("/v1/members?limit=100").await?)? {
            let text = |key: &str| member[key].as_str().ok_or_else(|| format!("{member} has no {key}"));
            let name = text("name")?;
            let number = NODES.iter().position(|node| *node == name).ok_or_else(|| format!("{name} is nobody"))?;
            let seen = Seen {
                seen: text("seen")?.to_owned(),
                generation: member["generation"].as_u64().ok_or("a member has a generation")?,
                link: member["link"]["dialed_by_us"].as_bool(),
                represents: member["representative"].as_bool().unwrap_or_default(),
            };
            members.insert(number, seen);
        }
        Ok(Look { at: shim::elapsed(), by: self.node, life, members })
    }

    /// Puts a look on record, and into the trace what has changed.
    fn note(&self, before: Option<&Look>, look: &Look) {
        for (number, seen) in &look.members {
            if before.and_then(|before| before.members.get(number)) != Some(seen) {
                let link = match seen.link {
                    None => "no link",
                    Some(true) => "a link to it",
                    Some(false) => "a link from it",
                };
                let whether = if seen.represents { ", representative" } else { "" };
                let (by, whom, Seen { seen, generation, .. }) = (NODES[self.node], NODES[*number], seen);
                self.trace.line("operator", format_args!("{by} sees {whom} {seen} as {generation} with {link}{whether}"));
            }
        }
        for number in before.iter().flat_map(|before| before.members.keys()).filter(|number| !look.members.contains_key(number)) {
            self.trace.line("operator", format_args!("{} does not know {} any more", NODES[self.node], NODES[*number]));
        }
        self.findings().looks.push(look.clone());
    }

    fn views(&self, views: &Value) -> Result<Views, Failed> {
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| format!("{value} is no text"));
        let mut cells = Vec::new();
        for row in listed(&views["views"])? {
            let by = text(&row["by"])?;
            if row["told_by"] != "itself" {
                cells.push((by, "nobody".to_owned(), format!("as told by {} because {}", row["told_by"], row["why"])));
                continue;
            }
            for (name, how) in row["sees"].as_object().ok_or("a row sees somebody")? {
                cells.push((by.clone(), name.clone(), text(how)?));
            }
        }
        Ok(Views {
            by: self.node,
            members: listed(&views["members"])?.iter().map(text).collect::<Result<_, _>>()?,
            cells,
            disagree: listed(&views["disagree"])?.len(),
        })
    }

    fn findings(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
