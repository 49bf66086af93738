//! `shoal health`: what a container runs to know whether its node wants requests. An image needs no other program for it.

use super::{
    Exit, Failure, Surroundings, Terminal,
    ask::{self, Address},
    block_on, error,
};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use std::{path::PathBuf, time::Duration};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The node's admin listener.
    #[arg(long, value_name = "ADDR", env = "SHOAL_ADMIN", default_value = ask::ADMIN)]
    admin: Address,
    /// Any other URL that answers with a status below 300 if all is well.
    #[arg(long)]
    url: Option<String>,
    /// PEM file with the authority of the certificate that is shown.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How long the answer may take.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = super::duration)]
    within: Duration,
}

pub(super) fn health(args: &Args, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let (address, path) = match &args.url {
        None => (args.admin.clone(), "/readyz".to_string()),
        Some(url) => ask::url(url)?,
    };
    let request = Request::get(&path)
        .body(Full::new(Bytes::new()))
        .map_err(|error| Failure::usage(format!("this is no URL: {error}"), "write it as http://host:port/path"))?;
    let world = &*surroundings.world;
    // Whoever probes knows two answers only.
    let answer = block_on(ask::ask(world, &address, args.ca.as_deref(), request, args.within))?
        .map_err(|failure| Failure { exit: Exit::Failed, ..failure })?;
    if answer.status().is_success() {
        writeln!(terminal.out, "ready")?;
        return Ok(Exit::Ok);
    }
    let message = format!("{address}{path} answered {}", answer.status());
    Err(Failure { exit: Exit::Failed, code: error::NOT_READY, message, help: None })
}
