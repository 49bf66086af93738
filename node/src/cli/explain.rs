//! `shoal explain`: a question to a file, or to the node that runs.

use super::{Exit, Failure, Output, Surroundings, Terminal, ask::Desk};
use crate::{
    explain::{Explanation, Question, Values},
    rehearse,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    path::{Path, PathBuf},
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// As in GET.
    method: String,
    /// `https://host/path`, or a path alone with `-H 'Host: name'`.
    url: String,
    /// A header of the request; as often as you like.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Where the request comes from; this machine where absent.
    #[arg(long, value_name = "IP")]
    client_ip: Option<IpAddr>,
    /// The listener it comes in by; the one that fits the URL where absent.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Ask a file, instead of the node that runs.
    #[arg(long, value_name = "FILE")]
    on: Option<PathBuf>,
    #[command(flatten)]
    desk: Desk,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn explain(args: Args, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let question = args.question()?;
    let explanation = match &args.on {
        Some(file) => on_file(file, &question, surroundings, terminal)?,
        None => on_node(&args, &question, surroundings)?,
    };
    match args.output {
        Output::Text => write!(terminal.out, "{explanation}")?,
        Output::Json => writeln!(terminal.out, "{:#}", json!(explanation))?,
    }
    Ok(Exit::Ok)
}

impl Args {
    fn question(&self) -> Result<Question, Failure> {
        let mut headers = BTreeMap::new();
        for written in &self.headers {
            let (name, value) = written
                .split_once(':')
                .ok_or_else(|| Failure::usage(format!("`{written}` is no header"), "write it as -H 'Name: value'"))?;
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_string());
            match headers.entry(name) {
                Entry::Vacant(vacant) => {
                    vacant.insert(Values::One(value));
                }
                Entry::Occupied(mut occupied) => occupied.get_mut().push(value),
            }
        }
        Ok(Question {
            method: self.method.clone(),
            url: self.url.clone(),
            headers,
            client_ip: self.client_ip,
            listener: self.listener.clone(),
        })
    }
}

fn on_file(file: &Path, question: &Question, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Explanation, Failure> {
    let loaded = surroundings.load(file);
    for problem in loaded.problems.iter().filter(|problem| problem.is_error()) {
        write!(terminal.err, "{problem}")?;
    }
    let Some(gateway) = loaded.gateway else { return Err(Failure::problems(&loaded.problems)) };
    rehearse(surroundings.world.clone(), gateway)?.explain(question).map_err(not_a_question)
}

fn not_a_question(why: String) -> Failure {
    Failure::usage(why, "shoal explain --help")
}

fn on_node(args: &Args, question: &Question, surroundings: &Surroundings) -> Result<Explanation, Failure> {
    let explained = args.desk.post("/v1/explain", &json!(question), surroundings)?;
    serde_json::from_value(explained).map_err(|error| args.desk.other_version(&error.to_string()))
}
