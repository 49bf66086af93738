//! What a node remembers over a restart: who it is, whom it knew, and what it served last.
//!
//! Everything is small, so all of it is in memory and the file is only written through: it is open for as long as one write
//! takes, and `shoal cluster token` can look into it beside a node that runs. Reading never changes the file.
//!
//! A node never stops for the sake of its memory. If the file cannot be read, the node begins with an empty one; if it
//! cannot be written, the node goes on with what it knows and tries again with the next write; [`Memory::trouble`] says
//! which. A file that is damaged is left as it is, for whoever may want to save something from it. A record that is damaged
//! within a sound file is lost alone.

mod records;
mod redb;
mod remembered;

pub use records::{Credentials, Signer};
pub use remembered::{PEERS_MAX, Remembered, keep};

use crate::{Disk, DiskFile, keyring::Keyring};
use aws_lc_rs::digest;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

/// The file in `[node] state_dir`.
pub const FILE: &str = "node.redb";

/// Is held for as long as a node runs: two that remember in one place would take each other's name.
const LOCK: &str = "node.lock";

/// Records that outlive the process. Every call may block.
pub trait Store: Send + Sync + 'static {
    /// Everything there is; nothing is written by it.
    fn read(&self) -> Result<Records, StoreError>;

    /// Writes all of the changes or none; `None` takes a record away.
    fn write(&self, changes: &[(&str, Option<&[u8]>)]) -> Result<(), StoreError>;
}

pub type Records = BTreeMap<String, Vec<u8>>;

/// Why something is not remembered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// The configuration gives no `state_dir`.
    Nowhere,
    /// Another process has the file open.
    InUse {
        file: PathBuf,
    },
    Full {
        file: PathBuf,
    },
    /// By its permissions or by how the disk is mounted.
    NotWritable {
        file: PathBuf,
    },
    /// It is no store any more, or a part of it is missing.
    Damaged {
        file: PathBuf,
    },
    /// It was written by a shoal whose format this one does not know.
    OtherVersion {
        file: PathBuf,
    },
    Disk {
        file: PathBuf,
        error: Arc<str>,
    },
}

/// A node's memory. Calls that change it write to the disk, and so belong into [`crate::World::offload`]; the change counts
/// from then on, whether or not it could be written.
pub struct Memory {
    store: Option<Box<dyn Store>>,
    inner: Mutex<Inner>,
    _lock: Option<Box<dyn DiskFile>>,
}

#[derive(Default)]
struct Inner {
    records: Records,
    /// What is not on the disk yet.
    unwritten: BTreeSet<String>,
    /// Records that were there and made no sense.
    damaged: Vec<String>,
    trouble: Option<StoreError>,
}

const GENERATION: &str = "generation";
const PEERS: &str = "peers";
const CREDENTIALS: &str = "credentials";
const KEYRING: &str = "keyring";
const CONFIGURATION: &str = "configuration";
const SIGNER: &str = "signer/";

impl Memory {
    /// Opens the memory of a node that is about to run. Only another node in the same folder is a reason not to.
    pub fn open(disk: Arc<dyn Disk>, folder: Option<&Path>) -> Result<Self, StoreError> {
        let Some(folder) = folder else { return Ok(Self::without(None, StoreError::Nowhere)) };
        let lock = match disk.open(&folder.join(LOCK)) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(StoreError::InUse { file: folder.join(LOCK) }),
            // Whatever keeps the lock from being made keeps the memory from being written, which is told below.
            Err(_) => None,
        };
        let store = redb::RedbFile::new(disk, folder.join(FILE));
        let mut memory = Self::over(Box::new(store));
        memory._lock = lock;
        Ok(memory)
    }

    /// Looks into the memory of a node that may run, and may change it. Here, trouble is a reason to stop.
    pub fn beside(disk: Arc<dyn Disk>, folder: Option<&Path>) -> Result<Self, StoreError> {
        let folder = folder.ok_or(StoreError::Nowhere)?;
        let memory = Self::over(Box::new(redb::RedbFile::new(disk, folder.join(FILE))));
        match memory.trouble() {
            Some(trouble) => Err(trouble),
            None => Ok(memory),
        }
    }

    /// Begins with what a store holds.
    pub fn over(store: Box<dyn Store>) -> Self {
        match store.read() {
            Ok(stored) => {
                let mut inner = Inner::default();
                for (name, sealed) in stored {
                    match unseal(&name, &sealed) {
                        Some(content) => _ = inner.records.insert(name, content.to_vec()),
                        None => inner.damaged.push(name),
                    }
                }
                Self { store: Some(store), inner: Mutex::new(inner), _lock: None }
            }
            // Writing into what could not be read would destroy what may still be saved.
            Err(trouble @ (StoreError::Damaged { .. } | StoreError::OtherVersion { .. })) => Self::without(None, trouble),
            Err(trouble) => Self::without(Some(store), trouble),
        }
    }

    fn without(store: Option<Box<dyn Store>>, trouble: StoreError) -> Self {
        Self { store, inner: Mutex::new(Inner { trouble: Some(trouble), ..Inner::default() }), _lock: None }
    }

    /// Why what is known would be lost if the node ended now.
    pub fn trouble(&self) -> Option<StoreError> {
        self.inner().trouble.clone()
    }

    /// Records that were on the disk and could not be understood.
    pub fn damaged(&self) -> Vec<String> {
        self.inner().damaged.clone()
    }

    /// Begins a new life and returns its number: larger than that of every life before, as far as is known, and than most that were
    /// forgotten.
    pub fn begin(&self, wall: SystemTime) -> u64 {
        let stored = self.read(GENERATION, |bytes| bytes.try_into().ok().map(u64::from_le_bytes));
        let generation = generation(stored, wall);
        let _ = self.write(GENERATION, generation.to_le_bytes().to_vec());
        generation
    }

    /// The peers that were known, for a node that finds nobody else.
    pub fn peers(&self) -> Vec<Remembered> {
        self.read(PEERS, |bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default()
    }

    /// Remembers these and as many of the others as there is room for.
    pub fn remember(&self, peers: Vec<Remembered>) -> Result<(), StoreError> {
        let kept = keep(self.peers(), peers);
        self.write(PEERS, serde_json::to_vec(&kept).expect("names and addresses are JSON"))
    }

    /// Forgets a peer that will not come back.
    pub fn forget(&self, gone: impl Fn(&Remembered) -> bool) -> Result<(), StoreError> {
        let mut peers = self.peers();
        peers.retain(|peer| !gone(peer));
        self.write(PEERS, serde_json::to_vec(&peers).expect("names and addresses are JSON"))
    }

    /// The certificate that the node shows, and its key.
    pub fn credentials(&self) -> Option<Credentials> {
        self.read(CREDENTIALS, Credentials::read)
    }

    pub fn keep_credentials(&self, credentials: &Credentials) -> Result<(), StoreError> {
        self.write(CREDENTIALS, credentials.written())
    }

    pub fn keyring(&self) -> Option<Keyring> {
        self.read(KEYRING, |bytes| std::str::from_utf8(bytes).ok()?.parse().ok())
    }

    pub fn keep_keyring(&self, keyring: &Keyring) -> Result<(), StoreError> {
        self.write(KEYRING, keyring.reveal().reveal().as_bytes().to_vec())
    }

    /// The authorities of regions that this node may sign for, by their region.
    pub fn signers(&self) -> Vec<Signer> {
        self.inner()
            .records
            .range(SIGNER.to_string()..)
            .filter_map(|(name, bytes)| Signer::read(name.strip_prefix(SIGNER)?, bytes))
            .collect()
    }

    pub fn signer(&self, region: &str) -> Option<Signer> {
        self.read(&format!("{SIGNER}{region}"), |bytes| Signer::read(region, bytes))
    }

    pub fn keep_signer(&self, signer: &Signer) -> Result<(), StoreError> {
        self.write(&format!("{SIGNER}{}", signer.region), signer.written())
    }

    /// The configuration that was served last, as it was written by whoever keeps it.
    pub fn configuration(&self) -> Option<Vec<u8>> {
        self.read(CONFIGURATION, |bytes| Some(bytes.to_vec()))
    }

    pub fn keep_configuration(&self, configuration: &[u8]) -> Result<(), StoreError> {
        self.write(CONFIGURATION, configuration.to_vec())
    }

    /// Takes over what somebody else has changed on the disk, such as a key that an operator has added.
    pub fn look_again(&self) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Err(self.trouble().unwrap_or(StoreError::Nowhere)) };
        let mut inner = self.inner();
        for (name, sealed) in store.read()? {
            if let Some(content) = unseal(&name, &sealed).filter(|_| !inner.unwritten.contains(&name)) {
                inner.records.insert(name, content.to_vec());
            }
        }
        Ok(())
    }

    /// Writes what could not be written before. Nothing to do is no trouble.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.store_unwritten(&mut self.inner())
    }

    fn read<T>(&self, name: &str, understand: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let mut inner = self.inner();
        let bytes = inner.records.get(name)?;
        let understood = understand(bytes);
        if understood.is_none() && !inner.damaged.iter().any(|damaged| damaged == name) {
            inner.damaged.push(name.to_string());
        }
        understood
    }

    fn write(&self, name: &str, content: Vec<u8>) -> Result<(), StoreError> {
        let mut inner = self.inner();
        if inner.records.get(name) != Some(&content) {
            inner.records.insert(name.to_string(), content);
            inner.unwritten.insert(name.to_string());
        }
        self.store_unwritten(&mut inner)
    }

    fn store_unwritten(&self, inner: &mut Inner) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Err(inner.trouble.clone().unwrap_or(StoreError::Nowhere)) };
        if inner.unwritten.is_empty() {
            return Ok(());
        }
        let sealed: Vec<(&String, Vec<u8>)> = inner.unwritten.iter().map(|name| (name, seal(name, &inner.records[name]))).collect();
        let changes: Vec<(&str, Option<&[u8]>)> = sealed.iter().map(|(name, bytes)| (name.as_str(), Some(bytes.as_slice()))).collect();
        let written = store.write(&changes);
        inner.trouble = written.clone().err();
        if written.is_ok() {
            inner.unwritten.clear();
        }
        written
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of a node's next life: a clock that was set back does not repeat one, a lost disk hardly ever.
pub fn generation(stored: Option<u64>, wall: SystemTime) -> u64 {
    let now = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let now = u64::try_from(now).unwrap_or(u64::MAX);
    stored.map_or(now, |stored| now.max(stored.saturating_add(1)))
}

const SEAL: usize = 8;

/// A record as it lies on the disk: the first bytes of a hash over its name and content, and the content.
fn seal(name: &str, content: &[u8]) -> Vec<u8> {
    [&hash(name, content)[..], content].concat()
}

fn unseal<'a>(name: &str, sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (seal, content) = sealed.split_first_chunk::<SEAL>()?;
    (*seal == hash(name, content)).then_some(content)
}

fn hash(name: &str, content: &[u8]) -> [u8; SEAL] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(name.as_bytes());
    context.update(&[0]);
    context.update(content);
    *context.finish().as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}

impl StoreError {
    fn io(file: &Path, error: &io::Error) -> Self {
        let file = file.to_owned();
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::InUse { file },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { file },
            // What a file that was opened for reading alone says to a write.
            _ if error.raw_os_error() == Some(EBADF) => Self::NotWritable { file },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::NotWritable { file },
            io::ErrorKind::UnexpectedEof => Self::Damaged { file },
            _ => Self::Disk { file, error: error.to_string().into() },
        }
    }
}

const EBADF: i32 = 9;

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("nothing is remembered: there is no `state_dir` in [node]"),
            Self::InUse { file } => write!(f, "{} is in use by another process; every node needs a folder of its own", file.display()),
            Self::Full { file } => write!(f, "{} cannot be written: the disk is full", file.display()),
            Self::NotWritable { file } => write!(f, "{} cannot be written: not permitted", file.display()),
            Self::Damaged { file } => {
                write!(f, "{} is damaged, and left as it is; move it away, and the node joins anew with a token", file.display())
            }
            Self::OtherVersion { file } => write!(f, "{} was written by another version of shoal", file.display()),
            Self::Disk { file, error } => write!(f, "{}: {error}", file.display()),
        }
    }
}

impl std::error::Error for StoreError {}

#[cfg(test)]
mod tests;
