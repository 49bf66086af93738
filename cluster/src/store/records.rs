//! How certificates and keys lie in a node's memory.

use config::Secret;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// What a node shows of itself, and whom it believes. All in PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credentials {
    /// The node's own certificate, and those that lead to a root, the root included.
    pub chain: Arc<str>,
    pub key: Secret,
    /// The certificates that those of other nodes lead to.
    pub roots: Arc<str>,
}

/// The authority of a region, with which its holder lets nodes in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signer {
    pub region: Arc<str>,
    /// The authority's certificate and the root's, in PEM.
    pub chain: Arc<str>,
    pub key: Secret,
    /// How long the certificates that it signs are good for.
    pub life: Duration,
}

#[derive(Serialize, Deserialize)]
struct WrittenCredentials {
    chain: Arc<str>,
    key: Arc<str>,
    roots: Arc<str>,
}

#[derive(Serialize, Deserialize)]
struct WrittenSigner {
    chain: Arc<str>,
    key: Arc<str>,
    life_seconds: u64,
}

impl Credentials {
    pub(super) fn written(&self) -> Vec<u8> {
        let written = WrittenCredentials { chain: self.chain.clone(), key: self.key.reveal().into(), roots: self.roots.clone() };
        serde_json::to_vec(&written).expect("text is JSON")
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let written: WrittenCredentials = serde_json::from_slice(bytes).ok()?;
        Some(Self { chain: written.chain, key: Secret::new(written.key), roots: written.roots })
    }
}

impl Signer {
    pub(super) fn written(&self) -> Vec<u8> {
        let written = WrittenSigner { chain: self.chain.clone(), key: self.key.reveal().into(), life_seconds: self.life.as_secs() };
        serde_json::to_vec(&written).expect("text and numbers are JSON")
    }

    pub(super) fn read(region: &str, bytes: &[u8]) -> Option<Self> {
        let written: WrittenSigner = serde_json::from_slice(bytes).ok()?;
        let life = Duration::from_secs(written.life_seconds);
        Some(Self { region: region.into(), chain: written.chain, key: Secret::new(written.key), life })
    }
}
