//! `shoal run`: from a file to a node that serves until a signal ends it.
//!
//! SIGHUP reads the files again, and so does a change of them. SIGTERM leaves as the file says: announce, wait, close,
//! finish within a bound. SIGINT does the same without the wait, since whoever presses ctrl-c sees no load balancer. A
//! second one of either ends at once.

use super::{Exit, Failure, Surroundings, Tally, Terminal, count, error, version::VERSION};
use crate::{
    cluster::part::Given,
    drain::Leaving,
    memory::Kept,
    reload::{Files, Reloaded},
    startup::{Running, start_given},
};
use ::cluster::store::Memory;
use ::config::{Gateway, Listener, Secret, TlsVersion, written};
use std::{
    fmt,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    time::Duration,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// How long what runs beside the requests may take to end.
const LAST_TASKS: Duration = Duration::from_secs(1);

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// What to serve; ./shoal.toml where absent.
    #[arg(short, long, value_name = "FILE", env = "SHOAL_CONFIG")]
    config: Option<PathBuf>,
    /// Where the node remembers, its `[node] state_dir`: what was served last is served again where the file is missing or has
    /// errors.
    #[arg(long, value_name = "FOLDER", env = "SHOAL_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// A token for a node that is not a member yet, as `shoal cluster token` prints it; comes before the one of the file.
    #[arg(long, value_name = "TOKEN", env = "SHOAL_JOIN_TOKEN", hide_env_values = true)]
    join_token: Option<String>,
    /// Let nodes claim who they are, without certificates. Only where the cluster is on loopback.
    #[arg(long)]
    insecure_dev: bool,
}

pub(super) fn run(args: Args, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let (files, gateway) = match from_files(&args, surroundings, terminal) {
        Ok(read) => read,
        Err(failure) => from_memory(&args, failure, surroundings, terminal)?,
    };
    if let Some(warning) = insecure(&args, &gateway) {
        writeln!(terminal.err, "warning: --insecure-dev: {warning}")?;
    }
    let given = Given { insecure_dev: args.insecure_dev, token: args.join_token.map(Secret::new) };
    serve(gateway, Some(files), given, surroundings, terminal)
}

/// What whoever starts a node without certificates should have read.
fn insecure(args: &Args, gateway: &Gateway) -> Option<&'static str> {
    args.insecure_dev.then_some(match &gateway.cluster {
        Some(cluster) if cluster.is_local() => "whoever reaches the peer port on this machine is believed, whoever it says it is",
        // The start refuses it, and says why.
        Some(_) => "it is for loopback alone",
        None => "there is no [cluster], so it changes nothing",
    })
}

fn from_files(args: &Args, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<(Files, Gateway), Failure> {
    let files = surroundings.files(&surroundings.file(args.config.as_ref())?);
    let loaded = files.load(&*surroundings.world);
    for problem in &loaded.problems {
        write!(terminal.err, "{problem}")?;
    }
    match loaded.gateway {
        Some(gateway) => Ok((files, gateway)),
        None => Err(Failure::problems(&loaded.problems)),
    }
}

/// The last configuration that was good, where a node is told where it remembers. Its files are watched all the same: once
/// they are good again, they are served.
fn from_memory(
    args: &Args,
    failure: Failure,
    surroundings: &Surroundings,
    terminal: &mut Terminal<'_>,
) -> Result<(Files, Gateway), Failure> {
    let Some(folder) = &args.state_dir else { return Err(failure) };
    let disk = surroundings.world.disk();
    let memory = Memory::beside(disk.clone(), Some(folder.as_path()));
    let kept = memory.ok().and_then(|memory| Kept::remembered(&memory));
    let Some(kept) = kept else {
        writeln!(terminal.err, "nothing that was good is remembered in {}", folder.display())?;
        return Err(failure);
    };
    let path = args.config.clone().unwrap_or_else(|| kept.main.clone());
    let loaded = kept.load(disk, surroundings.environment.clone());
    let Some(gateway) = loaded.gateway else {
        loaded.problems.iter().try_for_each(|problem| write!(terminal.err, "{problem}"))?;
        writeln!(terminal.err, "what is remembered in {} cannot be served either", folder.display())?;
        return Err(failure);
    };
    write!(terminal.err, "{failure}")?;
    writeln!(
        terminal.err,
        "serving what was good last ({}), from {}, until {} is good again",
        gateway.revision,
        folder.display(),
        path.display()
    )?;
    Ok((surroundings.files(&path), gateway))
}

/// Serves a gateway until a signal ends it. `files` are what it was read from, to be read again.
pub(super) fn serve(
    gateway: Gateway,
    files: Option<Files>,
    given: Given,
    surroundings: &Surroundings,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Failure> {
    let runtime = runtime(gateway.node.workers)?;
    let served = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let running = start_given(surroundings.world.clone(), gateway, given).await?;
        let source = files.as_ref().map(|files| files.path.display().to_string());
        write!(terminal.err, "{}", Banner::of(&running, source))?;
        let leaving = until_told(&running, files.as_ref(), &mut signals, terminal.err).await;
        leave(running, leaving, &mut signals, terminal.err).await
    });
    // What is stuck in a write to a blocked terminal must not keep the process.
    runtime.shutdown_timeout(LAST_TASKS);
    served
}

pub(super) fn runtime(workers: Option<usize>) -> Result<Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = workers {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().map_err(|error| no_signals(&error))
}

fn no_signals(error: &io::Error) -> Failure {
    Failure { exit: Exit::Failed, code: error::SIGNALS, message: format!("the process cannot be set up: {error}"), help: None }
}

/// The signals that a node obeys.
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on: what comes before anyone waits for it is kept.
    pub(super) fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| no_signals(&error));
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn leaving(&mut self) -> Leaving {
        tokio::select! {
            _ = self.terminate.recv() => Leaving::Politely,
            _ = self.interrupt.recv() => Leaving::AtOnce,
        }
    }
}

/// Reloads when asked to or when files change, and returns when told to leave.
async fn until_told(running: &Running, files: Option<&Files>, signals: &mut Signals, err: &mut (dyn Write + Send)) -> Leaving {
    let Some(files) = files else {
        return tokio::select! {
            leaving = signals.leaving() => leaving,
            leaving = running.told_to_leave() => leaving,
        };
    };
    // One question that is not answered yet stands for all that come meanwhile.
    let (ask, asked) = mpsc::channel(1);
    let path = files.path.display();
    let mut watch = pin!(files.watch(running, asked, |reloaded| {
        // Where standard error is gone, metrics still tell.
        let _ = tell(&reloaded, &path, &running.gateway().revision.0, err);
    }));
    loop {
        tokio::select! {
            () = &mut watch => unreachable!("files are watched for as long as the node runs"),
            _ = signals.hangup.recv() => {
                let _ = ask.try_send(());
            }
            _ = signals.terminate.recv() => return Leaving::Politely,
            _ = signals.interrupt.recv() => return Leaving::AtOnce,
            leaving = running.told_to_leave() => return leaving,
        }
    }
}

fn tell(reloaded: &Reloaded, path: &impl fmt::Display, serving: &str, err: &mut (dyn Write + Send)) -> io::Result<()> {
    match reloaded {
        Reloaded::Applied { revision, diff } => {
            let later = if diff.admin { "; [admin] takes effect at the next start" } else { "" };
            writeln!(err, "reloaded {path} ({revision}): {diff}{later}")
        }
        Reloaded::Rejected { problems, error } => {
            problems.iter().try_for_each(|problem| write!(err, "{problem}"))?;
            let why = error.clone().unwrap_or_else(|| Tally::of(problems).to_string());
            writeln!(err, "not reloaded: {why}; revision {serving} is served on")
        }
    }
}

async fn leave(running: Running, leaving: Leaving, signals: &mut Signals, err: &mut (dyn Write + Send)) -> Result<Exit, Failure> {
    let gateway = running.gateway();
    let bound = gateway.node.drain_bound;
    let wait = match leaving {
        Leaving::Politely => gateway.node.drain_wait,
        Leaving::AtOnce => Duration::ZERO,
    };
    let open = count(running.connections(), "connection");
    let first = if wait.is_zero() { String::new() } else { format!("accepting for {} more, then ", written(wait)) };
    let _ = writeln!(err, "leaving: {first}up to {} for what is in flight; {open} open", written(bound));
    tokio::select! {
        cut_off = running.drain(wait, bound) => {
            let _ = match cut_off {
                0 => writeln!(err, "left"),
                cut_off => writeln!(err, "left; {} had to be cut off", count(cut_off, "connection")),
            };
        }
        _ = signals.leaving() => {
            let _ = writeln!(err, "left at once");
        }
    }
    Ok(Exit::Ok)
}

/// What is said once everything is bound.
pub(super) struct Banner {
    source: Option<String>,
    revision: String,
    listeners: Vec<(String, String)>,
    admin: Option<String>,
    /// What it is called, and where other nodes come in.
    cluster: Option<String>,
    /// The token of admin, if it was made at the start.
    token: Option<String>,
    serves: String,
}

impl Banner {
    pub(super) fn of(running: &Running, source: Option<String>) -> Self {
        let gateway = running.gateway();
        let mut listeners = Vec::new();
        for (name, address) in running.addresses() {
            let listener = gateway.listeners.iter().find(|listener| listener.name == name);
            let speaks = listener.map(|listener| listening(address, listener)).unwrap_or_default();
            listeners.push((name.to_string(), speaks));
        }
        let admin = running.admin_address().map(|address| url(address, gateway.admin.tls.is_some()));
        let made = gateway.admin.token.is_none().then(|| running.admin_token().reveal().to_string());
        let limits = gateway.routes.iter().map(|route| route.limits.len()).sum();
        let serves = [count(gateway.routes.len(), "route"), count(gateway.services.len(), "service"), count(limits, "limit")];
        Self {
            source,
            revision: gateway.revision.to_string(),
            listeners,
            token: made.filter(|_| admin.is_some()),
            admin,
            cluster: running.cluster().map(|(name, advertised, _)| format!("{name}, reached by other nodes at {advertised}")),
            serves: serves.join(", "),
        }
    }
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.source.as_ref().map(|source| format!("{source} ")).unwrap_or_default();
        writeln!(f, "shoal {VERSION}  config {source}({})", self.revision)?;
        let names = self.listeners.iter().map(|(name, _)| name.chars().count());
        let width = names.chain(["admin".len(), "serves".len(), self.cluster.as_ref().map_or(0, |_| "cluster".len())]).max().unwrap_or(0);
        for (name, speaks) in &self.listeners {
            writeln!(f, "  {name:<width$}  {speaks}")?;
        }
        match &self.admin {
            Some(admin) => writeln!(f, "  {:<width$}  {admin}", "admin")?,
            None => writeln!(f, "  {:<width$}  off", "admin")?,
        }
        if let Some(token) = &self.token {
            writeln!(f, "  {:<width$}  token {token}, made for this run", "")?;
        }
        if let Some(cluster) = &self.cluster {
            writeln!(f, "  {:<width$}  {cluster}", "cluster")?;
        }
        writeln!(f, "  {:<width$}  {}", "serves", self.serves)
    }
}

fn url(address: SocketAddr, tls: bool) -> String {
    format!("{}://{address}", if tls { "https" } else { "http" })
}

/// Where a listener is, and what it speaks there.
fn listening(address: SocketAddr, listener: &Listener) -> String {
    let mut speaks = vec![url(address, listener.tls.is_some())];
    speaks.extend(listener.http1.then(|| "h1".to_string()));
    speaks.extend(listener.http2.then(|| "h2".to_string()));
    if let Some(tls) = &listener.tls {
        speaks.push(match tls.version_min {
            TlsVersion::Tls12 => "tls 1.2+".to_string(),
            TlsVersion::Tls13 => "tls 1.3".to_string(),
        });
    }
    if !listener.proxy_protocol.is_empty() {
        speaks.push("proxy protocol".to_string());
    }
    speaks.join("  ")
}

/// As [`listening`], for every address that a listener would have.
pub(super) fn listens(listener: &Listener) -> String {
    let all: Vec<_> = listener.bind.iter().map(|address| listening(*address, listener)).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::config::{Diff, Revision};

    #[test]
    fn whoever_starts_without_certificates_is_warned() {
        let table = [
            ("--insecure-dev", "[cluster]\nname = \"shop\"\nbind = \"127.0.0.1:7900\"\n", Some("believed")),
            ("--insecure-dev", "[cluster]\nname = \"shop\"\nbind = \"192.0.2.7:7900\"\n", Some("loopback")),
            ("--insecure-dev", "", Some("no [cluster]")),
            ("--config=x.toml", "[cluster]\nname = \"shop\"\nbind = \"127.0.0.1:7900\"\n", None),
        ];
        for (argument, text, expected) in table {
            #[derive(clap::Parser)]
            struct Command {
                #[command(flatten)]
                args: Args,
            }
            let args = <Command as clap::Parser>::try_parse_from(["run", argument]).expect("arguments that are understood").args;
            let text = format!(
                "[node]\nname = \"a\"\nregion = \"eu\"\nstate_dir = \"state\"\n[listen.main]\nbind = \"127.0.0.1:8080\"\n{text}[[route]]\nmatch = \"/\"\nrespond = {{ body = \"\" }}\n"
            );
            let gateway = ::config::load_text("x.toml".as_ref(), &text, &::config::OsSource::new([])).gateway.expect("a good file");
            let warning = insecure(&args, &gateway);
            assert!(warning.map_or(expected.is_none(), |said| expected.is_some_and(|part| said.contains(part))), "{text}: {warning:?}");
        }
    }

    #[test]
    fn a_banner_says_what_listens_where() {
        let mut banner = Banner {
            source: Some("shop.toml".into()),
            revision: "a1f3c9".into(),
            listeners: vec![
                ("main".into(), "http://0.0.0.0:8080  h1  h2".into()),
                ("secure-one".into(), "https://[::]:8443  h2  tls 1.3".into()),
            ],
            admin: Some("http://127.0.0.1:9901".into()),
            cluster: None,
            token: Some("4fe1".into()),
            serves: "3 routes, 1 service, 0 limits".into(),
        };
        let expected = "\
shoal VERSION  config shop.toml (a1f3c9)
  main        http://0.0.0.0:8080  h1  h2
  secure-one  https://[::]:8443  h2  tls 1.3
  admin       http://127.0.0.1:9901
              token 4fe1, made for this run
  serves      3 routes, 1 service, 0 limits
";
        assert_eq!(banner.to_string(), expected.replace("VERSION", VERSION));
        banner = Banner { source: None, listeners: Vec::new(), admin: None, cluster: None, token: None, ..banner };
        let expected = "shoal VERSION  config (a1f3c9)\n  admin   off\n  serves  3 routes, 1 service, 0 limits\n";
        assert_eq!(banner.to_string(), expected.replace("VERSION", VERSION));
    }

    #[test]
    fn a_reload_is_told_in_one_line() {
        let told = |reloaded: &Reloaded| {
            let mut err = Vec::new();
            tell(reloaded, &"shop.toml", "a1f3c9", &mut err).expect("a vector takes everything");
            String::from_utf8(err).expect("text")
        };
        let applied = Reloaded::Applied { revision: Revision("b2".into()), diff: Box::default() };
        assert_eq!(told(&applied), "reloaded shop.toml (b2): nothing\n");
        let applied = Reloaded::Applied { revision: Revision("b2".into()), diff: Box::new(Diff { admin: true, ..Diff::default() }) };
        assert_eq!(told(&applied), "reloaded shop.toml (b2): admin; [admin] takes effect at the next start\n");
        let error = Some("[listen.main]: 127.0.0.1:1 is taken".to_string());
        let rejected = Reloaded::Rejected { problems: Vec::new(), error };
        assert_eq!(told(&rejected), "not reloaded: [listen.main]: 127.0.0.1:1 is taken; revision a1f3c9 is served on\n");
        let rejected = Reloaded::Rejected { problems: Vec::new(), error: None };
        assert_eq!(told(&rejected), "not reloaded: 0 errors, 0 warnings; revision a1f3c9 is served on\n");
    }
}
