//! `shoal explain`: a question to a file, or to the node that runs.

use super::{
    Exit, Failure, Output, Surroundings, Terminal,
    ask::{self, Address},
    block_on, error,
};
use crate::{
    explain::{Explanation, Question, Values},
    rehearse,
};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use serde_json::Value;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

const WITHIN: Duration = Duration::from_secs(5);

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
    /// The node's admin listener.
    #[arg(long, value_name = "ADDR", env = "SHOAL_ADMIN", default_value = ask::ADMIN)]
    admin: Address,
    /// Its token, as printed at the start or set in the file.
    #[arg(long, env = "SHOAL_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// PEM file with the authority of the certificate that it shows.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
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
        Output::Json => writeln!(terminal.out, "{:#}", serde_json::json!(explanation))?,
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
    let body = serde_json::to_vec(question).expect("a question is JSON");
    let mut request = Request::post("/v1/explain").header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = &args.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| Failure::usage("the token is not one that a header can have", "copy it from what the node printed"))?;
    let answer = block_on(ask::ask(&*surroundings.world, &args.admin, args.ca.as_deref(), request, WITHIN))??;

    let (status, body) = (answer.status(), answer.body());
    if status.is_success() {
        return serde_json::from_slice(body).map_err(|error| Failure {
            exit: Exit::Failed,
            code: error::OTHER_VERSION,
            message: format!("{} answered something else: {error}", args.admin),
            help: Some("use the `shoal` that the node runs".to_string()),
        });
    }
    Err(refused(&args.admin, status, body))
}

/// What the node said instead, in its own words.
fn refused(admin: &Address, status: StatusCode, body: &Bytes) -> Failure {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let words = |member: &str| problem[member].as_str().map(String::from);
    let said = words("detail").or(words("title")).unwrap_or_else(|| status.to_string());
    match words("code").as_deref() {
        Some("E9004" | "E9005" | "E9006") => Failure {
            exit: Exit::Refused,
            code: error::TOKEN,
            message: format!("{admin}: {}", words("title").unwrap_or(said)),
            help: Some("give the node's token by --token or SHOAL_TOKEN, or ask a file by --on".to_string()),
        },
        Some("E9015") => not_a_question(said),
        _ => Failure { exit: Exit::Failed, code: error::UNREACHABLE, message: format!("{admin} answered {status}: {said}"), help: None },
    }
}
