//! `shoal cluster`: makes the authorities and secrets of a cluster, and the tokens that let nodes in.
//!
//! Both work on the folder in which a node remembers, whether or not the node runs.

use super::{Exit, Failure, Surroundings, Terminal, block_on, duration, error};
use crate::cluster::{
    authority::{AuthorityError, NODE_LIFE, Root},
    enrol::{Desk, EnrolRefusal},
};
use ::cluster::{
    keyring::{Key, Keyring},
    store::{Memory, Signer, StoreError},
    token::Role,
};
use ::config::{Cluster, Gateway, is_dns_label, written};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// In `[node] state_dir`, where the operator does not say otherwise. The certificate lies beside it and ends in `.pem`.
const ROOT_KEY: &str = "cluster-root.key";

/// Shorter ones would be renewed all the time.
const LIFE_MIN: Duration = Duration::from_secs(10);

/// A token that is good for less is over before it is where it is used.
const EXPIRES_MIN: Duration = Duration::from_secs(1);

/// A node that runs writes what it remembers within moments.
const TRIES: u32 = 50;
const TRY_AGAIN: Duration = Duration::from_millis(100);

#[derive(clap::Subcommand, Debug)]
pub(super) enum Verb {
    /// Make a cluster with this node as its first; or, with the root key of one, the authority of another region.
    Init(Init),
    /// Print a token that lets nodes in, for a short while.
    Token(Token),
}

#[derive(clap::Args, Debug)]
pub(super) struct Init {
    /// The configuration of this node; ./shoal.toml where absent.
    #[arg(short, long, value_name = "FILE", env = "SHOAL_CONFIG")]
    config: Option<PathBuf>,
    /// Make the authority of this region, in a cluster that there is.
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Where the root key is; beside what the node remembers where absent. The certificate is looked for beside it.
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
    /// How long the certificates of nodes are good for; they renew themselves after two thirds of it.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    certificate_life: Option<Duration>,
    /// Replace the authority that there is for the region. Certificates that it has signed stay good.
    #[arg(long, requires = "region")]
    replace: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct Token {
    /// The configuration of this node; ./shoal.toml where absent.
    #[arg(short, long, value_name = "FILE", env = "SHOAL_CONFIG")]
    config: Option<PathBuf>,
    /// The region of the nodes that it lets in; that of this node where absent.
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// How long it lets nodes in.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    expires: Duration,
    /// Nodes that come in with it get the authority of their region, and let in others.
    #[arg(long)]
    signer: bool,
}

pub(super) fn perform(verb: Verb, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    match verb {
        Verb::Init(args) => init(args, surroundings, terminal),
        Verb::Token(args) => token(args, surroundings, terminal),
    }
}

fn init(args: Init, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let here = Here::of(args.config.as_ref(), surroundings, terminal)?;
    let life = args.certificate_life.unwrap_or(NODE_LIFE);
    if life < LIFE_MIN {
        return Err(Failure::usage(
            format!("certificates that are good for {} would never rest", written(life)),
            format!("give them at least {}", written(LIFE_MIN)),
        ));
    }
    let key_file = args.root_key.clone().unwrap_or_else(|| here.folder.join(ROOT_KEY));
    match &args.region {
        None => make(&here, &key_file, life, surroundings, terminal),
        Some(region) => extend(&here, region, &key_file, life, args.replace, surroundings, terminal),
    }
}

/// Makes everything that a cluster begins with.
fn make(here: &Here, key_file: &Path, life: Duration, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let (world, disk) = (&surroundings.world, surroundings.world.disk());
    let certificate_file = key_file.with_extension("pem");
    for file in [key_file, &certificate_file] {
        if disk.stamp(file).is_ok() {
            return Err(exists(format!("{} is there already", file.display())));
        }
    }
    let memory = here.memory(surroundings)?;
    if memory.credentials().is_some() || memory.keyring().is_some() || !memory.signers().is_empty() {
        return Err(exists(format!("the node in {} is in a cluster already", here.folder.display())));
    }

    let (gateway, cluster) = (&here.gateway, here.cluster());
    let (node, region, wall) = (&gateway.node.name, &gateway.node.region, world.wall());
    let root = Root::make(&cluster.name, wall)?;
    let signer = root.authority(&cluster.name, region, life, wall)?;
    let credentials = crate::cluster::authority::Authority::open(&cluster.name, &signer)?.first(node, wall)?;
    let keyring = Keyring::new([fresh()?, fresh()?, fresh()?]);

    let unwritable = |file: &Path, error: std::io::Error| memory_failure(format!("{} cannot be written: {error}", file.display()));
    // The key first: a cluster whose root is lost can have no other region.
    disk.replace_secret(key_file, root.reveal_key().reveal().as_bytes()).map_err(|error| unwritable(key_file, error))?;
    disk.replace(&certificate_file, root.pem().as_bytes()).map_err(|error| unwritable(&certificate_file, error))?;
    patiently(|| memory.keep_keyring(&keyring))?;
    patiently(|| memory.keep_signer(&signer))?;
    patiently(|| memory.keep_credentials(&credentials))?;

    let (program, file) = (&surroundings.program, here.file.display());
    writeln!(
        terminal.out,
        "made cluster `{}` (authority {}), with node `{node}` in region `{region}` as its first\n  \
         remembered in     {}\n  root certificate  {}\n  root key          {}\n  certificates      good for {}, renewed by themselves\n\n\
         next:\n  \
         1. keep the root key offline: it is needed for new regions alone (`{program} cluster init --region`),\n     \
         and whoever has it can be any node\n  \
         2. {program} run -c {file}\n  \
         3. {program} cluster token -c {file}   prints what the next node is started with",
        cluster.name,
        root.hash(),
        here.folder.display(),
        certificate_file.display(),
        key_file.display(),
        written(life),
    )?;
    Ok(Exit::Ok)
}

/// Makes the authority of another region.
fn extend(
    here: &Here,
    region: &str,
    key_file: &Path,
    life: Duration,
    replace: bool,
    surroundings: &Surroundings,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Failure> {
    label(region)?;
    let disk = surroundings.world.disk();
    let read = |file: &Path| -> Result<String, Failure> {
        let content = disk.read(file).map_err(|error| Failure {
            exit: Exit::Failed,
            code: error::AUTHORITY,
            message: format!("{} cannot be read: {error}", file.display()),
            help: Some("the root key of the cluster is needed; name it with --root-key".to_string()),
        })?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    };
    let root = Root::read(&read(&key_file.with_extension("pem"))?, &read(key_file)?)?;
    let memory = here.memory(surroundings)?;
    if memory.signer(region).is_some() && !replace {
        return Err(exists(format!("this node has the authority of region `{region}` already; --replace makes it anew")));
    }
    let name = &here.cluster().name;
    if let Some(own) = memory.signers().first() {
        let ours = crate::cluster::authority::Authority::open(name, own)?.hash();
        if ours != root.hash() {
            return Err(authority_failure(format!("the root key is of authority {}, and this node is of {ours}", root.hash())));
        }
    }
    let signer: Signer = root.authority(name, region, life, surroundings.world.wall())?;
    patiently(|| memory.keep_signer(&signer))?;
    let (program, file) = (&surroundings.program, here.file.display());
    writeln!(
        terminal.out,
        "made the authority of region `{region}` in cluster `{name}`; this node lets nodes of that region in\n\nnext:\n  \
         {program} cluster token -c {file} --region {region} --signer   prints what the first node there is started with,\n  \
         which then lets in the others by itself"
    )?;
    Ok(Exit::Ok)
}

fn token(args: Token, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let here = Here::of(args.config.as_ref(), surroundings, terminal)?;
    let region = args.region.unwrap_or_else(|| here.gateway.node.region.to_string());
    label(&region)?;
    if args.expires < EXPIRES_MIN {
        return Err(Failure::usage(
            format!("a token that is good for {} lets nobody in", written(args.expires)),
            format!("give it at least {}", written(EXPIRES_MIN)),
        ));
    }
    let memory = Arc::new(here.memory(surroundings)?);
    if memory.keyring().is_none() {
        return Err(Failure {
            exit: Exit::Failed,
            code: error::NO_CLUSTER,
            message: format!("the node of {} is in no cluster yet", here.file.display()),
            help: Some(
                "`shoal cluster init` makes one with it as the first; into one that there is, a token of its members lets it in".into(),
            ),
        });
    }
    let has_signer = memory.signer(&region).is_some();
    let world = &surroundings.world;
    let role = if args.signer { Role::Signer } else { Role::Member };
    let desk = Desk::new(here.cluster().name.clone(), memory);
    let token = desk.token(&region, role, world.wall() + args.expires, world.chance())?;
    writeln!(terminal.out, "{}", token.reveal().reveal())?;
    let may = if args.signer { "nodes, which let in others," } else { "nodes" };
    writeln!(terminal.err, "lets {may} into region `{region}` for {}", written(args.expires))?;
    if !has_signer {
        writeln!(terminal.err, "this node cannot let nodes of that region in itself: one that can has to be up")?;
    }
    Ok(Exit::Ok)
}

/// The node whose configuration is named.
pub(super) struct Here {
    pub(super) file: PathBuf,
    pub(super) gateway: Gateway,
    pub(super) folder: PathBuf,
}

impl Here {
    pub(super) fn of(named: Option<&PathBuf>, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Self, Failure> {
        let file = surroundings.file(named)?;
        let loaded = surroundings.load(&file);
        for problem in loaded.problems.iter().filter(|problem| problem.is_error()) {
            write!(terminal.err, "{problem}")?;
        }
        let Some(gateway) = loaded.gateway else { return Err(Failure::problems(&loaded.problems)) };
        let lacks = |message: &str, help: &str| Failure {
            exit: Exit::Failed,
            code: error::NO_CLUSTER,
            message: format!("{}: {message}", file.display()),
            help: Some(help.to_string()),
        };
        match &gateway.cluster {
            None => return Err(lacks("there is no [cluster]", "add [cluster] with name = \"shop\" and bind = \"192.0.2.7:7900\"")),
            Some(cluster) if cluster.tls.is_some() => {
                return Err(lacks("its certificates come from elsewhere", "take `tls` away where the cluster is to make its own"));
            }
            Some(_) => {}
        }
        let folder = gateway.node.state_dir.clone();
        let folder = folder.ok_or_else(|| lacks("the node remembers nothing", "add state_dir = \"/var/lib/shoal\" to [node]"))?;
        Ok(Self { file, gateway, folder })
    }

    fn cluster(&self) -> &Cluster {
        self.gateway.cluster.as_ref().expect("what has no cluster is not here")
    }

    pub(super) fn memory(&self, surroundings: &Surroundings) -> Result<Memory, Failure> {
        patiently(|| Memory::beside(surroundings.world.disk(), Some(&self.folder)))
    }
}

/// Tries again as long as a node that runs has the file open.
pub(super) fn patiently<T>(act: impl Fn() -> Result<T, StoreError>) -> Result<T, Failure> {
    let tried = block_on(async {
        for _ in 1..TRIES {
            match act() {
                Err(StoreError::InUse { .. }) => tokio::time::sleep(TRY_AGAIN).await,
                done => return done,
            }
        }
        act()
    })?;
    tried.map_err(|error| memory_failure(error.to_string()))
}

/// Two hundred and fifty-six bits from the operating system.
pub(super) fn fresh() -> Result<Key, Failure> {
    let mut bits = [0; 32];
    let source = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    source.fill(&mut bits).map_err(|_| authority_failure("the operating system gives no random bits".to_string()))?;
    Ok(Key::new(bits))
}

fn label(region: &str) -> Result<(), Failure> {
    if is_dns_label(region) {
        return Ok(());
    }
    Err(Failure::usage(format!("`{region}` cannot be a region"), "write up to 63 lower-case letters, digits and `-`"))
}

fn exists(message: String) -> Failure {
    Failure { exit: Exit::Failed, code: error::CLUSTER_EXISTS, message, help: None }
}

fn memory_failure(message: String) -> Failure {
    Failure { exit: Exit::Failed, code: error::MEMORY, message, help: None }
}

fn authority_failure(message: String) -> Failure {
    Failure { exit: Exit::Failed, code: error::AUTHORITY, message, help: None }
}

impl From<AuthorityError> for Failure {
    fn from(error: AuthorityError) -> Self {
        authority_failure(error.to_string())
    }
}

impl From<EnrolRefusal> for Failure {
    fn from(refusal: EnrolRefusal) -> Self {
        let help = match refusal {
            EnrolRefusal::NoKeyring => Some("the node has to be in the cluster: `shoal cluster init` makes one".to_string()),
            EnrolRefusal::NoSigner { .. } => Some("ask a node that joined with a token of --signer, or the first one".to_string()),
            _ => None,
        };
        Self { help, ..authority_failure(refusal.to_string()) }
    }
}

#[cfg(test)]
mod tests;
