//! `shoal keyring`: the secrets that all nodes of a cluster share, looked at and replaced one by one.
//!
//! It works on what a node remembers, or on the file that `[cluster] secrets` names. It knows of this node alone: that a
//! step has been taken everywhere is for the operator to say.

use super::{
    Exit, Failure, Surroundings, Terminal,
    cluster::{Here, fresh, patiently},
    error,
};
use ::cluster::{
    keyring::{Key, KeyId, Keyring, KeyringError, Purpose, Step},
    store::Memory,
};
use std::path::{Path, PathBuf};

#[derive(clap::Subcommand, Debug)]
pub(super) enum Verb {
    /// Write the keyring of a new cluster into a file, for nodes whose certificates come from elsewhere.
    New {
        /// Must not be there yet.
        file: PathBuf,
    },
    /// Show which keys are held, and which of them is used.
    List {
        #[command(flatten)]
        at: At,
    },
    /// Hold another key without using it: the first step of three.
    Add {
        #[arg(value_enum)]
        purpose: Kind,
        #[command(flatten)]
        given: Given,
        #[command(flatten)]
        at: At,
    },
    /// Use a key that every node holds: the second step.
    Use {
        #[arg(value_enum)]
        purpose: Kind,
        /// As `list` shows it.
        id: String,
        #[command(flatten)]
        at: At,
    },
    /// Forget a key that no node uses: the third step.
    Remove {
        #[arg(value_enum)]
        purpose: Kind,
        /// As `list` shows it.
        id: String,
        #[command(flatten)]
        at: At,
    },
    /// Take the next of the three steps, whichever it is.
    Rotate {
        #[arg(value_enum)]
        purpose: Kind,
        /// Every node has taken the step before this one.
        #[arg(long)]
        everywhere: bool,
        #[command(flatten)]
        given: Given,
        #[command(flatten)]
        at: At,
    },
}

/// Which keyring is meant.
#[derive(clap::Args, Debug)]
pub(super) struct At {
    /// The configuration of this node; ./shoal.toml where absent.
    #[arg(short, long, value_name = "FILE", env = "SHOAL_CONFIG")]
    config: Option<PathBuf>,
    /// A keyring in a file, in place of what a node remembers.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
}

/// Where a key comes from and goes to.
#[derive(clap::Args, Debug)]
pub(super) struct Given {
    /// A file with the key, as `--write` made it on another node.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Write the key that is made into a file too, to carry it to the other nodes.
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    write: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum Kind {
    /// Keys the hashes of limits.
    Hash,
    /// Is mixed into the hashes of API keys.
    Pepper,
    /// Signs join tokens.
    Token,
}

impl From<Kind> for Purpose {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Hash => Self::Hash,
            Kind::Pepper => Self::Pepper,
            Kind::Token => Self::Token,
        }
    }
}

pub(super) fn perform(verb: Verb, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    match verb {
        Verb::New { file } => {
            let keyring = Keyring::new([fresh()?, fresh()?, fresh()?]);
            new_file(&file, keyring.reveal().reveal(), surroundings)?;
            writeln!(
                terminal.out,
                "{} is the keyring of a new cluster: give it to every node, as secrets = {{ file = … }} in [cluster]",
                file.display()
            )?;
        }
        Verb::List { at } => {
            let (_, keyring) = open(&at, surroundings, terminal)?;
            for purpose in Purpose::ALL {
                for id in keyring.ids(purpose) {
                    let used = if id == keyring.used_id(purpose) { "in use" } else { "held" };
                    writeln!(terminal.out, "{:<8}{id}  {used}", purpose.as_str())?;
                }
            }
        }
        Verb::Add { purpose, given, at } => {
            let (place, mut keyring) = open(&at, surroundings, terminal)?;
            add(purpose.into(), &given, &mut keyring, &place, surroundings, terminal)?;
        }
        Verb::Use { purpose, id, at } => {
            let (place, mut keyring) = open(&at, surroundings, terminal)?;
            let id = id.parse()?;
            keyring.use_key(purpose.into(), id)?;
            place.keep(&keyring, surroundings)?;
            used(purpose.into(), id, terminal)?;
        }
        Verb::Remove { purpose, id, at } => {
            let (place, mut keyring) = open(&at, surroundings, terminal)?;
            let id = id.parse()?;
            keyring.remove(purpose.into(), id)?;
            place.keep(&keyring, surroundings)?;
            writeln!(terminal.out, "{} key {id} is removed", Purpose::from(purpose))?;
        }
        Verb::Rotate { purpose, everywhere, given, at } => {
            let purpose = purpose.into();
            let (place, mut keyring) = open(&at, surroundings, terminal)?;
            // A key from elsewhere can only be meant to be added.
            let step = if given.key.is_some() { Step::Add } else { keyring.next_step(purpose, &[]) };
            match step {
                Step::Add => return add(purpose, &given, &mut keyring, &place, surroundings, terminal).map(|()| Exit::Ok),
                Step::Use(id) if everywhere => {
                    keyring.use_key(purpose, id)?;
                    place.keep(&keyring, surroundings)?;
                    used(purpose, id, terminal)?;
                }
                Step::Remove(id) if everywhere => {
                    keyring.remove(purpose, id)?;
                    place.keep(&keyring, surroundings)?;
                    writeln!(terminal.out, "{purpose} key {id} is removed")?;
                }
                Step::Use(id) => return Err(not_yet(format!("the next step is to use {purpose} key {id}"), "every node holds it")),
                Step::Remove(id) => {
                    return Err(not_yet(format!("the next step is to remove {purpose} key {id}"), "no node uses it any more"));
                }
                Step::Wait { .. } => unreachable!("nobody else is asked"),
            }
        }
    }
    Ok(Exit::Ok)
}

fn add(
    purpose: Purpose,
    given: &Given,
    keyring: &mut Keyring,
    place: &Place,
    surroundings: &Surroundings,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let key: Key = match &given.key {
        Some(file) => text(file, surroundings)?.parse()?,
        None => fresh()?,
    };
    let id = keyring.add(purpose, key.clone())?;
    if let Some(file) = &given.write {
        new_file(file, key.reveal().reveal(), surroundings)?;
    }
    place.keep(keyring, surroundings)?;
    writeln!(terminal.out, "{purpose} key {id} is held; once every node holds it: shoal keyring use {purpose} {id}")?;
    Ok(())
}

fn used(purpose: Purpose, id: KeyId, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    writeln!(terminal.out, "{purpose} key {id} is used; once every node uses it, the old one can be removed")?;
    Ok(())
}

/// Where a keyring is kept.
enum Place {
    Memory(Memory),
    File(PathBuf),
}

impl Place {
    fn keep(&self, keyring: &Keyring, surroundings: &Surroundings) -> Result<(), Failure> {
        match self {
            Self::Memory(memory) => patiently(|| memory.keep_keyring(keyring)),
            Self::File(file) => write(file, keyring.reveal().reveal(), surroundings),
        }
    }
}

fn open(at: &At, surroundings: &Surroundings, terminal: &mut Terminal<'_>) -> Result<(Place, Keyring), Failure> {
    if let Some(file) = &at.file {
        let keyring = text(file, surroundings)?.parse()?;
        return Ok((Place::File(file.clone()), keyring));
    }
    let here = Here::of(at.config.as_ref(), surroundings, terminal)?;
    let memory = here.memory(surroundings)?;
    let Some(keyring) = memory.keyring() else {
        let message = format!("the node in {} has no keyring", here.folder.display());
        return Err(Failure { help: Some("it gets one when it joins a cluster, or makes one".to_string()), ..refused(message) });
    };
    Ok((Place::Memory(memory), keyring))
}

fn text(file: &Path, surroundings: &Surroundings) -> Result<String, Failure> {
    let content = surroundings.world.disk().read(file);
    let content = content.map_err(|error| refused(format!("{} cannot be read: {error}", file.display())))?;
    String::from_utf8(content).map_err(|_| refused(format!("{} is not text", file.display())))
}

fn new_file(file: &Path, content: &str, surroundings: &Surroundings) -> Result<(), Failure> {
    if surroundings.world.disk().stamp(file).is_ok() {
        return Err(refused(format!("{} is there already", file.display())));
    }
    write(file, content, surroundings)
}

fn write(file: &Path, content: &str, surroundings: &Surroundings) -> Result<(), Failure> {
    let written = surroundings.world.disk().replace_secret(file, content.as_bytes());
    written.map_err(|error| refused(format!("{} cannot be written: {error}", file.display())))
}

fn refused(message: String) -> Failure {
    Failure { exit: Exit::Failed, code: error::KEYRING, message, help: None }
}

fn not_yet(message: String, once: &str) -> Failure {
    Failure { help: Some(format!("once {once}, say so with --everywhere")), ..refused(message) }
}

impl From<KeyringError> for Failure {
    fn from(error: KeyringError) -> Self {
        refused(error.to_string())
    }
}
