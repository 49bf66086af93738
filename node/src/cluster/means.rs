//! By what means a node that has a `[cluster]` takes part in it, decided from what it is told and what it remembers.

use super::tls::{CredentialsError, Names, Tls};
use crate::tls::Read;
use ::cluster::{
    World,
    keyring::{Key, Keyring, KeyringError},
    store::{Credentials, Memory},
    token::{Token, TokenError},
};
use aws_lc_rs::digest;
use config::{Cluster, Secret};
use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc};

/// How other nodes are talked to.
pub enum Means {
    /// Nobody proves anything: `--insecure-dev`.
    Claimed { keyring: Keyring },
    /// There is a certificate, the cluster's own or one from elsewhere.
    Certified { tls: Tls, credentials: Credentials, keyring: Keyring, own: bool },
    /// There is none, and a token to get one by.
    Join(Token),
}

/// Why there is no way for a node to take part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MeansError {
    /// `--insecure-dev` where others could come in.
    Exposed {
        address: SocketAddr,
    },
    /// There is neither a certificate nor a token.
    Nothing,
    /// What is remembered is for another node, and there is no token.
    OtherNode {
        certificate: Arc<str>,
        configured: Arc<str>,
    },
    Unreadable {
        file: PathBuf,
        why: Arc<str>,
    },
    Credentials(CredentialsError),
    Keyring(KeyringError),
    /// There is a certificate and no keyring to go with it.
    NoKeyring,
    Token(TokenError),
    /// The token is for another region than `[node] region`.
    OtherRegion {
        token: Arc<str>,
        configured: Arc<str>,
    },
}

impl Means {
    /// `given` is the token of the command line, which comes before the one in the file.
    pub fn of(
        cluster: &Cluster,
        node: &config::Node,
        insecure_dev: bool,
        given: Option<&Secret>,
        memory: &Memory,
        read: Read<'_>,
        world: &Arc<dyn World>,
    ) -> Result<Self, MeansError> {
        if insecure_dev {
            let exposed = [cluster.bind, cluster.advertise].into_iter().find(|address| !address.ip().is_loopback());
            return match exposed {
                Some(address) => Err(MeansError::Exposed { address }),
                None => Ok(Self::Claimed { keyring: claimed(&cluster.name) }),
            };
        }
        if let Some(files) = &cluster.tls {
            let text = |file: &PathBuf| -> Result<String, MeansError> {
                let unreadable = |why: String| MeansError::Unreadable { file: file.clone(), why: why.into() };
                let content = read(file).map_err(|error| unreadable(error.to_string()))?;
                String::from_utf8(content).map_err(|_| unreadable("it is not PEM".to_string()))
            };
            let credentials = Credentials {
                chain: text(&files.identity.cert)?.into(),
                key: Secret::new(text(&files.identity.key)?),
                roots: text(&files.ca)?.into(),
            };
            let keyring = cluster.secrets.as_ref().ok_or(MeansError::NoKeyring)?.reveal().parse().map_err(MeansError::Keyring)?;
            return certified(Names::Outside, credentials, keyring, node, world);
        }
        let names = Names::Own { cluster: cluster.name.clone() };
        let token = given.or(cluster.token.as_ref());
        let remembered = memory.credentials().map(|credentials| {
            let keyring = memory.keyring().ok_or(MeansError::NoKeyring)?;
            certified(names, credentials, keyring, node, world)
        });
        match (remembered, token) {
            (Some(Ok(means)), _) => Ok(means),
            (Some(Err(error)), None) => Err(error),
            (None, None) => Err(MeansError::Nothing),
            // What is remembered cannot be used any more: a token lets the node in as if it were new.
            (Some(Err(_)) | None, Some(token)) => {
                let token: Token = token.reveal().parse().map_err(MeansError::Token)?;
                let region = &token.claims().region;
                if *region != node.region {
                    return Err(MeansError::OtherRegion { token: region.clone(), configured: node.region.clone() });
                }
                Ok(Self::Join(token))
            }
        }
    }
}

fn certified(
    names: Names,
    credentials: Credentials,
    keyring: Keyring,
    node: &config::Node,
    world: &Arc<dyn World>,
) -> Result<Means, MeansError> {
    let own = names != Names::Outside;
    let tls = Tls::new(world.clone(), names, &credentials).map_err(MeansError::Credentials)?;
    let identity = tls.identity();
    let named = |node: &str, region: &Option<Arc<str>>| region.as_ref().map_or(node.to_string(), |region| format!("{node}` in `{region}"));
    if identity.node != node.name || identity.region.as_ref().is_some_and(|region| *region != node.region) {
        let configured = named(&node.name, &identity.region.as_ref().map(|_| node.region.clone()));
        return Err(MeansError::OtherNode { certificate: named(&identity.node, &identity.region).into(), configured: configured.into() });
    }
    Ok(Means::Certified { tls, credentials, keyring, own })
}

/// A keyring that everybody can make who knows what the cluster is called: where nothing is secret, nodes still have to agree.
fn claimed(cluster: &str) -> Keyring {
    Keyring::new(["hash", "pepper", "token"].map(|purpose| {
        let bits = digest::digest(&digest::SHA256, format!("insecure-dev {cluster} {purpose}").as_bytes());
        Key::new(bits.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }))
}

impl fmt::Display for MeansError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exposed { address } => write!(
                f,
                "--insecure-dev lets everybody in who can reach {address}; it works on loopback only: bind there, or make certificates with \
                 `shoal cluster init`"
            ),
            Self::Nothing => f.write_str(
                "the node has no certificate for its cluster: `shoal cluster init` makes a new cluster, `shoal cluster token` on one of its \
                 nodes prints a token for --join-token, and [cluster] tls takes files from elsewhere; to try things out on one machine, \
                 there is --insecure-dev",
            ),
            Self::OtherNode { certificate, configured } => write!(
                f,
                "the certificate is for node `{certificate}`, and this one is called `{configured}`; change [node] back, or join anew with a token"
            ),
            Self::Unreadable { file, why } => write!(f, "{} cannot be read: {why}", file.display()),
            Self::Credentials(error) => write!(f, "{error}"),
            Self::Keyring(error) => write!(f, "[cluster] secrets: {error}"),
            Self::NoKeyring => f.write_str("the node has a certificate and no keyring; it needs to join anew with a token"),
            Self::Token(error) => write!(f, "{error}"),
            Self::OtherRegion { token, configured } => {
                write!(f, "the join token is for region `{token}`, and [node] region is `{configured}`")
            }
        }
    }
}

impl std::error::Error for MeansError {}

#[cfg(test)]
mod tests;
