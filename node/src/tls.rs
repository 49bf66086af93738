//! TLS on both sides: what callers are shown, and what endpoints are asked for.
//!
//! Everything is read and checked before anything is made, so a [`ServerTls`] or an [`UpstreamTls`] exists whole or not
//! at all: a reload makes a new one and swaps it in, or keeps the old one and says in one sentence why. The crypto
//! provider is passed by hand everywhere, so no other crate in the process can change it.
//!
//! rustls speaks TLS 1.2 only with ephemeral keys and authenticated encryption, and nothing older. Early data is off: it
//! can be replayed.

mod certificates;
mod error;
mod pem;
mod upstream;

pub use error::TlsError;
pub use upstream::{SystemRoots, UpstreamTls};

use self::certificates::Certificates;
use config::{ClientAuth, ListenerTls, TlsVersion};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ServerSessionMemoryCache, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use std::{
    io,
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

const H1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";

/// Sessions of callers that know no tickets; the others keep theirs themselves.
const SESSIONS_MAX: usize = 1_024;

/// Reads a whole file.
pub type Read<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// What a listener shows its callers. Immutable: a reload makes another.
#[derive(Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

impl ServerTls {
    /// Reads every file that `tls` names. `wall` decides whether a certificate is valid.
    pub fn load(tls: &ListenerTls, http1: bool, http2: bool, read: Read<'_>, wall: SystemTime) -> Result<Self, TlsError> {
        let provider = provider();
        let certificates = Arc::new(Certificates::load(&tls.certificates, &provider, read, wall)?);
        let versions: &[&SupportedProtocolVersion] = match tls.version_min {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
        let builder = match client_verifier(tls, provider, read)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(certificates.clone());
        config.alpn_protocols = [(http2, H2), (http1, H1)].into_iter().filter(|(on, _)| *on).map(|(_, name)| name.to_vec()).collect();
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        Ok(Self { config: Arc::new(config), certificates })
    }

    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Whether a request for `host` belongs on a connection that was opened for `sni`; if not, the answer is 421.
    ///
    /// A caller that sends a name was shown the certificate of that name, and may ask for every host on it. One that sends
    /// none was shown the first certificate, and may also ask for an address, because an address can not be sent as a
    /// name. `host` is in normal form, without a port; an empty one asks for nothing in particular.
    pub fn covers(&self, sni: Option<&str>, host: &str) -> bool {
        match sni {
            Some(sni) if sni.eq_ignore_ascii_case(host) => true,
            _ if host.is_empty() => true,
            None if address(host).is_some() => true,
            _ => self.certificates.covers(sni, host),
        }
    }

    /// Every name that a certificate carries.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.certificates.names()
    }

    /// When each certificate ends, with the file it came from.
    pub fn not_after(&self) -> impl Iterator<Item = (&Path, SystemTime)> {
        self.certificates.not_after()
    }
}

/// The address that a host in normal form is, if it is one.
fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn client_verifier(
    tls: &ListenerTls,
    provider: Arc<CryptoProvider>,
    read: Read<'_>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    if tls.client_auth == ClientAuth::None {
        return Ok(None);
    }
    let file = tls.client_ca.as_deref().ok_or(TlsError::NoClientCa)?;
    let roots = Arc::new(pem::roots(file, read)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    let builder = match tls.client_auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional | ClientAuth::None => builder.allow_unauthenticated(),
    };
    let verifier = builder.build().map_err(|_| TlsError::NoCertificate { file: file.to_owned() })?;
    Ok(Some(verifier))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Seconds since 1970, as a point in time; what is before counts as 1970.
fn instant(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests;
