//! What has to be true of a cluster that is cut, beside what is true of every run.

use super::{
    ENDPOINTS, KNOWN_WITHIN, NODES,
    operator::{Findings, Look},
    plan::Plan,
};
use crate::{
    history::{Answer, Exchange, Record},
    invariants::Violation,
};
use hyper::StatusCode;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What is left of a finished run.
pub(super) struct Upheld<'a> {
    pub(super) record: &'a Record,
    pub(super) findings: &'a Findings,
    pub(super) plan: &'a Plan,
}

struct Invariant {
    number: u32,
    sentence: &'static str,
    check: fn(&Upheld<'_>) -> Result<(), String>,
}

/// Numbered on from those of troubled endpoints.
const ALL: [Invariant; 7] = [
    Invariant { number: 19, sentence: "a node that is up and reaches an endpoint answers well, whoever it is cut off from", check: served },
    Invariant { number: 20, sentence: "soon after a change a node sees alive exactly those whom it reaches", check: the_reached_are_alive },
    Invariant {
        number: 21,
        sentence: "whom a node has known and does not reach it sees gone, as long as that lasts",
        check: the_others_are_gone,
    },
    Invariant { number: 22, sentence: "no generation goes back", check: generations_grow },
    Invariant {
        number: 23,
        sentence: "soon after a change both ends of a way agree on one link, and the open ways have one",
        check: one_link,
    },
    Invariant { number: 24, sentence: "when all has healed all see all as they are", check: all_see_all },
    Invariant { number: 25, sentence: "when all has healed the views of all agree", check: views_agree },
];

impl Upheld<'_> {
    pub(super) fn violations(&self) -> Vec<Violation> {
        let broken = ALL.iter().filter_map(|invariant| {
            let evidence = (invariant.check)(self).err()?;
            Some(Violation::new(invariant.number, invariant.sentence, evidence))
        });
        broken.collect()
    }

    /// The last look of each node.
    fn last(&self) -> Result<Vec<&Look>, String> {
        let last = |node: usize| self.findings.looks.iter().rfind(|look| look.by == node);
        let all = (0..self.plan.places.len()).map(|node| last(node).ok_or_else(|| format!("nobody has looked at {}", NODES[node])));
        all.collect()
    }
}

/// An endpoint counts that could be reached for as long as it may take to be known as such.
fn served(run: &Upheld<'_>) -> Result<(), String> {
    for (id, exchange) in run.record.exchanges.iter().filter(|(_, exchange)| !exchange.crashed && failed(exchange)) {
        let until = exchange.answer().map_or(exchange.asked, |(at, _)| *at);
        let (node, since) = (NODES[id.caller as usize], exchange.asked.saturating_sub(KNOWN_WITHIN));
        let touches = |endpoint: &str, way: &(&str, &str)| *way == (node, endpoint) || *way == (endpoint, node);
        let was_cut = |endpoint: &str| {
            run.plan
                .faults
                .iter()
                .any(|fault| fault.ways().any(|way| touches(endpoint, way)) && fault.begins <= until && fault.ends >= since)
        };
        if let Some(reached) = ENDPOINTS[..run.plan.regions].iter().find(|endpoint| !was_cut(endpoint)) {
            return Err(format!("{id} asked {node} at {:?} and got {:?}, and {reached} was there", exchange.asked, exchange.answers));
        }
    }
    Ok(())
}

fn failed(exchange: &Exchange) -> bool {
    !matches!(exchange.answer(), Some((_, Answer::Whole { status: StatusCode::OK, .. })))
}

fn names(numbers: &BTreeSet<usize>) -> String {
    numbers.iter().map(|number| NODES[*number]).collect()
}

/// Everybody knows where the seeds are, and otherwise whom it has seen.
fn the_reached_are_alive(run: &Upheld<'_>) -> Result<(), String> {
    let mut seen: BTreeSet<(usize, usize)> = BTreeSet::new();
    for look in &run.findings.looks {
        seen.extend(look.members.keys().map(|member| (look.by, *member)));
        if !run.plan.is_settled(look.at) {
            continue;
        }
        let alive: BTreeSet<usize> = look.members.iter().filter(|(_, member)| member.seen == "alive").map(|(number, _)| *number).collect();
        let within = run.plan.reached_from(look.by, look.at, |_, _| true);
        let reached = run.plan.reached_from(look.by, look.at, |one, two| run.plan.seeds.contains(&two) || seen.contains(&(one, two)));
        if !alive.is_subset(&within) || !reached.is_subset(&alive) {
            let since = run.plan.last_change(look.at);
            return Err(format!(
                "{} reaches {} since {since:?} and sees {} alive at {:?}",
                NODES[look.by],
                names(&reached),
                names(&alive),
                look.at
            ));
        }
    }
    Ok(())
}

fn the_others_are_gone(run: &Upheld<'_>) -> Result<(), String> {
    let mut known: BTreeMap<(usize, u32), BTreeSet<usize>> = BTreeMap::new();
    for look in &run.findings.looks {
        let known = known.entry((look.by, look.life)).or_default();
        known.extend(look.members.keys());
        if !run.plan.is_settled(look.at) {
            continue;
        }
        let reached = run.plan.reached_from(look.by, look.at, |_, _| true);
        for other in known.difference(&reached) {
            let seen = look.members.get(other).map_or("nowhere", |member| &member.seen);
            if seen != "gone" {
                return Err(format!("{} sees {} {seen} at {:?}", NODES[look.by], NODES[*other], look.at));
            }
        }
    }
    Ok(())
}

fn generations_grow(run: &Upheld<'_>) -> Result<(), String> {
    let mut shown: BTreeMap<(usize, u32, usize), u64> = BTreeMap::new();
    let mut lives: BTreeMap<usize, (u32, u64)> = BTreeMap::new();
    for look in &run.findings.looks {
        for (number, member) in &look.members {
            let before = shown.insert((look.by, look.life, *number), member.generation);
            if let Some(before) = before.filter(|before| *before > member.generation) {
                let (by, whom) = (NODES[look.by], NODES[*number]);
                return Err(format!("{by} sees {whom} as {} at {:?}, which was {before}", member.generation, look.at));
            }
        }
        let Some(own) = look.members.get(&look.by) else { return Err(format!("{} does not know itself", NODES[look.by])) };
        let (life, generation) = lives.insert(look.by, (look.life, own.generation)).unwrap_or((look.life, own.generation));
        if look.life > life && own.generation <= generation {
            return Err(format!("{} is {} in its life {}, and was {generation} before", NODES[look.by], own.generation, look.life));
        }
    }
    Ok(())
}

/// In each region all are linked that can be, and what one end takes for its own dialing the other takes for the peer's.
fn one_link(run: &Upheld<'_>) -> Result<(), String> {
    let mut latest: BTreeMap<usize, &Look> = BTreeMap::new();
    for look in &run.findings.looks {
        latest.insert(look.by, look);
        if !run.plan.is_settled(look.at) {
            continue;
        }
        let closed = run.plan.closed(look.at);
        for (peer, there) in latest.iter().filter(|(peer, there)| **peer != look.by && run.plan.is_settled(there.at)) {
            if run.plan.is_down(*peer, look.at) || run.plan.last_change(there.at) != run.plan.last_change(look.at) {
                continue;
            }
            let (us, them) = (NODES[look.by], NODES[*peer]);
            let strangers = !look.members.contains_key(peer) && !there.members.contains_key(&look.by);
            let told = [look.by, *peer].iter().any(|node| run.plan.seeds.contains(node));
            let here = look.members.get(peer).and_then(|member| member.link);
            let there = there.members.get(&look.by).and_then(|member| member.link);
            let is_cut = closed.contains(&(us, them)) || closed.contains(&(them, us));
            let neighbours = run.plan.places[look.by].region == run.plan.places[*peer].region;
            let right = match (here, there) {
                (Some(here), Some(there)) => here != there && !is_cut,
                (None, None) => is_cut || !neighbours || (strangers && !told),
                // Between regions links that nobody wants any more are closed, and the looks are not at the same instant.
                (Some(_), None) | (None, Some(_)) => !neighbours,
            };
            if !right {
                return Err(format!("{us} and {them} at {:?} (cut: {is_cut}): dialed by us {here:?}, and {there:?}", look.at));
            }
        }
    }
    Ok(())
}

fn all_see_all(run: &Upheld<'_>) -> Result<(), String> {
    let last = run.last()?;
    let own = |node: usize| last[node].members.get(&node).map_or(0, |member| member.generation);
    for look in &last {
        for (node, name) in NODES.iter().enumerate().take(last.len()) {
            match look.members.get(&node) {
                Some(member) if member.seen == "alive" && member.generation == own(node) => {}
                other => return Err(format!("{} sees {name}, who is {}, as {other:?}", NODES[look.by], own(node))),
            }
        }
    }
    Ok(())
}

fn views_agree(run: &Upheld<'_>) -> Result<(), String> {
    if run.findings.views.len() != run.plan.places.len() {
        return Err(format!("{} of {} have drawn one", run.findings.views.len(), run.plan.places.len()));
    }
    let all: Vec<&str> = NODES[..run.plan.places.len()].to_vec();
    for views in &run.findings.views {
        let by = NODES[views.by];
        if views.members != all || views.disagree > 0 {
            return Err(format!("{by} draws {:?} with {} who disagree", views.members, views.disagree));
        }
        if let Some((who, whom, how)) = views.cells.iter().find(|(_, _, how)| how != "alive") {
            return Err(format!("{by} draws that {who} sees {whom} {how}"));
        }
        if views.cells.len() != all.len() * all.len() {
            return Err(format!("{by} draws {:?}", views.cells));
        }
    }
    Ok(())
}

/// How long after an answer it is in the access log at the latest.
pub(super) const LOGGED_WITHIN: Duration = Duration::from_secs(1);
