//! `shoal drill`: an actor that panics or stands still because an operator wants to see what happens. Requests should not
//! notice.

use super::{Exit, Failure, Output, Surroundings, Terminal, ask::Desk};
use serde_json::{Value, json};
use std::time::Duration;

#[derive(clap::Subcommand, Debug)]
pub(super) enum Verb {
    /// Make an actor panic before its next message; it is started again.
    Kill(Args),
    /// Make an actor stand still, so that its mailbox fills.
    Stall {
        #[command(flatten)]
        args: Args,
        /// For how long, at most 10m.
        #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = super::duration)]
        lasts: Duration,
    },
    /// End a stall before its time.
    Release(Args),
}

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Its id, as `shoal actors tree` shows it; `root/` in front may be left out.
    id: String,
    #[command(flatten)]
    desk: Desk,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn perform(verb: &Verb, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let (args, what, lasts) = match verb {
        Verb::Kill(args) => (args, "kill", None),
        Verb::Stall { args, lasts } => (args, "stall", Some(format!("{}ms", lasts.as_millis()))),
        Verb::Release(args) => (args, "release", None),
    };
    let mut order = json!({ "actor": args.id, "do": what });
    if let Some(lasts) = lasts {
        order["for"] = Value::String(lasts);
    }
    let ordered = args.desk.post("/v1/drills", &order, surroundings)?;
    match args.output {
        Output::Json => writeln!(terminal.out, "{ordered:#}")?,
        Output::Text => {
            let id = ordered["actor"].as_str().unwrap_or_default();
            writeln!(
                terminal.out,
                "{what} ordered for {id}, life {}; `shoal actors why {id}` tells what came of it",
                ordered["incarnation"]
            )?;
        }
    }
    Ok(Exit::Ok)
}
