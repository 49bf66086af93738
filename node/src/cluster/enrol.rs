//! How a node comes by a certificate, and by the next one.
//!
//! A new node makes a key, and shows a join token with a signing request for it to any member; a member that holds the
//! authority of the region the token is for signs, others pass it on to one that does. A node whose certificate is two
//! thirds through its life makes another key, and signs the request for it with the old one: so whoever passes that on
//! cannot put another key in its place, and needs not be believed.
//!
//! Both sides are here without the connection between them: [`Desk`] answers, [`Petitioner`] asks.

mod wire;

use super::{
    authority::{Authority, AuthorityError, Request},
    tls::{Distrust, Joining, Names, Validity, judge},
};
use ::cluster::{
    BoxFuture, World,
    keyring::{Keyring, KeyringError},
    store::{Credentials, Memory, Signer},
    token::{AuthorityHash, Grant, Role, Token, TokenRefusal},
};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use config::{Secret, is_dns_name};
use rcgen::{KeyPair, SigningKey};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A signing request of ours has some three hundred bytes.
const REQUEST_MAX: usize = 4096;

/// Three certificates of ours.
const CHAIN_MAX: usize = 16 * 1024;

/// What a node asks for.
#[derive(Clone, Debug)]
pub struct Petition {
    pub node: Arc<str>,
    pub region: Arc<str>,
    /// PKCS #10, in DER.
    pub request: Vec<u8>,
    pub entitled: Entitled,
}

/// What it is asked by.
#[derive(Clone, Debug)]
pub enum Entitled {
    Token(Token),
    /// The certificate in use, in PEM with those that lead to the root, and a signature over the request by its key.
    Renewal {
        chain: Arc<str>,
        signature: Vec<u8>,
    },
}

/// What a node is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admission {
    /// Its certificate and those that lead to the root, which is included, in PEM.
    pub chain: Arc<str>,
    /// As [`Keyring::reveal`] writes it.
    pub keyring: Secret,
    /// The authority of its region, where it is to let in others.
    pub signer: Option<Signer>,
}

/// Why a node is not given a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EnrolRefusal {
    Token(TokenRefusal),
    /// The token is for another region than the node runs in.
    OtherRegion {
        token: Arc<str>,
        node: Arc<str>,
    },
    /// Another node of that name is up.
    Taken {
        node: Arc<str>,
    },
    /// The certificate that is to be renewed is not believed.
    Renewal(Distrust),
    /// It is valid, and belongs to somebody else, or its key has not signed the request.
    NotYours,
    /// Whoever was asked cannot sign for the region: it has to pass the question on.
    NoSigner {
        region: Arc<str>,
    },
    /// It has no keyring: it is not of a cluster that lets nodes in.
    NoKeyring,
    Authority(AuthorityError),
}

/// Where nodes are let in. Any member has one; without the authority of a region it says so.
pub struct Desk {
    cluster: Arc<str>,
    memory: Arc<Memory>,
}

impl Desk {
    pub fn new(cluster: Arc<str>, memory: Arc<Memory>) -> Self {
        Self { cluster, memory }
    }

    /// Judges a petition. `alive` tells whether a member of that name is up, which nobody else may call itself. It may look at the
    /// disk, and so belongs into [`World::offload`].
    pub fn admit(&self, petition: &Petition, alive: impl Fn(&str) -> bool, wall: SystemTime) -> Result<Admission, EnrolRefusal> {
        let Petition { node, region, request, .. } = petition;
        if request.len() > REQUEST_MAX || !is_dns_name(node) {
            return Err(EnrolRefusal::Authority(AuthorityError::Request));
        }
        let known = self.memory.signer(region).or_else(|| {
            // An operator may have made it since the node was started. What cannot be read is what is told below.
            let _ = self.memory.look_again();
            self.memory.signer(region)
        });
        let signer = known.ok_or_else(|| EnrolRefusal::NoSigner { region: region.clone() })?;
        let keyring = self.memory.keyring().ok_or(EnrolRefusal::NoKeyring)?;
        let authority = Authority::open(&self.cluster, &signer)?;
        let role = match &petition.entitled {
            Entitled::Token(token) => {
                let grant = token.judge(&keyring, authority.hash(), wall).map_err(EnrolRefusal::Token)?;
                if grant.region != *region {
                    return Err(EnrolRefusal::OtherRegion { token: grant.region.clone(), node: region.clone() });
                }
                if alive(node) {
                    return Err(EnrolRefusal::Taken { node: node.clone() });
                }
                grant.role
            }
            Entitled::Renewal { chain, signature } => {
                self.owner(petition, chain, signature, authority.root(), wall)?;
                Role::Member
            }
        };
        let chain = authority.sign(request, node, wall)?;
        Ok(Admission { chain, keyring: keyring.reveal(), signer: (role == Role::Signer).then_some(signer) })
    }

    /// Whether the request was signed by the key of the certificate that it is to replace.
    fn owner(&self, petition: &Petition, chain: &str, signature: &[u8], root: &str, wall: SystemTime) -> Result<(), EnrolRefusal> {
        if chain.len() > CHAIN_MAX {
            return Err(EnrolRefusal::NotYours);
        }
        let names = Names::Own { cluster: self.cluster.clone() };
        let (identity, certificate) = judge(chain, root, &names, wall).map_err(EnrolRefusal::Renewal)?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| EnrolRefusal::NotYours)?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &parsed.public_key().subject_public_key.data);
        let named = identity.node == petition.node && identity.region.as_ref() == Some(&petition.region);
        match key.verify(&petition.request, signature) {
            Ok(()) if named => Ok(()),
            _ => Err(EnrolRefusal::NotYours),
        }
    }

    /// Makes a join token for a region that this node can sign for. The number tells it from others.
    pub fn token(&self, region: &str, role: Role, expires: SystemTime, number: u64) -> Result<Token, EnrolRefusal> {
        let keyring = self.memory.keyring().ok_or(EnrolRefusal::NoKeyring)?;
        let any = self.memory.signer(region).or_else(|| self.memory.signers().into_iter().next());
        let signer = any.ok_or_else(|| EnrolRefusal::NoSigner { region: region.into() })?;
        let authority = Authority::open(&self.cluster, &signer)?.hash();
        Ok(Token::issue(Grant { number, authority, region: region.into(), role, expires }, &keyring))
    }
}

impl EnrolRefusal {
    /// Whether asking somebody else, or again, may help.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Token(_) | Self::OtherRegion { .. } | Self::NotYours => true,
            Self::Taken { .. } | Self::Renewal(_) | Self::NoSigner { .. } | Self::NoKeyring | Self::Authority(_) => false,
        }
    }
}

/// A node that asks for a certificate.
pub struct Petitioner {
    key: KeyPair,
    petition: Petition,
    names: Names,
    authority: AuthorityHash,
}

/// What a node has once it is admitted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admitted {
    pub credentials: Credentials,
    pub keyring: Keyring,
    pub signer: Option<Signer>,
}

/// Why a node still has no certificate.
#[derive(Debug)]
pub enum EnrolError {
    Authority(AuthorityError),
    /// What came back is not what was asked for.
    Answer(&'static str),
    Keyring(KeyringError),
    Distrust(Distrust),
    /// Asking elsewhere would be answered alike.
    Refused {
        by: SocketAddr,
        why: Arc<str>,
    },
}

/// The nodes that may let us in.
pub trait Hosts: Send + Sync {
    fn seeds(&self) -> BoxFuture<'_, Vec<SocketAddr>>;

    fn ask<'a>(&'a self, seed: SocketAddr, petition: &'a Petition) -> BoxFuture<'a, Asked>;

    /// Why one of them did not, for now.
    fn tell(&self, seed: SocketAddr, why: &str);
}

/// What came of asking one node.
#[derive(Debug)]
pub enum Asked {
    Admitted(Box<Admission>),
    /// The reason in words, and whether it is the last one.
    Refused {
        why: Arc<str>,
        last: bool,
    },
    Failed(io::Error),
}

impl Petitioner {
    /// Asks by a token.
    pub fn joins(cluster: &Arc<str>, node: &Arc<str>, token: Token) -> Result<Self, EnrolError> {
        Ok(Self::shows(token, Request::make(node)?, cluster, node))
    }

    pub(super) fn shows(token: Token, Request { key, der }: Request, cluster: &Arc<str>, node: &Arc<str>) -> Self {
        let authority = token.claims().authority;
        // The region is the node's own, which the token has to agree with; the caller has compared them.
        let region = token.claims().region.clone();
        let petition = Petition { node: node.clone(), region, request: der, entitled: Entitled::Token(token) };
        Self { key, petition, names: Names::Own { cluster: cluster.clone() }, authority }
    }

    /// Asks by the certificate in use.
    pub fn renews(cluster: &Arc<str>, credentials: &Credentials, wall: SystemTime) -> Result<Self, EnrolError> {
        let names = Names::Own { cluster: cluster.clone() };
        let (identity, _) = judge(&credentials.chain, &credentials.roots, &names, wall)?;
        let Request { key, der } = Request::make(&identity.node)?;
        let old = KeyPair::from_pem(credentials.key.reveal()).map_err(AuthorityError::from)?;
        let signature = old.sign(&der).map_err(AuthorityError::from)?;
        let root = CertificateDer::from_pem_slice(credentials.roots.as_bytes()).map_err(|_| EnrolError::Answer("there is no root"))?;
        let region = identity.region.ok_or(EnrolError::Distrust(Distrust::Nameless))?;
        let entitled = Entitled::Renewal { chain: credentials.chain.clone(), signature };
        let petition = Petition { node: identity.node, region, request: der, entitled };
        Ok(Self { key, petition, names, authority: AuthorityHash::of(&root) })
    }

    pub fn petition(&self) -> &Petition {
        &self.petition
    }

    /// How to connect to whoever is asked while there is no certificate to show.
    pub fn trust(&self, world: &Arc<dyn World>) -> Joining {
        Joining::new(world.clone(), self.names.clone(), self.authority)
    }

    /// Checks what came back: that it certifies our key under our name, and leads to the root that we know.
    pub fn accept(&self, admission: Admission, wall: SystemTime) -> Result<Admitted, EnrolError> {
        let last = admission.chain.rfind("-----BEGIN").map(|at| Arc::<str>::from(&admission.chain[at..]));
        let roots = last.ok_or(EnrolError::Answer("there is no certificate in it"))?;
        let root = CertificateDer::from_pem_slice(roots.as_bytes()).map_err(|_| EnrolError::Answer("there is no root in it"))?;
        if AuthorityHash::of(&root) != self.authority {
            return Err(EnrolError::Distrust(Distrust::OtherAuthority));
        }
        let (identity, certificate) = judge(&admission.chain, &roots, &self.names, wall)?;
        if identity.node != self.petition.node || identity.region.as_ref() != Some(&self.petition.region) {
            return Err(EnrolError::Answer("the certificate is for another node"));
        }
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| EnrolError::Answer("the certificate is none"))?;
        use rcgen::PublicKeyData;
        if parsed.public_key().raw != self.key.subject_public_key_info() {
            return Err(EnrolError::Answer("the certificate is for another key"));
        }
        let keyring = admission.keyring.reveal().parse().map_err(EnrolError::Keyring)?;
        let credentials = Credentials { chain: admission.chain, key: Secret::new(self.key.serialize_pem()), roots };
        Ok(Admitted { credentials, keyring, signer: admission.signer })
    }

    /// Asks one after the other until somebody admits us or says that nobody will. `seeds` are looked up anew in every round:
    /// nodes may be started in any order.
    pub async fn ask(&self, world: &dyn World, hosts: &dyn Hosts) -> Result<Admitted, EnrolError> {
        let mut pause = PAUSE_MIN;
        loop {
            for seed in hosts.seeds().await {
                match hosts.ask(seed, &self.petition).await {
                    Asked::Admitted(admission) => match self.accept(*admission, world.wall()) {
                        Ok(admitted) => return Ok(admitted),
                        Err(error) => hosts.tell(seed, &error.to_string()),
                    },
                    Asked::Refused { why, last: true } => return Err(EnrolError::Refused { by: seed, why }),
                    Asked::Refused { why, last: false } => hosts.tell(seed, &why),
                    Asked::Failed(error) => hosts.tell(seed, &error.to_string()),
                }
            }
            // Between half of it and all of it, so that those that were started together do not ask together.
            tokio::time::sleep(pause / 2 + pause.mul_f64(unit(world.chance()) / 2.0)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A share from 0 to 1.
fn unit(chance: u64) -> f64 {
    (chance >> 11) as f64 / (1u64 << 53) as f64
}

impl Admitted {
    /// Remembers it. It counts for this life even where it cannot be remembered.
    pub fn keep(&self, memory: &Memory) -> Result<(), ::cluster::store::StoreError> {
        let kept = [
            memory.keep_credentials(&self.credentials),
            memory.keep_keyring(&self.keyring),
            self.signer.as_ref().map_or(Ok(()), |signer| memory.keep_signer(signer)),
        ];
        kept.into_iter().collect()
    }
}

/// How long a certificate may still be used before it should be renewed: two thirds of its life, and up to a tenth of that
/// earlier, so that nodes that were enrolled together do not renew together.
pub fn renewal_due(validity: Validity, wall: SystemTime, chance: u64) -> Duration {
    let life = validity.not_after.duration_since(validity.not_before).unwrap_or_default();
    let share = 2.0 / 3.0 * (1.0 - unit(chance) / 10.0);
    let due = validity.not_before + life.mul_f64(share);
    due.duration_since(wall).unwrap_or_default()
}

/// How long to wait after a renewal that came to nothing: a twentieth of what is left, so that there are many more.
pub fn renewal_again(validity: Validity, wall: SystemTime) -> Duration {
    let left = validity.not_after.duration_since(wall).unwrap_or_default();
    (left / 20).clamp(Duration::from_secs(1), Duration::from_secs(60 * 60))
}

impl From<AuthorityError> for EnrolRefusal {
    fn from(error: AuthorityError) -> Self {
        Self::Authority(error)
    }
}

impl From<AuthorityError> for EnrolError {
    fn from(error: AuthorityError) -> Self {
        Self::Authority(error)
    }
}

impl From<Distrust> for EnrolError {
    fn from(distrust: Distrust) -> Self {
        Self::Distrust(distrust)
    }
}

impl fmt::Display for EnrolRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(refusal) => write!(f, "{refusal}"),
            Self::OtherRegion { token, node } => write!(f, "the join token is for region `{token}`, and the node runs in `{node}`"),
            Self::Taken { node } => write!(f, "another node is called `{node}`; every node needs a name of its own"),
            Self::Renewal(distrust) => write!(f, "{distrust}; it can be renewed no more"),
            Self::NotYours => f.write_str("the certificate that is to be renewed belongs to another node"),
            Self::NoSigner { region } => write!(f, "no node here may sign for region `{region}`"),
            Self::NoKeyring => f.write_str("this cluster does not make certificates"),
            Self::Authority(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for EnrolRefusal {}

impl fmt::Display for EnrolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(error) => write!(f, "{error}"),
            Self::Answer(why) => write!(f, "the answer cannot be used: {why}"),
            Self::Keyring(error) => write!(f, "the answer cannot be used: {error}"),
            Self::Distrust(distrust) => write!(f, "{distrust}"),
            Self::Refused { by, why } => write!(f, "{by} does not let this node in: {why}"),
        }
    }
}

impl std::error::Error for EnrolError {}

#[cfg(test)]
mod tests;
