//! Throw-away certificates, in files of a folder that goes with them, and both ends of TLS made from them.

use crate::{caller::Caller, wait::within};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// Where a certificate and its key lie.
#[derive(Clone, Debug)]
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Files {
    /// As a table of a configuration.
    pub fn toml(&self) -> String {
        format!("{{ cert = {:?}, key = {:?} }}", self.cert, self.key)
    }
}

impl Authority {
    #[expect(clippy::new_without_default, reason = "every authority is another one")]
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Some take a certificate for its own issuer where both are called the same.
        params.distinguished_name.push(DnType::CommonName, "tests' own authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("a file");
        Self { issuer, folder }
    }

    /// The authority's own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Issues a certificate and writes it to files that are called `called`, in place of what they held.
    pub fn issue(&self, called: &str, names: &[&str]) -> Files {
        self.issue_with(called, names, |_| {})
    }

    fn issue_with(&self, called: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Files {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let files = Files { cert: self.folder.path().join(format!("{called}.pem")), key: self.folder.path().join(format!("{called}.key")) };
        std::fs::write(&files.cert, certificate.pem()).expect("a file");
        std::fs::write(&files.key, key.serialize_pem()).expect("a file");
        files
    }

    /// Issues a certificate that ended long ago.
    pub fn issue_expired(&self, called: &str, names: &[&str]) -> Files {
        self.issue_with(called, names, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1))
    }

    /// What an endpoint accepts TLS with.
    pub fn acceptor(&self, files: &Files, alpn: &[&str]) -> TlsAcceptor {
        let (chain, key) = identity(files);
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
        let mut config = builder.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("a pair");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// The same, from callers that show a certificate of this authority.
    pub fn demanding(&self, files: &Files) -> TlsAcceptor {
        let (chain, key) = identity(files);
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider.clone()).build().expect("an authority");
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key).expect("a pair");
        TlsAcceptor::from(Arc::new(config))
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        roots
    }

    /// What a caller of one version connects with.
    pub fn connector_of(&self, version: &'static rustls::SupportedProtocolVersion) -> TlsConnector {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider())).with_protocol_versions(&[version]);
        let config = builder.expect("a version").with_root_certificates(self.roots()).with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    /// What a caller that trusts this authority connects with.
    pub fn connector(&self, alpn: &[&str], shows: Option<&Files>) -> TlsConnector {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
        let builder = builder.expect("versions").with_root_certificates(self.roots());
        let mut config = match shows {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let (chain, key) = identity(files);
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// A caller over TLS that asks for `name`, or why there is none.
    pub async fn try_call(&self, address: SocketAddr, name: &str, shows: Option<&Files>) -> io::Result<Caller> {
        let stream = tls(self.connector(&["http/1.1"], shows), address, name).await?;
        let local = stream.get_ref().0.local_addr()?;
        Ok(Caller::over(Box::new(stream), local))
    }

    pub async fn call(&self, address: SocketAddr, name: &str) -> Caller {
        self.try_call(address, name, None).await.expect("a handshake")
    }
}

pub async fn tls(connector: TlsConnector, address: SocketAddr, name: &str) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = within("a connection", TcpStream::connect(address)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_string()).expect("a name");
    within("a handshake", connector.connect(name, stream)).await
}

fn identity(files: &Files) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(&files.cert).expect("a file").collect::<Result<_, _>>().expect("certificates");
    (chain, PrivateKeyDer::from_pem_file(&files.key).expect("a key"))
}
