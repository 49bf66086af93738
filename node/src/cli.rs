//! The command line: one file for each verb, and what all of them have in common.
//!
//! A verb writes what it was asked for to standard output and everything else to standard error, and ends with an
//! [`Exit`]. What it could not do is a `Failure`: a sentence, a code that `shoal error` explains, and the next step.

mod actors;
mod ask;
mod check;
mod cluster;
mod config;
mod demo;
mod drill;
mod error;
mod explain;
mod health;
mod keyring;
mod members;
mod proxy;
mod run;
mod upstreams;
mod version;

use crate::{StartError, world::RealWorld};
use ::cluster::World;
use ::config::{Problem, Severity};
use clap::{Parser, Subcommand, ValueEnum};
use std::{
    collections::HashMap,
    ffi::OsString,
    fmt,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

/// What is served where nothing else is named.
const FILE: &str = "shoal.toml";

#[derive(Parser, Debug)]
#[command(name = "shoal", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Serve in the foreground.
    Run(run::Args),
    /// Say everything that is wrong with a configuration, without serving it.
    #[command(visible_alias = "validate")]
    Check(check::Args),
    /// Show what may be written, or what is in effect.
    #[command(subcommand)]
    Config(config::Verb),
    /// What would become of a request, and why, without sending it.
    Explain(explain::Args),
    /// Look at the actors that look after a node's services, pools and limits.
    #[command(subcommand)]
    Actors(actors::Verb),
    /// Break an actor on purpose, where the node allows it.
    #[command(subcommand)]
    Drill(drill::Verb),
    /// Show the endpoints of every service, what is concluded of each, and why; or take one out of service.
    Upstreams(upstreams::Args),
    /// Show the nodes of the cluster, as one of them knows them.
    Members(members::Args),
    /// Have a node ask another one for the cluster.
    Join(members::Join),
    /// Have a node leave at once; what is in flight ends first.
    Leave(members::Leave),
    /// Have a node leave so that load balancers notice in time.
    Drain(members::Drain),
    /// Forget members that will not come back.
    ForceLeave(members::ForceLeave),
    /// Make a cluster, and let nodes into it.
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// Look at the secrets that the nodes of a cluster share, and replace them one by one.
    #[command(subcommand)]
    Keyring(keyring::Verb),
    /// Serve one target, without a file.
    Proxy(proxy::Args),
    /// Ask whether a node is ready; for probes.
    Health(health::Args),
    /// Try everything: services, a gateway and traffic in one process, offline.
    Demo(demo::Args),
    /// Say what an error code means.
    Error(error::Args),
    /// Which shoal this is.
    Version(version::Args),
}

/// How a verb ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    /// A configuration has errors.
    Errors = 3,
    /// A token was missing or wrong.
    Refused = 5,
    /// What was waited for did not come about in time.
    TimedOut = 7,
    /// The node that was asked does not answer.
    Unreachable = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

/// What a verb works with.
struct Surroundings {
    world: Arc<dyn World>,
    environment: Arc<HashMap<String, String>>,
    /// As the process was called, for commands that are to be copied.
    program: String,
}

/// Where a verb writes. The handles are not locked: the access log writes to standard output too.
struct Terminal<'a> {
    out: &'a mut (dyn Write + Send),
    err: &'a mut (dyn Write + Send),
}

/// Why a verb could not do what it was asked for.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    code: &'static str,
    /// Empty where nobody is left to be told.
    message: String,
    help: Option<String>,
}

/// Does what the arguments say, the first of which is the program's own name.
pub fn main(arguments: impl IntoIterator<Item = OsString>, environment: HashMap<String, String>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let program = arguments.first().map_or("shoal".to_string(), |program| program.to_string_lossy().into_owned());
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap as well, and go to standard output.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let surroundings = Surroundings { world: Arc::new(RealWorld::new()), environment: Arc::new(environment), program };
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut terminal = Terminal { out: &mut out, err: &mut err };
    match cli.verb.perform(&surroundings, &mut terminal) {
        Ok(exit) => exit,
        Err(failure) => {
            // Where standard error is gone too, the exit code has to say it.
            let _ = write!(err, "{failure}");
            failure.exit
        }
    }
}

impl Verb {
    fn perform(self, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
        match self {
            Self::Run(args) => run::run(args, surroundings, terminal),
            Self::Check(args) => check::check(&args, surroundings, terminal),
            Self::Config(verb) => config::perform(verb, surroundings, terminal),
            Self::Explain(args) => explain::explain(args, surroundings, terminal),
            Self::Actors(verb) => actors::perform(&verb, surroundings, terminal),
            Self::Drill(verb) => drill::perform(&verb, surroundings, terminal),
            Self::Upstreams(args) => upstreams::upstreams(&args, surroundings, terminal),
            Self::Members(args) => members::members(&args, surroundings, terminal),
            Self::Join(args) => members::join(&args, surroundings, terminal),
            Self::Leave(args) => members::leave(&args, surroundings, terminal),
            Self::Drain(args) => members::drain(&args, surroundings, terminal),
            Self::ForceLeave(args) => members::force_leave(&args, surroundings, terminal),
            Self::Cluster(verb) => cluster::perform(verb, surroundings, terminal),
            Self::Keyring(verb) => keyring::perform(verb, surroundings, terminal),
            Self::Proxy(args) => proxy::proxy(&args, surroundings, terminal),
            Self::Health(args) => health::health(&args, surroundings, terminal),
            Self::Demo(args) => demo::demo(&args, surroundings, terminal),
            Self::Error(args) => error::error(&args, terminal),
            Self::Version(args) => version::version(&args, terminal),
        }
    }
}

impl Surroundings {
    /// The file that is meant: the one that is named, or the one that lies here.
    fn file(&self, named: Option<&PathBuf>) -> Result<PathBuf, Failure> {
        match named {
            Some(path) => Ok(path.clone()),
            None if self.world.disk().stamp(Path::new(FILE)).is_ok() => Ok(FILE.into()),
            None => Err(Failure {
                exit: Exit::Failed,
                code: error::NO_FILE,
                message: format!("there is no {FILE} here"),
                help: Some("name a file, or try `shoal demo`".to_string()),
            }),
        }
    }

    /// Reads a configuration and everything that it names.
    fn load(&self, path: &Path) -> ::config::Loaded {
        self.files(path).load(&*self.world)
    }

    fn files(&self, path: &Path) -> crate::reload::Files {
        crate::reload::Files { path: path.to_path_buf(), environment: self.environment.clone() }
    }
}

impl Failure {
    /// The problems themselves have been shown.
    fn problems(problems: &[Problem]) -> Self {
        let message = format!("the configuration cannot be served: {}", Tally::of(problems));
        Self { exit: Exit::Errors, code: error::PROBLEMS, message, help: None }
    }

    fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, code: error::USAGE, message: message.into(), help: Some(help.into()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            return Ok(());
        }
        writeln!(f, "shoal: {} {}", self.code, self.message)?;
        let help = self.help.as_deref().map(|help| format!("{help}.  ")).unwrap_or_default();
        writeln!(f, "   help: {help}shoal error {}", self.code)
    }
}

impl From<io::Error> for Failure {
    /// Only writing to the terminal is done without naming what it was for.
    fn from(error: io::Error) -> Self {
        // Whoever reads only the first lines, as `head` does, wants to hear no complaint about the others.
        let gone = error.kind() == io::ErrorKind::BrokenPipe;
        let message = if gone { String::new() } else { format!("the output cannot be written: {error}") };
        Self { exit: Exit::Failed, code: error::OUTPUT, message, help: None }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let code = match &error {
            StartError::Bind { .. } | StartError::Held { .. } => error::BIND,
            StartError::Tls { .. } => error::TLS,
            StartError::Cluster(_) => error::CLUSTER,
            StartError::Memory(_) => error::MEMORY,
        };
        Self { exit: Exit::Failed, code, message: error.to_string(), help: None }
    }
}

/// How many problems there are of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Tally {
    errors: usize,
    warnings: usize,
}

impl Tally {
    fn of(problems: &[Problem]) -> Self {
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        Self { errors, warnings: problems.len() - errors }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", count(self.errors, "error"), count(self.warnings, "warning"))
    }
}

/// `1 route`, `2 routes`.
fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// A duration of the command line, written as in a file.
fn duration(text: &str) -> Result<Duration, String> {
    ::config::parse_duration(text).map_err(|error| error.to_string())
}

/// Runs a verb that has one thing to wait for.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}

#[cfg(test)]
mod tests;
