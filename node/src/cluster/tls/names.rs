//! Whose certificate it is.

use super::Distrust;
use ::cluster::trust::Identity;
use config::{is_dns_label, is_dns_name};
use std::sync::Arc;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

/// Where the names in certificates come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Names {
    /// The cluster makes its own: `spiffe://CLUSTER/REGION/NODE`, and the same as a DNS name, which is what a region's authority
    /// is held to.
    Own { cluster: Arc<str> },
    /// Somebody else makes them: the last segment of a SPIFFE id is the node, or else the first DNS name.
    Outside,
}

impl Names {
    /// Whom a certificate names that has been found to be valid.
    pub(in super::super) fn identity(&self, certificate: &[u8]) -> Result<Identity, Distrust> {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| Distrust::Nameless)?;
        let extension = certificate.subject_alternative_name().map_err(|_| Distrust::Nameless)?;
        let names = extension.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let spiffe = names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("spiffe://"),
            _ => None,
        });
        let mut dns = names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        });
        match self {
            Self::Own { cluster } => {
                let mut parts = spiffe.ok_or(Distrust::Nameless)?.split('/');
                let (Some(theirs), Some(region), Some(node), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
                    return Err(Distrust::Nameless);
                };
                if theirs != &**cluster {
                    return Err(Distrust::OtherCluster { theirs: if is_dns_label(theirs) { theirs.into() } else { "?".into() } });
                }
                let agrees = is_dns_label(region) && is_dns_name(node) && dns.all(|name| name == format!("{node}.{region}.{cluster}"));
                let named = names.iter().any(|name| matches!(name, GeneralName::DNSName(_)));
                if !agrees || !named {
                    return Err(Distrust::Nameless);
                }
                Ok(Identity { node: node.into(), region: Some(region.into()) })
            }
            Self::Outside => {
                let node = spiffe.and_then(|id| id.rsplit('/').next()).or_else(|| dns.next());
                let node = node.filter(|node| is_dns_name(node)).ok_or(Distrust::Nameless)?;
                Ok(Identity { node: node.into(), region: None })
            }
        }
    }
}
