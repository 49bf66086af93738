//! What an operator wrote, checked; and the nouns that everyone speaks.
//!
//! A configuration file becomes a [`Gateway`] in three steps, each in a file of its own: `loader.rs` reads files
//! and their includes, `file.rs` says what may be written and reads it with the place of every value, `check.rs`
//! finds what is wrong between the parts. All problems are found at once, and a gateway exists only if there is
//! no error among them.
//!
//! Nothing here opens a socket, knows the time or waits. Only `loader.rs` opens files.

mod check;
mod diff;
mod document;
mod file;
mod gateway;
mod loader;
mod names;
mod pattern;
mod problem;
mod revision;
mod route;
mod secret;
mod units;

pub use diff::{Changes, Diff, diff};
pub use file::{manual::manual, schema::schema};
pub use gateway::*;
pub use loader::{Loaded, OsSource, Source, load, load_text};
pub use names::*;
pub use problem::{Place, Problem, Severity, explain_code};
pub use route::*;
pub use secret::*;
pub use units::*;
