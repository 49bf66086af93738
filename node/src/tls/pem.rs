//! Takes certificates and keys out of PEM files.

use super::{Read, TlsError, instant};
use rustls::{InconsistentKeys, RootCertStore, crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use std::{net::IpAddr, path::Path, time::SystemTime};
use x509_parser::{extensions::GeneralName, prelude::*, time::ASN1Time};

/// A chain with its key, and what the first certificate says about itself.
pub(super) struct Identity {
    pub(super) key: CertifiedKey,
    pub(super) leaf: Leaf,
}

#[derive(Debug)]
pub(super) struct Leaf {
    /// Lower case; a wildcard keeps its `*.`.
    pub(super) names: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) not_after: SystemTime,
}

/// Reads a chain and its key, and makes sure that they belong together and are valid at `wall`.
pub(super) fn identity(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
    read: Read<'_>,
    wall: SystemTime,
) -> Result<Identity, TlsError> {
    let chain = chain(certificate, read)?;
    let leaf = leaf(certificate, &chain[0], wall)?;
    let private = private_key(key, read)?;
    let signing = provider.key_provider.load_private_key(private).map_err(|_| TlsError::Key { file: key.to_owned() })?;
    let identity = CertifiedKey::new(chain, signing);
    match identity.keys_match() {
        // A key that can not tell its public half shows itself at the first handshake.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Identity { key: identity, leaf }),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::KeyMismatch { key: key.to_owned(), certificate: certificate.to_owned() }),
        Err(_) => Err(TlsError::Certificate { file: certificate.to_owned() }),
    }
}

/// Reads authorities to check certificates against.
pub(super) fn roots(file: &Path, read: Read<'_>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(file, read)? {
        roots.add(certificate).map_err(|_| TlsError::Certificate { file: file.to_owned() })?;
    }
    Ok(roots)
}

/// Never empty.
fn chain(file: &Path, read: Read<'_>) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = content(file, read)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(TlsError::NoCertificate { file: file.to_owned() }),
        Ok(chain) => Ok(chain),
        Err(error) => Err(TlsError::Pem { file: file.to_owned(), error }),
    }
}

fn private_key(file: &Path, read: Read<'_>) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = content(file, read)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(_) if is_encrypted(&bytes) => Err(TlsError::KeyEncrypted { file: file.to_owned() }),
        Err(pem::Error::NoItemsFound) => Err(TlsError::NoKey { file: file.to_owned() }),
        Err(error) => Err(TlsError::Pem { file: file.to_owned(), error }),
    }
}

/// Whether the file holds a key behind a passphrase, in either of the two ways that OpenSSL writes one.
fn is_encrypted(bytes: &[u8]) -> bool {
    [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
        .into_iter()
        .any(|mark| bytes.windows(mark.len()).any(|window| window == mark))
}

fn content(file: &Path, read: Read<'_>) -> Result<Vec<u8>, TlsError> {
    read(file).map_err(|error| TlsError::Unreadable { file: file.to_owned(), error })
}

fn leaf(file: &Path, der: &CertificateDer<'_>, wall: SystemTime) -> Result<Leaf, TlsError> {
    let unclear = || TlsError::Certificate { file: file.to_owned() };
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| unclear())?;
    let validity = certificate.validity();
    let not_after = instant(validity.not_after.timestamp());
    if not_after < wall {
        return Err(TlsError::Expired { file: file.to_owned(), on: written(validity.not_after) });
    }
    if instant(validity.not_before.timestamp()) > wall {
        return Err(TlsError::NotYetValid { file: file.to_owned(), from: written(validity.not_before) });
    }

    let mut leaf = Leaf { names: Vec::new(), addresses: Vec::new(), not_after };
    let alternative = certificate.subject_alternative_name().map_err(|_| unclear())?;
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => leaf.names.push(name.trim_end_matches('.').to_ascii_lowercase()),
            GeneralName::IPAddress(octets) => leaf.addresses.extend(address(octets)),
            _ => {}
        }
    }
    Ok(leaf)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// `2026-01-31 12:00:00 UTC`
fn written(time: ASN1Time) -> String {
    let time = time.to_datetime();
    let (hour, minute, second) = time.to_hms();
    format!("{:04}-{:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC", time.year(), u8::from(time.month()), time.day())
}
