//! The secrets that all nodes of a cluster share, and how they are replaced while the cluster works.
//!
//! There are three: one that keys the hashes of limits, so that nodes agree on them and callers cannot aim at a bucket;
//! one that is mixed into the hashes of API keys; and one that join tokens are signed with. Of each there are up to
//! [`KEYS_MAX`] keys, of which one is used. A key is replaced in three steps: every node is given the new one, then every
//! node uses it, then the old one is taken away. Nodes at neighbouring steps understand each other, which is what
//! [`Keyring::accepts`] decides; `rotation` says which step is next.
//!
//! A keyring is written as JSON, by [`Keyring::reveal`] alone: nothing else gives a key away.

mod rotation;

pub use rotation::{Holding, Step};

use aws_lc_rs::{digest, hmac};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use config::Secret;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// An old key, the one in use, and one that is to come.
pub const KEYS_MAX: usize = 3;

/// Longer text is not looked at: with all of its keys, a keyring has some six hundred bytes.
const LENGTH_MAX: usize = 4_096;

#[derive(Clone, PartialEq, Eq)]
pub struct Keyring {
    hash: Ring,
    pepper: Ring,
    token: Ring,
}

/// What a secret is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Purpose {
    /// Keys the hashes by which limits find their buckets.
    Hash,
    /// Is mixed into the stored hashes of API keys.
    Pepper,
    /// Signs join tokens.
    Token,
}

/// Two hundred and fifty-six bits. There is no way to print one.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

/// What a key is called. It follows from the key, so that one name never stands for two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u32);

/// The first is the oldest. Never empty, never longer than [`KEYS_MAX`], no key twice, and `used` is one of them.
#[derive(Clone, PartialEq, Eq)]
struct Ring {
    keys: Vec<Key>,
    used: KeyId,
}

/// Why a keyring stays as it is, or is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyringError {
    /// The text is no keyring; the part names what is wrong with it.
    Malformed(&'static str),
    Held(KeyId),
    Unknown(KeyId),
    InUse(KeyId),
    Full(Purpose),
}

impl Keyring {
    /// The first keyring of a cluster. The keys come from a source that nobody can guess.
    pub fn new([hash, pepper, token]: [Key; 3]) -> Self {
        Self { hash: Ring::of(hash), pepper: Ring::of(pepper), token: Ring::of(token) }
    }

    /// The key that is used now.
    pub fn used(&self, purpose: Purpose) -> &Key {
        let ring = self.ring(purpose);
        ring.get(ring.used).expect("the key in use is held")
    }

    pub fn used_id(&self, purpose: Purpose) -> KeyId {
        self.ring(purpose).used
    }

    /// Any key that is held, in use or not.
    pub fn get(&self, purpose: Purpose, id: KeyId) -> Option<&Key> {
        self.ring(purpose).get(id)
    }

    /// From the oldest to the newest.
    pub fn ids(&self, purpose: Purpose) -> impl Iterator<Item = KeyId> {
        self.ring(purpose).keys.iter().map(Key::id)
    }

    /// Holds a key without using it: the first step of three.
    pub fn add(&mut self, purpose: Purpose, key: Key) -> Result<KeyId, KeyringError> {
        let id = key.id();
        let ring = self.ring_mut(purpose);
        if ring.get(id).is_some() {
            return Err(KeyringError::Held(id));
        }
        if ring.keys.len() == KEYS_MAX {
            return Err(KeyringError::Full(purpose));
        }
        ring.keys.push(key);
        Ok(id)
    }

    /// The second step, to be taken once every node holds the key.
    pub fn use_key(&mut self, purpose: Purpose, id: KeyId) -> Result<(), KeyringError> {
        let ring = self.ring_mut(purpose);
        ring.get(id).ok_or(KeyringError::Unknown(id))?;
        ring.used = id;
        Ok(())
    }

    /// The third step, to be taken once no node uses the key.
    pub fn remove(&mut self, purpose: Purpose, id: KeyId) -> Result<(), KeyringError> {
        let ring = self.ring_mut(purpose);
        ring.get(id).ok_or(KeyringError::Unknown(id))?;
        if ring.used == id {
            return Err(KeyringError::InUse(id));
        }
        ring.keys.retain(|key| key.id() != id);
        Ok(())
    }

    /// Tells which secrets a node uses, and nothing about them.
    pub fn fingerprint(&self) -> [u8; 8] {
        fingerprint([Purpose::Hash, Purpose::Pepper, Purpose::Token].map(|purpose| self.used(purpose)))
    }

    /// The fingerprints of all nodes that use only secrets that are held here, whether or not they are used: those at a neighbouring
    /// step of a rotation. At most twenty-seven.
    pub fn fingerprints(&self) -> impl Iterator<Item = [u8; 8]> {
        let all = self.hash.keys.iter().flat_map(|hash| {
            let rest = self.pepper.keys.iter().flat_map(|pepper| self.token.keys.iter().map(move |token| (pepper, token)));
            rest.map(move |(pepper, token)| [hash, pepper, token])
        });
        all.map(fingerprint)
    }

    /// Whether a node with this fingerprint and this one understand each other.
    pub fn accepts(&self, theirs: [u8; 8]) -> bool {
        self.fingerprints().any(|ours| ours == theirs)
    }

    /// Whether every key of the other is held here too, whichever of them are used.
    pub fn includes(&self, other: &Self) -> bool {
        let held = |purpose| other.ids(purpose).all(|id| self.get(purpose, id).is_some());
        [Purpose::Hash, Purpose::Pepper, Purpose::Token].into_iter().all(held)
    }

    /// The whole keyring as text, for a file or a peer that may have it.
    pub fn reveal(&self) -> Secret {
        let written = Written { version: 1, hash: self.hash.written(), pepper: self.pepper.written(), token: self.token.written() };
        Secret::new(serde_json::to_string(&written).expect("text and lists are JSON"))
    }

    fn ring(&self, purpose: Purpose) -> &Ring {
        match purpose {
            Purpose::Hash => &self.hash,
            Purpose::Pepper => &self.pepper,
            Purpose::Token => &self.token,
        }
    }

    fn ring_mut(&mut self, purpose: Purpose) -> &mut Ring {
        match purpose {
            Purpose::Hash => &mut self.hash,
            Purpose::Pepper => &mut self.pepper,
            Purpose::Token => &mut self.token,
        }
    }
}

impl FromStr for Keyring {
    type Err = KeyringError;

    fn from_str(text: &str) -> Result<Self, KeyringError> {
        if text.len() > LENGTH_MAX {
            return Err(KeyringError::Malformed("it is too long to be one"));
        }
        // Not serde's own words: they may repeat a part of what they read.
        let written: Written = serde_json::from_str(text).map_err(|_| KeyringError::Malformed("it is not the JSON of a keyring"))?;
        if written.version != 1 {
            return Err(KeyringError::Malformed("it is of another version"));
        }
        Ok(Self { hash: Ring::read(written.hash)?, pepper: Ring::read(written.pepper)?, token: Ring::read(written.token)? })
    }
}

fn fingerprint(keys: [&Key; 3]) -> [u8; 8] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &keys[0].0));
    context.update(b"shoal fingerprint");
    context.update(&keys[1].0);
    context.update(&keys[2].0);
    first(context.sign().as_ref())
}

/// The first bytes of a longer hash.
fn first<const N: usize>(hash: &[u8]) -> [u8; N] {
    *hash.first_chunk().expect("a hash is longer than what is taken of it")
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    hash: WrittenRing,
    pepper: WrittenRing,
    token: WrittenRing,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRing {
    #[serde(rename = "use")]
    used: String,
    keys: Vec<String>,
}

impl Ring {
    fn of(key: Key) -> Self {
        Self { used: key.id(), keys: vec![key] }
    }

    fn get(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id() == id)
    }

    fn written(&self) -> WrittenRing {
        WrittenRing { used: self.used.to_string(), keys: self.keys.iter().map(|key| key.reveal().reveal().to_string()).collect() }
    }

    fn read(written: WrittenRing) -> Result<Self, KeyringError> {
        if !(1..=KEYS_MAX).contains(&written.keys.len()) {
            return Err(KeyringError::Malformed("there are one to three keys for each purpose"));
        }
        let keys = written.keys.iter().map(|key| key.parse()).collect::<Result<Vec<Key>, _>>()?;
        let used = written.used.parse()?;
        let ring = Self { keys, used };
        let twice = ring.keys.iter().enumerate().any(|(index, key)| ring.keys[..index].contains(key));
        match ring.get(used) {
            Some(_) if !twice => Ok(ring),
            Some(_) => Err(KeyringError::Malformed("a key is there twice")),
            None => Err(KeyringError::Malformed("the key in use is not there")),
        }
    }
}

impl Key {
    pub fn new(bits: [u8; 32]) -> Self {
        Self(bits)
    }

    pub fn bits(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn id(&self) -> KeyId {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"shoal key id");
        context.update(&self.0);
        KeyId(u32::from_be_bytes(first(context.finish().as_ref())))
    }

    /// As text, to carry it to another node.
    pub fn reveal(&self) -> Secret {
        Secret::new(BASE64.encode(self.0))
    }
}

impl FromStr for Key {
    type Err = KeyringError;

    fn from_str(text: &str) -> Result<Self, KeyringError> {
        let bits = BASE64.decode(text.trim()).ok().and_then(|bits| bits.try_into().ok());
        bits.map(Self).ok_or(KeyringError::Malformed("a key is 32 bytes in base64"))
    }
}

impl FromStr for KeyId {
    type Err = KeyringError;

    fn from_str(text: &str) -> Result<Self, KeyringError> {
        let plain = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = plain.then(|| u32::from_str_radix(text, 16).ok()).flatten();
        id.map(Self).ok_or(KeyringError::Malformed("the id of a key is eight hexadecimal digits"))
    }
}

impl KeyId {
    pub fn to_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    pub fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_be_bytes(bytes))
    }
}

impl Purpose {
    pub const ALL: [Self; 3] = [Self::Hash, Self::Pepper, Self::Token];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Pepper => "pepper",
            Self::Token => "token",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for purpose in Purpose::ALL {
            map.entry(&purpose, &self.ids(purpose).collect::<Vec<_>>());
        }
        map.finish()
    }
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "this is no keyring: {why}"),
            Self::Held(id) => write!(f, "key {id} is held already"),
            Self::Unknown(id) => write!(f, "there is no key {id}; it has to be added first"),
            Self::InUse(id) => write!(f, "key {id} is in use; another one has to be used before it can be removed"),
            Self::Full(purpose) => write!(f, "there are {KEYS_MAX} {purpose} keys already; remove an old one first"),
        }
    }
}

impl std::error::Error for KeyringError {}

#[cfg(test)]
mod tests;
