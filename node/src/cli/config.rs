//! `shoal config`: the language of the files, and what a file comes to once everything that it leaves out is filled in.

use super::{Exit, Failure, Surroundings, Terminal};
use std::path::PathBuf;

#[derive(clap::Subcommand, Debug)]
pub(super) enum Verb {
    /// Print a JSON Schema, for editors that complete and check.
    Schema,
    /// Print the configuration in effect as JSON, with the place of every part and without secrets.
    Show {
        /// ./shoal.toml where absent.
        file: Option<PathBuf>,
    },
}

pub(super) fn perform(verb: Verb, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let shown = match verb {
        Verb::Schema => ::config::schema(),
        Verb::Show { file } => {
            let loaded = surroundings.load(&surroundings.file(file.as_ref())?);
            for problem in &loaded.problems {
                write!(terminal.err, "{problem}")?;
            }
            let Some(gateway) = loaded.gateway else { return Err(Failure::problems(&loaded.problems)) };
            gateway.describe()
        }
    };
    writeln!(terminal.out, "{shown:#}")?;
    Ok(Exit::Ok)
}
