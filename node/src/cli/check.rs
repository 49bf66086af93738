//! `shoal check`: everything that is wrong with a configuration, or else what it would serve.
//!
//! A configuration without errors is also made ready as a start would do it, so that a certificate that cannot be
//! served is found here and not at night.

use super::{Exit, Failure, Output, Surroundings, Tally, Terminal, count};
use crate::{Obstacle, explain::part_name, obstacles};
use ::config::{Gateway, Limit, LimitMode, Problem, written};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// ./shoal.toml where absent.
    file: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Take warnings for errors.
    #[arg(long)]
    strict: bool,
}

pub(super) fn check(args: &Args, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let path = surroundings.file(args.file.as_ref())?;
    let loaded = surroundings.load(&path);
    let shape = loaded.gateway.as_ref().map(Shape::of);
    let obstacles = loaded.gateway.map(|gateway| obstacles(&*surroundings.world, &gateway)).unwrap_or_default();

    let mut tally = Tally::of(&loaded.problems);
    tally.errors += obstacles.len();
    let file = path.display().to_string();
    match args.output {
        Output::Text => text(&file, &loaded.problems, shape.as_ref(), obstacles, tally, terminal.out)?,
        Output::Json => {
            let json = json(&file, &loaded.problems, shape.as_ref(), obstacles, tally);
            writeln!(terminal.out, "{json:#}")?;
        }
    }
    let bad = tally.errors > 0 || (args.strict && tally.warnings > 0);
    Ok(if bad { Exit::Errors } else { Exit::Ok })
}

fn text(
    file: &str,
    problems: &[Problem],
    shape: Option<&Shape>,
    obstacles: Vec<Obstacle>,
    tally: Tally,
    out: &mut (impl Write + ?Sized),
) -> io::Result<()> {
    for problem in problems {
        write!(out, "{problem}")?;
    }
    for Obstacle { place, error } in obstacles {
        let failure = Failure::from(error);
        let place = place.map_or_else(|| file.to_string(), |place| place.to_string());
        writeln!(out, "{place}  {} {}\n   help: shoal error {}", failure.code, failure.message, failure.code)?;
    }
    match shape {
        Some(shape) if tally.errors == 0 => {
            writeln!(out, "{file} is good: {}, revision {}", count(tally.warnings, "warning"), shape.revision)?;
            shape.write(out)
        }
        _ => writeln!(out, "{tally}"),
    }
}

fn json(file: &str, problems: &[Problem], shape: Option<&Shape>, obstacles: Vec<Obstacle>, tally: Tally) -> Value {
    let mut diagnostics: Vec<Value> = problems.iter().map(Problem::to_json).collect();
    for Obstacle { place, error } in obstacles {
        let failure = Failure::from(error);
        let (uri, at) = match place {
            Some(place) => (place.file.display().to_string(), json!({ "line": place.line - 1, "character": place.column - 1 })),
            None => (file.to_string(), json!({ "line": 0, "character": 0 })),
        };
        diagnostics.push(json!({
            "uri": uri,
            "range": { "start": at, "end": at },
            "severity": 1,
            "code": failure.code,
            "source": "shoal",
            "message": failure.message,
            "relatedInformation": [],
        }));
    }
    json!({
        "file": file,
        "errors": tally.errors,
        "warnings": tally.warnings,
        "problems": diagnostics,
        "revision": shape.map(|shape| &shape.revision),
        "listeners": shape.map(|shape| shape.listeners.iter().map(|(name, _)| name).collect::<Vec<_>>()),
        "services": shape.map(|shape| shape.services),
        "routes": shape.map(|shape| shape.routes),
        "limits": shape.map(|shape| shape.limits.iter().map(|(name, worst)| json!({ "name": name, "worst_case": worst })).collect::<Vec<_>>()),
    })
}

/// What a configuration defines, for a person.
struct Shape {
    revision: String,
    listeners: Vec<(String, String)>,
    services: usize,
    endpoints: usize,
    routes: usize,
    limits: Vec<(String, String)>,
}

impl Shape {
    fn of(gateway: &Gateway) -> Self {
        let listeners = gateway.listeners.iter().map(|listener| (listener.name.to_string(), super::run::listens(listener)));
        Self {
            revision: gateway.revision.to_string(),
            listeners: listeners.collect(),
            services: gateway.services.len(),
            endpoints: gateway.services.iter().map(|service| service.endpoints.len()).sum(),
            routes: gateway.routes.len(),
            limits: limits(gateway).map(|limit| (limit.name.to_string(), worst_case(limit))).collect(),
        }
    }

    fn write(&self, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        let named = |out: &mut dyn Write, what: &str, parts: &[(String, String)]| -> io::Result<()> {
            writeln!(out, "  {}", count(parts.len(), what))?;
            let width = parts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(40);
            parts.iter().try_for_each(|(name, about)| writeln!(out, "    {name:<width$}  {about}"))
        };
        let mut out = out;
        named(&mut out, "listener", &self.listeners)?;
        writeln!(out, "  {}, {}", count(self.services, "service"), count(self.endpoints, "endpoint"))?;
        writeln!(out, "  {}", count(self.routes, "route"))?;
        named(&mut out, "limit", &self.limits)
    }
}

/// Every limit once: the named ones, and then those that are written on a route.
fn limits(gateway: &Gateway) -> impl Iterator<Item = &Arc<Limit>> {
    let mut seen = HashSet::new();
    let inline = gateway.routes.iter().flat_map(|route| &route.limits);
    gateway.limits.iter().chain(inline).filter(move |limit| seen.insert(limit.name.as_str()))
}

/// The most that a limit lets pass on this node. A full bucket and what flows into it meanwhile can be spent in one
/// span of the rate; a restart begins with full buckets.
fn worst_case(limit: &Limit) -> String {
    let key: Vec<String> = limit.key.iter().map(part_name).collect();
    let (per, key) = (written(limit.rate.per), key.join(","));
    let most = limit.burst.saturating_add(limit.rate.count);
    let rule = format!("{} burst {} per {key}", limit.rate, limit.burst);
    match limit.mode {
        LimitMode::Enforce => format!("{rule}: at most {most} in any {per} for each, on this node"),
        LimitMode::Shadow => format!("{rule}: refuses nothing (shadow)"),
    }
}
