//! `shoal version`

use super::{Exit, Failure, Output, Terminal};
use serde_json::json;

pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn version(args: &Args, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    match args.output {
        Output::Text => writeln!(terminal.out, "shoal {VERSION} ({os}, {arch})")?,
        Output::Json => writeln!(terminal.out, "{}", json!({ "version": VERSION, "os": os, "arch": arch }))?,
    }
    Ok(Exit::Ok)
}
