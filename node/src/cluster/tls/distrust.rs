//! Why two nodes do not talk to each other, in one line that both of them write down.

use rustls::{AlertDescription, CertificateError};
use std::{fmt, io, sync::Arc};

/// What comes out of [`super::Tls`] inside an `io::Error`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Distrust {
    /// Their certificate does not lead to our authority.
    OtherAuthority,
    Expired,
    NotYetValid,
    /// Their certificate is of our authority and of a cluster that is called otherwise.
    OtherCluster {
        theirs: Arc<str>,
    },
    /// Their certificate names no node, or names it in ways that do not agree.
    Nameless,
    /// Their certificate could not be used, for a reason that rustls has.
    Unusable(Arc<str>),
    /// They do not believe us.
    Refused {
        why: Arc<str>,
    },
    /// What they send is not TLS, or not ours.
    NotAPeer,
    Slow,
    /// We have no certificate yet, and so nobody may come in.
    NotEnrolled,
}

impl Distrust {
    /// The reason behind an error of a connection, if it is one of trust.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// What an error of a handshake means. Others pass: a connection may simply break.
    pub(super) fn behind(error: io::Error) -> io::Error {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else { return error };
        Self::meant_by(tls).into()
    }

    pub(super) fn meant_by(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(certificate) => match certificate {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::OtherAuthority,
                other => Self::Unusable(other.to_string().into()),
            },
            rustls::Error::AlertReceived(alert) => Self::Refused { why: spoken(*alert).into() },
            rustls::Error::NoCertificatesPresented => Self::Nameless,
            _ => Self::NotAPeer,
        }
    }
}

/// What the other side says about us.
fn spoken(alert: AlertDescription) -> String {
    match alert {
        // The second is said where another authority goes by the same name.
        AlertDescription::UnknownCA | AlertDescription::DecryptError => "our certificate is of another authority".to_string(),
        AlertDescription::CertificateExpired => "our certificate is not valid at this time".to_string(),
        AlertDescription::BadCertificate | AlertDescription::UnsupportedCertificate => {
            "our certificate is not of a kind it takes".to_string()
        }
        AlertDescription::ProtocolVersion => "it speaks another version of TLS".to_string(),
        other => format!("{other:?}"),
    }
}

impl From<Distrust> for io::Error {
    fn from(distrust: Distrust) -> Self {
        // By the kind, a link tells distrust from a connection that broke, and whose distrust it is.
        let kind = match distrust {
            Distrust::Slow => io::ErrorKind::TimedOut,
            Distrust::Refused { .. } => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, distrust)
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherAuthority => f.write_str("its certificate is of another authority"),
            Self::Expired => f.write_str("its certificate has expired"),
            Self::NotYetValid => f.write_str("its certificate is not valid yet; look at the clocks"),
            Self::OtherCluster { theirs } => write!(f, "its certificate is of cluster `{theirs}`"),
            Self::Nameless => f.write_str("its certificate does not name a node"),
            Self::Unusable(why) => write!(f, "its certificate cannot be used: {why}"),
            Self::Refused { why } => f.write_str(why),
            Self::NotAPeer => f.write_str("it does not speak as a node of a cluster"),
            Self::Slow => f.write_str("it did not complete the handshake in time"),
            Self::NotEnrolled => f.write_str("this node has no certificate yet"),
        }
    }
}

impl std::error::Error for Distrust {}
