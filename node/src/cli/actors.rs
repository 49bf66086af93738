//! `shoal actors`: the tree of actors, who has most to do, what one of them knows, and the story of its lives.

mod text;

pub(super) use text::span;

use super::{
    Exit, Failure, Output, Surroundings, Terminal,
    ask::{Desk, encoded},
};
use serde_json::{Value, json};

/// The most that one answer holds.
const PAGE: usize = 500;

#[derive(clap::Subcommand, Debug)]
pub(super) enum Verb {
    /// Draw the tree: what each actor is doing, how often it was started again, and how much waits for it.
    Tree {
        #[command(flatten)]
        args: Args,
        /// This actor and those below it.
        #[arg(long, value_name = "ID")]
        under: Option<String>,
        /// Steps below the root, or below --under.
        #[arg(long)]
        depth: Option<usize>,
    },
    /// Those with the fullest mailboxes and the longest work first.
    Top {
        #[command(flatten)]
        args: Args,
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20)]
        count: usize,
    },
    /// Ask one actor for the state inside it.
    Inspect(One),
    /// Tell why an actor was started again, life by life.
    Why(One),
}

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    desk: Desk,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(clap::Args, Debug)]
pub(super) struct One {
    /// Its id, as `shoal actors tree` shows it; `root/` in front may be left out.
    id: String,
    #[command(flatten)]
    args: Args,
}

pub(super) fn perform(verb: &Verb, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    match verb {
        Verb::Tree { args, under, depth } => {
            let under = under.as_deref().map(|under| format!("&under={}", encoded(under))).unwrap_or_default();
            let depth = depth.map(|depth| format!("&depth={depth}")).unwrap_or_default();
            let actors = args.desk.list(&format!("/v1/actors?limit={PAGE}{under}{depth}"), surroundings)?;
            args.show(json!(actors), terminal, |_| text::tree(&actors))
        }
        Verb::Top { args, count } => {
            let mut actors = args.desk.list(&format!("/v1/actors?limit={PAGE}"), surroundings)?;
            // A stable sort: those with equally much to do stay in the order of the tree.
            actors.sort_by_key(|actor| std::cmp::Reverse((actor["mailbox"]["depth"].as_u64(), actor["busy"]["for_ms"].as_u64())));
            actors.truncate(*count);
            args.show(json!(actors), terminal, |_| text::table(&actors))
        }
        Verb::Inspect(One { id, args }) => {
            let actor = args.desk.get(&format!("/v1/actors/{}", encoded(id)), surroundings)?;
            args.show(actor, terminal, text::actor)
        }
        Verb::Why(One { id, args }) => {
            let history = args.desk.get(&format!("/v1/actors/{}/history", encoded(id)), surroundings)?;
            args.show(history, terminal, text::story)
        }
    }
}

impl Args {
    fn show(&self, answer: Value, terminal: &mut Terminal<'_>, told: impl FnOnce(&Value) -> String) -> Result<Exit, Failure> {
        match self.output {
            Output::Json => writeln!(terminal.out, "{answer:#}")?,
            Output::Text => write!(terminal.out, "{}", told(&answer))?,
        }
        Ok(Exit::Ok)
    }
}
