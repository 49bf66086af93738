//! Connections between nodes over mutual TLS.
//!
//! Both sides show a certificate and check the other's; who shows none may come in to enrol and for nothing else. Only
//! TLS 1.3 is spoken, and no session is resumed, so that every connection is checked against the clock and the authority
//! of the moment. The clock is the world's.
//!
//! TLS 1.3 lets the side that connects believe that it is in before it has been judged. So each side says its verdict
//! in a line of its own before anything else: both know at once, and in words, whether and why they do not talk.

mod distrust;
mod expiring;
mod names;

pub use distrust::Distrust;
pub use names::Names;

use ::cluster::{
    BoxFuture, BoxStream, World,
    store::Credentials,
    token::AuthorityHash,
    trust::{Identity, Trust},
};
use arc_swap::ArcSwap;
use expiring::Expiring;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::prelude::{FromDer, X509Certificate};

/// From the first byte to both verdicts.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// So that a browser or a caller that strays here is told so.
const ALPN: &[u8] = b"shoal-peer";

/// A verdict is a short line.
const VERDICT_MAX: usize = 200;

/// Trust by certificates, which can be exchanged while links are up: each lasts as long as the certificates that it was made with, and the next one
/// shows the new.
pub struct Tls {
    world: Arc<dyn World>,
    names: Names,
    live: ArcSwap<Live>,
}

struct Live {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    identity: Identity,
    validity: Validity,
}

/// When a certificate counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

/// Trust of a node that has nothing but a join token: it knows the authority by its hash and shows no certificate.
pub struct Joining {
    world: Arc<dyn World>,
    names: Names,
    client: Arc<ClientConfig>,
}

/// Why certificates cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CredentialsError {
    /// The part is not PEM of what it should be.
    Unreadable(&'static str),
    KeyMismatch,
    Expired,
    NotYetValid,
    Name(Distrust),
    Refused(Arc<str>),
}

impl Tls {
    pub fn new(world: Arc<dyn World>, names: Names, credentials: &Credentials) -> Result<Self, CredentialsError> {
        let live = Live::new(&world, &names, credentials)?;
        Ok(Self { world, names, live: ArcSwap::from_pointee(live) })
    }

    /// Shows another certificate from now on, or the old one still and says why.
    pub fn replace(&self, credentials: &Credentials) -> Result<(), CredentialsError> {
        let live = Live::new(&self.world, &self.names, credentials)?;
        self.live.store(Arc::new(live));
        Ok(())
    }

    /// Whom our own certificate names.
    pub fn identity(&self) -> Identity {
        self.live.load().identity.clone()
    }

    pub fn validity(&self) -> Validity {
        self.live.load().validity
    }
}

impl Trust for Tls {
    fn accept(&self, stream: BoxStream) -> BoxFuture<'_, io::Result<(BoxStream, Option<Identity>)>> {
        Box::pin(within(async move {
            let acceptor = TlsAcceptor::from(self.live.load().server.clone());
            let mut stream = acceptor.accept(stream).await.map_err(Distrust::behind)?;
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let ends = shown.and_then(|certificate| Validity::of(certificate)).map(|validity| validity.not_after);
            let judged = shown.map(|certificate| self.names.identity(certificate)).transpose();
            tell(&mut stream, &judged).await?;
            let identity = judged?;
            listen(&mut stream).await?;
            let stream: BoxStream = Box::new(stream);
            let stream = match ends {
                Some(ends) => Box::new(Expiring::new(stream, self.world.clone(), ends)),
                None => stream,
            };
            Ok((stream, identity))
        }))
    }

    fn connect(&self, stream: BoxStream) -> BoxFuture<'_, io::Result<(BoxStream, Identity)>> {
        Box::pin(connect(&self.world, self.live.load().client.clone(), &self.names, stream))
    }
}

impl Joining {
    pub fn new(world: Arc<dyn World>, names: Names, authority: AuthorityHash) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(ByHash { authority, algorithms: provider.signature_verification_algorithms });
        let client = client(&world, provider, verifier).with_no_client_auth();
        Self { world, names, client: Arc::new(peer(client)) }
    }
}

impl Trust for Joining {
    fn accept(&self, _: BoxStream) -> BoxFuture<'_, io::Result<(BoxStream, Option<Identity>)>> {
        Box::pin(async { Err(Distrust::NotEnrolled.into()) })
    }

    fn connect(&self, stream: BoxStream) -> BoxFuture<'_, io::Result<(BoxStream, Identity)>> {
        Box::pin(connect(&self.world, self.client.clone(), &self.names, stream))
    }
}

async fn within<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(HANDSHAKE, handshake).await.unwrap_or_else(|_| Err(Distrust::Slow.into()))
}

async fn connect(world: &Arc<dyn World>, client: Arc<ClientConfig>, names: &Names, stream: BoxStream) -> io::Result<(BoxStream, Identity)> {
    within(async {
        // Nobody is called so, and it is not sent: whom we find is judged by its certificate.
        let nobody = ServerName::try_from("peer").expect("it is a name");
        let mut stream = TlsConnector::from(client).connect(nobody, stream).await.map_err(Distrust::behind)?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let ends = shown.and_then(|certificate| Validity::of(certificate)).map(|validity| validity.not_after);
        let judged = shown.ok_or(Distrust::Nameless).and_then(|certificate| names.identity(certificate));
        listen(&mut stream).await?;
        tell(&mut stream, &judged).await?;
        let (identity, ends) = (judged?, ends.ok_or(Distrust::Nameless)?);
        Ok((Box::new(Expiring::new(Box::new(stream), world.clone(), ends)) as BoxStream, identity))
    })
    .await
}

/// Says what we think of the other side.
pub(super) async fn tell<T>(stream: &mut (impl AsyncWriteExt + Unpin), judged: &Result<T, Distrust>) -> io::Result<()> {
    let line = match judged {
        Ok(_) => "ok\n".to_string(),
        Err(distrust) => format!("no {distrust}\n").replace("its certificate", "our certificate"),
    };
    stream.write_all(line.as_bytes()).await?;
    stream.flush().await
}

/// Hears what the other side thinks of us.
pub(super) async fn listen(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await.map_err(Distrust::behind)? {
            b'\n' => break,
            _ if line.len() == VERDICT_MAX => return Err(Distrust::NotAPeer.into()),
            byte => line.push(byte),
        }
    }
    let line = String::from_utf8(line).map_err(|_| Distrust::NotAPeer)?;
    match line.split_once(' ') {
        None if line == "ok" => Ok(()),
        // Anybody may have written it, and it goes into a log.
        Some(("no", why)) => {
            let why: String = why.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
            Err(Distrust::Refused { why: why.into() }.into())
        }
        _ => Err(Distrust::NotAPeer.into()),
    }
}

impl Live {
    fn new(world: &Arc<dyn World>, names: &Names, credentials: &Credentials) -> Result<Self, CredentialsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates(&credentials.chain).ok_or(CredentialsError::Unreadable("the certificate"))?;
        let validity = Validity::of(&chain[0]).ok_or(CredentialsError::Unreadable("the certificate"))?;
        let wall = world.wall();
        if wall > validity.not_after {
            return Err(CredentialsError::Expired);
        }
        if wall < validity.not_before {
            return Err(CredentialsError::NotYetValid);
        }
        let identity = names.identity(&chain[0]).map_err(CredentialsError::Name)?;
        let key = PrivateKeyDer::from_pem_slice(credentials.key.reveal().as_bytes())
            .ok()
            .and_then(|key| provider.key_provider.load_private_key(key).ok())
            .ok_or(CredentialsError::Unreadable("the key"))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(CredentialsError::KeyMismatch),
        }
        let shown = Arc::new(SingleCertAndKey::from(certified));
        let roots = Arc::new(roots(&credentials.roots).ok_or(CredentialsError::Unreadable("the authority"))?);
        let refused = |error: &dyn fmt::Display| CredentialsError::Refused(error.to_string().into());

        let callers = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).allow_unauthenticated();
        let mut server = ServerConfig::builder_with_details(provider.clone(), clock(world))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| refused(&error))?
            .with_client_cert_verifier(callers.build().map_err(|error| refused(&error))?)
            .with_cert_resolver(shown.clone());
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        let verifier = Arc::new(Rooted { roots, algorithms: provider.signature_verification_algorithms });
        let client = client(world, provider, verifier).with_client_cert_resolver(shown);
        Ok(Self { server: Arc::new(server), client: Arc::new(peer(client)), identity, validity })
    }
}

fn client(
    world: &Arc<dyn World>,
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_details(provider, clock(world))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
}

fn peer(mut client: ClientConfig) -> ClientConfig {
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.resumption = Resumption::disabled();
    client.enable_sni = false;
    client
}

/// The world's clock, as rustls asks for it.
struct Clock(Arc<dyn World>);

fn clock(world: &Arc<dyn World>) -> Arc<dyn TimeProvider> {
    Arc::new(Clock(world.clone()))
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        self.0.wall().duration_since(UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}

/// Believes certificates that lead to these roots, whatever they are called: names are judged afterwards.
#[derive(Debug)]
struct Rooted {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Believes certificates that lead to the root with this hash, which the other side has to show.
#[derive(Debug)]
struct ByHash {
    authority: AuthorityHash,
    algorithms: WebPkiSupportedAlgorithms,
}

fn verify(
    certificate: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<ServerCertVerified, rustls::Error> {
    let certificate = ParsedCertificate::try_from(certificate)?;
    verify_server_cert_signed_by_trust_anchor(&certificate, roots, between, now, algorithms.all)?;
    Ok(ServerCertVerified::assertion())
}

macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls12_signature(message, certificate, signed, &self.algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(message, certificate, signed, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Rooted {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify(certificate, between, &self.roots, now, &self.algorithms)
    }

    signatures!();
}

impl ServerCertVerifier for ByHash {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for shown in between.iter().filter(|shown| AuthorityHash::of(shown) == self.authority) {
            roots.add(shown.clone())?;
        }
        verify(certificate, between, &roots, now, &self.algorithms)
    }

    signatures!();
}

/// Whether a chain leads to these roots at this time, and whom it names.
pub(super) fn judge(chain: &str, trusted: &str, names: &Names, wall: SystemTime) -> Result<(Identity, CertificateDer<'static>), Distrust> {
    let chain = certificates(chain).ok_or(Distrust::Nameless)?;
    let roots = roots(trusted).ok_or(Distrust::OtherAuthority)?;
    let now = UnixTime::since_unix_epoch(wall.duration_since(UNIX_EPOCH).unwrap_or_default());
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    verify(&chain[0], &chain[1..], &roots, now, &algorithms).map_err(|error| Distrust::meant_by(&error))?;
    Ok((names.identity(&chain[0])?, chain[0].clone()))
}

/// At least one certificate.
fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    (!chain.is_empty()).then_some(chain)
}

fn roots(pem: &str) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).ok()?;
    }
    Some(roots)
}

impl Validity {
    fn of(certificate: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let validity = parsed.validity();
        Some(Self { not_before: instant(validity.not_before.timestamp()), not_after: instant(validity.not_after.timestamp()) })
    }
}

/// Seconds since 1970, as a point in time; what is before counts as 1970.
pub(super) fn instant(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0))
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(what) => write!(f, "{what} of this node is not PEM, or not of a kind that TLS can use"),
            Self::KeyMismatch => f.write_str("the key of this node does not belong to its certificate"),
            Self::Expired => f.write_str("the certificate of this node has expired; it needs a join token"),
            Self::NotYetValid => f.write_str("the certificate of this node is not valid yet; look at the clock"),
            Self::Name(distrust) => write!(f, "the certificate of this node cannot be used: {distrust}"),
            Self::Refused(why) => write!(f, "the certificate of this node cannot be used: {why}"),
        }
    }
}

impl std::error::Error for CredentialsError {}

#[cfg(test)]
mod tests;
