//! The other nodes, as this one is told of them.

use super::CertifiedKeyFiles;
use crate::{Place, Secret};
use serde::{Serialize, Serializer};
use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc};

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Cluster {
    pub name: Arc<str>,
    pub bind: SocketAddr,
    /// Where other nodes reach this one. Port 0 is the one that `bind` turns out to have.
    pub advertise: SocketAddr,
    pub join: Vec<Seed>,
    /// For a node without a certificate.
    pub token: Option<Secret>,
    /// Certificates that the cluster does not make itself.
    pub tls: Option<ClusterTls>,
    /// The keyring, where it does not come with a certificate.
    pub secrets: Option<Secret>,
    pub place: Place,
}

impl Cluster {
    /// Whether nobody but this machine can reach it.
    pub fn is_local(&self) -> bool {
        self.bind.ip().is_loopback() && self.advertise.ip().is_loopback()
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ClusterTls {
    #[serde(flatten)]
    pub identity: CertifiedKeyFiles,
    /// PEM file of the authorities that the nodes' certificates are checked against.
    pub ca: PathBuf,
}

/// Where other nodes may be found.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Seed {
    /// One node.
    Host { host: Arc<str>, port: u16 },
    /// Each address of the name is a node.
    Dns { name: Arc<str>, port: u16 },
    /// Each SRV record is a node.
    Srv { name: Arc<str> },
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::Dns { name, port } => write!(f, "dns:{name}:{port}"),
            Self::Srv { name } => write!(f, "srv:{name}"),
        }
    }
}

impl Serialize for Seed {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
