//! Which certificate a caller is shown: the one that carries the name it asks for.
//!
//! An exact name comes before a wildcard, which stands for one label (RFC 9525 6.3). Several certificates may carry one
//! name, for instance with keys of different kinds: the first that the caller can check is taken. A caller that asks
//! for no name, or for an unknown one, is shown the first certificate of all.

use super::{Read, TlsError, address, pem};
use config::CertifiedKeyFiles;
use rustls::{
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// At least one certificate, and an index of the names on them.
#[derive(Debug)]
pub(super) struct Certificates {
    certificates: Vec<Certificate>,
    /// Positions in `certificates`, in their order, by name.
    exact: HashMap<String, Vec<usize>>,
    /// The same by what follows `*.`.
    wildcard: HashMap<String, Vec<usize>>,
}

#[derive(Debug)]
struct Certificate {
    file: PathBuf,
    key: Arc<CertifiedKey>,
    addresses: Vec<IpAddr>,
    not_after: SystemTime,
}

impl Certificates {
    pub(super) fn load(files: &[CertifiedKeyFiles], provider: &CryptoProvider, read: Read<'_>, wall: SystemTime) -> Result<Self, TlsError> {
        if files.is_empty() {
            return Err(TlsError::NoCertificates);
        }
        let mut loaded = Self { certificates: Vec::new(), exact: HashMap::new(), wildcard: HashMap::new() };
        for files in files {
            let identity = pem::identity(&files.cert, &files.key, provider, read, wall)?;
            loaded.add(&files.cert, identity);
        }
        Ok(loaded)
    }

    fn add(&mut self, file: &Path, identity: pem::Identity) {
        let at = self.certificates.len();
        for name in identity.leaf.names {
            let positions = match name.strip_prefix("*.") {
                Some(parent) => self.wildcard.entry(parent.to_owned()),
                None => self.exact.entry(name),
            };
            positions.or_default().push(at);
        }
        self.certificates.push(Certificate {
            file: file.to_owned(),
            key: Arc::new(identity.key),
            addresses: identity.leaf.addresses,
            not_after: identity.leaf.not_after,
        });
    }

    /// Every name on a certificate; one that stands for many begins with `*.`.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let wildcards = self.wildcard.keys().map(|parent| format!("*.{parent}"));
        self.exact.keys().cloned().chain(wildcards)
    }

    /// The positions of the certificates that carry `name`, which is in lower case.
    fn carrying(&self, name: &str) -> impl Iterator<Item = usize> {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        let wildcard = parent.and_then(|parent| self.wildcard.get(parent));
        self.exact.get(name).into_iter().chain(wildcard).flatten().copied()
    }

    /// Whether the certificate that is shown for `sni` also carries `host`.
    pub(super) fn covers(&self, sni: Option<&str>, host: &str) -> bool {
        let shown = sni.map(|sni| sni.trim_end_matches('.').to_ascii_lowercase()).and_then(|sni| self.carrying(&sni).next()).unwrap_or(0);
        match address(host) {
            Some(address) => self.certificates[shown].addresses.contains(&address),
            None => self.carrying(host).any(|at| at == shown),
        }
    }

    pub(super) fn not_after(&self) -> impl Iterator<Item = (&Path, SystemTime)> {
        self.certificates.iter().map(|certificate| (certificate.file.as_path(), certificate.not_after))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls has read the name as one of DNS and put it into lower case.
        let name = hello.server_name().unwrap_or_default();
        let first = self.carrying(name).next().unwrap_or(0);
        let checkable = |at: &usize| self.certificates[*at].key.key.choose_scheme(hello.signature_schemes()).is_some();
        let shown = if self.carrying(name).nth(1).is_some() { self.carrying(name).find(checkable).unwrap_or(first) } else { first };
        Some(self.certificates[shown].key.clone())
    }
}
