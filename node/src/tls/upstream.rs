//! TLS towards endpoints: whose certificates are believed, and what we show of ourselves.

use super::{H1, H2, Read, TlsError, pem, provider};
use config::{EndpointTls, Protocol};
use rustls::{
    ClientConfig, RootCertStore,
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};
use rustls_pki_types::ServerName;
use std::{
    sync::{Arc, OnceLock},
    time::SystemTime,
};

/// How a service's endpoints are spoken to. Immutable: a reload makes another.
#[derive(Debug)]
pub struct UpstreamTls {
    config: Arc<ClientConfig>,
    /// The same, offering HTTP/1.1 alone.
    h1: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl UpstreamTls {
    /// Reads every file that `tls` names. `protocol` decides what is offered by ALPN: both, or only one.
    pub fn load(tls: &EndpointTls, protocol: Protocol, roots: &SystemRoots, read: Read<'_>, wall: SystemTime) -> Result<Self, TlsError> {
        let provider = provider();
        let roots = match &tls.ca {
            Some(file) => Arc::new(pem::roots(file, read)?),
            None => roots.get(),
        };
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13, &TLS12])?.with_root_certificates(roots);
        let mut config = match &tls.identity {
            Some(files) => {
                let identity = pem::identity(&files.cert, &files.key, &provider, read, wall)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key)))
            }
            None => builder.with_no_client_auth(),
        };
        let offered: &[&[u8]] = match protocol {
            Protocol::Auto => &[H2, H1],
            Protocol::H1 => &[H1],
            Protocol::H2 => &[H2],
        };
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let mut h1 = config.clone();
        if protocol == Protocol::Auto {
            h1.alpn_protocols = vec![H1.to_vec()];
        }
        let server_name = tls.server_name.as_deref().map(server_name).transpose()?;
        Ok(Self { config: Arc::new(config), h1: Arc::new(h1), server_name })
    }

    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// For a connection that is to become a WebSocket, which an endpoint may speak both protocols and know on one only.
    pub fn config_for_upgrade(&self) -> Arc<ClientConfig> {
        self.h1.clone()
    }

    /// The name that an endpoint at `host` is asked for and checked against: the configured one, or the host itself.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => server_name(host),
        }
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::ServerName { name: name.to_owned() })
}

/// The authorities that the operating system believes, read once and only if an endpoint needs them. Where the system
/// has none, as in a small container, Mozilla's list stands in.
#[derive(Debug, Default)]
pub struct SystemRoots(OnceLock<Arc<RootCertStore>>);

impl SystemRoots {
    fn get(&self) -> Arc<RootCertStore> {
        self.0.get_or_init(|| Arc::new(Self::read())).clone()
    }

    fn read() -> RootCertStore {
        let mut roots = RootCertStore::empty();
        // One broken file among a hundred is the system's affair: the others still count.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        roots
    }
}
