//! Join tokens: what lets a new node in, for a short while.
//!
//! A token names the authority of the cluster by its hash, so that the new node knows whom it talks to before it says
//! anything; and it is signed with the cluster's token key, so that any node can tell whether it was made here. It is good
//! for any number of nodes until it expires, since a group that scales by itself starts nodes from one template.
//!
//! It is one word: `shoaljoin_` and the base64 of
//! version (1 byte), id of the key (4), number (8), hash of the authority (32), expiry in seconds since 1970 (8), role (1),
//! length of the region (1), region, and HMAC-SHA-256 over all of that (32).

use crate::keyring::{KeyId, Keyring, Purpose};
use aws_lc_rs::{digest, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use config::{Secret, is_dns_label};
use std::{
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const PREFIX: &str = "shoaljoin_";
const VERSION: u8 = 1;
const REGION_AT: usize = 55;
const SIGNATURE: usize = 32;

/// Longer ones are not looked at.
const LENGTH_MAX: usize = 512;

/// A token that has the right form. Whether it was made here, only [`Token::judge`] knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    grant: Grant,
    key: KeyId,
    signed: Box<[u8]>,
}

/// What a token lets a node do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Tells tokens apart in logs; drawn by chance.
    pub number: u64,
    pub authority: AuthorityHash,
    pub region: Arc<str>,
    pub role: Role,
    /// Whole seconds count.
    pub expires: SystemTime,
}

/// SHA-256 over the certificate of a cluster's root authority.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthorityHash(pub [u8; 32]);

/// What a new node is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Member,
    /// Gets the key of its region's authority too, and lets other nodes in.
    Signer,
}

/// The text is no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenError {
    NotAToken,
    /// Some characters are missing, or others were put in their place.
    Torn,
    /// Made by a shoal that is newer than this one.
    OtherVersion(u8),
}

/// The text is a token, and opens nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenRefusal {
    Expired {
        ago: Duration,
    },
    /// Signed with a key that is not held any more, or never was: another cluster's token looks like that too.
    UnknownKey(KeyId),
    /// The signature is not ours.
    Forged,
    OtherAuthority,
}

impl Token {
    pub fn issue(grant: Grant, keyring: &Keyring) -> Self {
        let key = keyring.used_id(Purpose::Token);
        let mut signed = Vec::with_capacity(REGION_AT + grant.region.len() + SIGNATURE);
        signed.push(VERSION);
        signed.extend(key.to_bytes());
        signed.extend(grant.number.to_be_bytes());
        signed.extend(grant.authority.0);
        signed.extend(seconds(grant.expires).to_be_bytes());
        signed.push(grant.role as u8);
        debug_assert!(is_dns_label(&grant.region), "a region is a label");
        signed.push(grant.region.len() as u8);
        signed.extend(grant.region.as_bytes());
        let signature = hmac::sign(&signing(keyring, key).expect("the key in use is held"), &signed);
        signed.extend(signature.as_ref());
        let grant = Grant { expires: UNIX_EPOCH + Duration::from_secs(seconds(grant.expires)), ..grant };
        Self { grant, key, signed: signed.into() }
    }

    /// What it says of itself, true or not. The joining node needs the authority's hash before anybody has judged it.
    pub fn claims(&self) -> &Grant {
        &self.grant
    }

    /// Whether it lets somebody in here and now.
    pub fn judge(&self, keyring: &Keyring, authority: AuthorityHash, now: SystemTime) -> Result<&Grant, TokenRefusal> {
        let key = signing(keyring, self.key).ok_or(TokenRefusal::UnknownKey(self.key))?;
        let (content, signature) = self.signed.split_at(self.signed.len() - SIGNATURE);
        hmac::verify(&key, content, signature).map_err(|_| TokenRefusal::Forged)?;
        if self.grant.authority != authority {
            return Err(TokenRefusal::OtherAuthority);
        }
        match now.duration_since(self.grant.expires) {
            Ok(ago) => Err(TokenRefusal::Expired { ago }),
            Err(_) => Ok(&self.grant),
        }
    }

    /// The word itself, for whoever it is made for.
    pub fn reveal(&self) -> Secret {
        Secret::new(format!("{PREFIX}{}", BASE64.encode(&self.signed)))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn signing(keyring: &Keyring, id: KeyId) -> Option<hmac::Key> {
    keyring.get(Purpose::Token, id).map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.bits()))
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(TokenError::NotAToken)?;
        if encoded.len() > LENGTH_MAX {
            return Err(TokenError::NotAToken);
        }
        let signed = BASE64.decode(encoded).map_err(|_| TokenError::Torn)?;
        match signed.first() {
            Some(&VERSION) => read(&signed).ok_or(TokenError::Torn),
            Some(&other) => Err(TokenError::OtherVersion(other)),
            None => Err(TokenError::Torn),
        }
    }
}

fn read(signed: &[u8]) -> Option<Token> {
    let (_, rest) = signed.split_first_chunk::<1>()?;
    let (key, rest) = rest.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (authority, rest) = rest.split_first_chunk()?;
    let (expires, rest) = rest.split_first_chunk()?;
    let (&[role, length], rest) = rest.split_first_chunk()?;
    let role = match role {
        0 => Role::Member,
        1 => Role::Signer,
        _ => return None,
    };
    let (region, signature) = rest.split_at_checked(length.into())?;
    let region = std::str::from_utf8(region).ok().filter(|region| is_dns_label(region))?;
    if signature.len() != SIGNATURE {
        return None;
    }
    let grant = Grant {
        number: u64::from_be_bytes(*number),
        authority: AuthorityHash(*authority),
        region: region.into(),
        role,
        expires: UNIX_EPOCH.checked_add(Duration::from_secs(u64::from_be_bytes(*expires)))?,
    };
    Some(Token { grant, key: KeyId::from_bytes(*key), signed: signed.into() })
}

impl AuthorityHash {
    /// Of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(digest::digest(&digest::SHA256, certificate).as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl fmt::Debug for AuthorityHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The beginning of it is enough to compare by eye.
impl fmt::Display for AuthorityHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.grant).finish()
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAToken => write!(f, "this is no join token: one begins with `{PREFIX}`; `shoal cluster token` prints one"),
            Self::Torn => f.write_str("the join token is not whole; copy it again, all of it"),
            Self::OtherVersion(version) => write!(f, "the join token is of version {version}, and this shoal knows version {VERSION}"),
        }
    }
}

impl fmt::Display for TokenRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { ago } => write!(f, "the join token expired {} s ago; `shoal cluster token` makes another", ago.as_secs()),
            Self::UnknownKey(id) => write!(f, "the join token was signed with key {id}, which this cluster does not hold"),
            Self::Forged => f.write_str("the join token was not signed by this cluster"),
            Self::OtherAuthority => f.write_str("the join token is for a cluster with another authority"),
        }
    }
}

impl std::error::Error for TokenError {}
impl std::error::Error for TokenRefusal {}

#[cfg(test)]
mod tests;
