//! What is wrong with a certificate or a key, in one sentence that names the file.

use std::{error::Error, fmt, io, path::PathBuf};

/// Nothing has changed when one of these is returned.
#[derive(Debug)]
pub enum TlsError {
    Unreadable {
        file: PathBuf,
        error: io::Error,
    },
    /// There is something between BEGIN and END that is not what it says.
    Pem {
        file: PathBuf,
        error: rustls_pki_types::pem::Error,
    },
    NoCertificate {
        file: PathBuf,
    },
    /// It is not X.509, or something is in it that TLS can not use.
    Certificate {
        file: PathBuf,
    },
    NoKey {
        file: PathBuf,
    },
    KeyEncrypted {
        file: PathBuf,
    },
    /// Of a kind that can not sign for TLS.
    Key {
        file: PathBuf,
    },
    KeyMismatch {
        key: PathBuf,
        certificate: PathBuf,
    },
    Expired {
        file: PathBuf,
        /// `2026-01-31 12:00:00 UTC`, as in the next.
        on: String,
    },
    NotYetValid {
        file: PathBuf,
        from: String,
    },
    /// A listener with TLS lists no certificate.
    NoCertificates,
    /// Callers are asked for certificates that nothing can check.
    NoClientCa,
    /// Neither a name nor an address that a certificate could carry.
    ServerName {
        name: String,
    },
    /// What rustls refuses beyond that.
    Refused(rustls::Error),
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Refused(error)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error } => write!(f, "{} can not be read: {error}", file.display()),
            Self::Pem { file, error } => write!(f, "{} is not valid PEM: {error}", file.display()),
            Self::NoCertificate { file } => write!(f, "{} holds no certificate", file.display()),
            Self::Certificate { file } => write!(f, "{} holds a certificate that can not be understood", file.display()),
            Self::NoKey { file } => write!(f, "{} holds no private key", file.display()),
            Self::KeyEncrypted { file } => write!(f, "key {} is encrypted: it must be stored in the clear", file.display()),
            Self::Key { file } => write!(f, "key {} is of a kind that can not be used for TLS", file.display()),
            Self::KeyMismatch { key, certificate } => {
                write!(f, "key {} does not belong to certificate {}", key.display(), certificate.display())
            }
            Self::Expired { file, on } => write!(f, "certificate {} expired on {on}", file.display()),
            Self::NotYetValid { file, from } => write!(f, "certificate {} is not valid before {from}", file.display()),
            Self::NoCertificates => f.write_str("a listener with TLS needs at least one certificate"),
            Self::NoClientCa => f.write_str("client_auth needs client_ca, the authorities that callers' certificates are checked against"),
            Self::ServerName { name } => write!(f, "{name:?} is not a name that a certificate can carry"),
            Self::Refused(error) => write!(f, "{error}"),
        }
    }
}

impl Error for TlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable { error, .. } => Some(error),
            Self::Pem { error, .. } => Some(error),
            Self::Refused(error) => Some(error),
            _ => None,
        }
    }
}
