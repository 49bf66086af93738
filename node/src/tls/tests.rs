use super::*;
use config::{CertifiedKeyFiles, ClientIdentity, EndpointTls, Protocol};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::{collections::HashMap, path::PathBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// 2026-01-01.
const TODAY: u64 = 1_767_225_600;

/// An authority, and what it has put on a disk of its own: `ca`, and `NAME.crt` with `NAME.key`.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    disk: HashMap<PathBuf, Vec<u8>>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let disk = HashMap::from([(PathBuf::from("ca"), issuer.pem().into_bytes())]);
        Self { issuer, disk }
    }

    /// Issues certificates for lists of names, each called after its first name.
    fn with(names: &[&str]) -> Self {
        let mut authority = Self::new();
        for names in names {
            authority.issue(names, |_| {});
        }
        authority
    }

    fn issue(&mut self, names: &str, change: impl FnOnce(&mut CertificateParams)) {
        self.issue_for(&KeyPair::generate().expect("a key"), names, change);
    }

    fn issue_for(&mut self, key: &KeyPair, names: &str, change: impl FnOnce(&mut CertificateParams)) {
        let list: Vec<String> = names.split(' ').map(str::to_owned).collect();
        let called = list[0].clone();
        let mut params = CertificateParams::new(list).expect("names");
        change(&mut params);
        let certificate = params.signed_by(key, &self.issuer).expect("a certificate");
        self.disk.insert(format!("{called}.crt").into(), certificate.pem().into_bytes());
        self.disk.insert(format!("{called}.key").into(), key.serialize_pem().into_bytes());
    }

    fn read(&self) -> impl Fn(&Path) -> io::Result<Vec<u8>> {
        |file| self.disk.get(file).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn certificate(&self, called: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(&self.disk[Path::new(&format!("{called}.crt"))]).expect("a certificate")
    }

    fn server(&self, tls: &ListenerTls) -> Result<ServerTls, TlsError> {
        ServerTls::load(tls, true, true, &self.read(), instant(TODAY as i64))
    }

    fn upstream(&self, identity: Option<&str>, protocol: Protocol) -> UpstreamTls {
        let identity = identity.map(|name| ClientIdentity { cert: format!("{name}.crt").into(), key: format!("{name}.key").into() });
        let tls = EndpointTls { ca: Some("ca".into()), identity, server_name: None };
        UpstreamTls::load(&tls, protocol, &SystemRoots::default(), &self.read(), instant(TODAY as i64)).expect("good files")
    }
}

fn listener(certificates: &[&str]) -> ListenerTls {
    let files = |name: &&str| CertifiedKeyFiles { cert: format!("{name}.crt").into(), key: format!("{name}.key").into() };
    ListenerTls {
        certificates: certificates.iter().map(files).collect(),
        version_min: TlsVersion::Tls12,
        client_auth: ClientAuth::None,
        client_ca: None,
    }
}

/// What each side of a handshake knows afterwards.
struct Shaken {
    shown: Option<CertificateDer<'static>>,
    alpn: Option<Vec<u8>>,
    caller_proven: bool,
}

/// Lets `caller` ask `server` for `name`. The server's error counts: a caller of TLS 1.3 is done before it is refused.
async fn shake(server: &ServerTls, caller: Arc<rustls::ClientConfig>, name: &str) -> io::Result<Shaken> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let (near, far) = tokio::io::duplex(16 * 1024);
    let connecting = TlsConnector::from(caller).connect(name, near);
    let (connected, accepted) = tokio::join!(connecting, TlsAcceptor::from(server.config()).accept(far));
    let (accepted, connected) = (accepted?, connected?);
    let (_, near) = connected.get_ref();
    let (_, far) = accepted.get_ref();
    Ok(Shaken {
        shown: near.peer_certificates().and_then(|chain| chain.first()).map(|first| first.clone().into_owned()),
        alpn: far.alpn_protocol().map(<[u8]>::to_vec),
        caller_proven: far.peer_certificates().is_some(),
    })
}

fn schemes() -> Vec<rustls::SignatureScheme> {
    provider().signature_verification_algorithms.supported_schemes()
}

/// Believes whatever it is shown, to see what that is.
fn credulous(authority: &Authority, sni: bool) -> Arc<rustls::ClientConfig> {
    let mut config = rustls::ClientConfig::clone(&authority.upstream(None, Protocol::Auto).config());
    config.dangerous().set_certificate_verifier(Arc::new(Credulous(schemes())));
    config.enable_sni = sni;
    Arc::new(config)
}

#[derive(Debug)]
struct Credulous(Vec<rustls::SignatureScheme>);

impl rustls::client::danger::ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.clone()
    }
}

const NAMES: &[&str] = &["first.example also.example", "*.wild.example exact.wild.example", "deep.wild.example"];
const LISTED: &[&str] = &["first.example", "*.wild.example", "deep.wild.example"];

#[tokio::test]
async fn a_caller_is_shown_the_certificate_of_the_name_it_asks_for() {
    let authority = Authority::with(NAMES);
    let server = authority.server(&listener(LISTED)).expect("good files");
    for (name, expected) in [
        ("first.example", "first.example"),
        ("also.example", "first.example"),
        ("ALSO.example", "first.example"),
        ("any.wild.example", "*.wild.example"),
        ("exact.wild.example", "*.wild.example"),
        ("deep.wild.example", "deep.wild.example"),
        ("wild.example", "first.example"),
        ("a.b.wild.example", "first.example"),
        ("unknown.example", "first.example"),
        ("127.0.0.1", "first.example"),
    ] {
        let shaken = shake(&server, credulous(&authority, true), name).await.expect("a handshake");
        assert_eq!(shaken.shown, Some(authority.certificate(expected)), "{name}");
    }
    let shaken = shake(&server, credulous(&authority, false), "deep.wild.example").await.expect("a handshake");
    assert_eq!(shaken.shown, Some(authority.certificate("first.example")));
}

#[tokio::test]
async fn a_caller_is_shown_a_certificate_that_it_can_check() {
    let mut authority = Authority::with(&["ecdsa.example both.example"]);
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    authority.issue_for(&rsa, "rsa.example both.example", |_| {});
    let server = authority.server(&listener(&["ecdsa.example", "rsa.example"])).expect("good files");
    for (only, expected) in [("ECDSA", "ecdsa.example"), ("RSA", "rsa.example")] {
        let mut caller = rustls::ClientConfig::clone(&credulous(&authority, true));
        let schemes = schemes().into_iter().filter(|scheme| format!("{scheme:?}").starts_with(only)).collect();
        caller.dangerous().set_certificate_verifier(Arc::new(Credulous(schemes)));
        let shaken = shake(&server, Arc::new(caller), "both.example").await.expect("a handshake");
        assert_eq!(shaken.shown, Some(authority.certificate(expected)), "{only}");
    }
}

#[tokio::test]
async fn endpoints_are_checked_against_their_name_and_authority() {
    let authority = Authority::with(NAMES);
    let server = authority.server(&listener(LISTED)).expect("good files");
    let upstream = authority.upstream(None, Protocol::Auto);
    assert!(shake(&server, upstream.config(), "any.wild.example").await.is_ok());
    assert!(shake(&server, upstream.config(), "unknown.example").await.is_err());
    assert!(shake(&server, Authority::new().upstream(None, Protocol::Auto).config(), "first.example").await.is_err());
}

#[tokio::test]
async fn the_protocol_is_agreed_on() {
    let authority = Authority::with(&["a.example"]);
    for (http1, http2, offered, expected) in [
        (true, true, Protocol::Auto, Some("h2")),
        (true, false, Protocol::Auto, Some("http/1.1")),
        (true, true, Protocol::H1, Some("http/1.1")),
        (false, true, Protocol::H2, Some("h2")),
        (false, true, Protocol::H1, None),
    ] {
        let server = ServerTls::load(&listener(&["a.example"]), http1, http2, &authority.read(), instant(TODAY as i64));
        let shaken = shake(&server.expect("good files"), authority.upstream(None, offered).config(), "a.example").await;
        let agreed = shaken.ok().and_then(|shaken| shaken.alpn);
        assert_eq!(agreed.as_deref(), expected.map(str::as_bytes), "{http1} {http2} {offered:?}");
    }
}

#[tokio::test]
async fn a_caller_proves_itself_where_it_must() {
    let authority = Authority::with(&["a.example", "caller.example"]);
    let stranger = Authority::with(&["caller.example"]);
    let mut disk = authority.disk.clone();
    disk.insert("stranger.crt".into(), stranger.disk[Path::new("caller.example.crt")].clone());
    disk.insert("stranger.key".into(), stranger.disk[Path::new("caller.example.key")].clone());
    let authority = Authority { disk, ..authority };
    for (client_auth, identity, expected) in [
        (ClientAuth::None, None, Some(false)),
        (ClientAuth::None, Some("caller.example"), Some(false)),
        (ClientAuth::Optional, None, Some(false)),
        (ClientAuth::Optional, Some("caller.example"), Some(true)),
        (ClientAuth::Optional, Some("stranger"), None),
        (ClientAuth::Required, None, None),
        (ClientAuth::Required, Some("caller.example"), Some(true)),
        (ClientAuth::Required, Some("stranger"), None),
    ] {
        let tls = ListenerTls { client_auth, client_ca: Some("ca".into()), ..listener(&["a.example"]) };
        let server = authority.server(&tls).expect("good files");
        let shaken = shake(&server, authority.upstream(identity, Protocol::Auto).config(), "a.example").await;
        assert_eq!(shaken.ok().map(|shaken| shaken.caller_proven), expected, "{client_auth:?} {identity:?}");
    }
}

#[tokio::test]
async fn a_listener_for_tls_1_3_speaks_nothing_older() {
    let authority = Authority::with(&["a.example"]);
    let old = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS12])
        .expect("a version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous(schemes())))
        .with_no_client_auth();
    let old = Arc::new(old);
    for (version_min, expected) in [(TlsVersion::Tls12, true), (TlsVersion::Tls13, false)] {
        let server = authority.server(&ListenerTls { version_min, ..listener(&["a.example"]) }).expect("good files");
        assert_eq!(shake(&server, old.clone(), "a.example").await.is_ok(), expected, "{version_min:?}");
    }
}

#[tokio::test]
async fn a_caller_that_comes_back_resumes_its_session() {
    let authority = Authority::with(&["a.example"]);
    let server = authority.server(&listener(&["a.example"])).expect("good files");
    let caller = authority.upstream(None, Protocol::Auto).config();
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let name = ServerName::try_from("a.example").expect("a name");
        let connecting = TlsConnector::from(caller.clone()).connect(name, near);
        let (connected, accepted) = tokio::join!(connecting, TlsAcceptor::from(server.config()).accept(far));
        let (mut connected, mut accepted) = (connected.expect("a handshake"), accepted.expect("a handshake"));
        kinds.push(accepted.get_ref().1.handshake_kind());
        // The ticket comes behind the handshake: the caller has to read on to get it.
        tokio::io::AsyncWriteExt::shutdown(&mut accepted).await.expect("an open connection");
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut connected, &mut rest).await.expect("a clean end");
    }
    use rustls::HandshakeKind::{Full, FullWithHelloRetryRequest, Resumed};
    assert!(matches!(kinds[..], [Some(Full | FullWithHelloRetryRequest), Some(Resumed)]), "{kinds:?}");
}

#[test]
fn a_host_is_covered_by_the_certificate_of_the_connection() {
    let authority = Authority::with(&["first.example 192.0.2.1 2001:db8::1", "*.wild.example wild.example", "other.example"]);
    let server = authority.server(&listener(&["first.example", "*.wild.example", "other.example"])).expect("good files");
    for (sni, host, expected) in [
        (Some("first.example"), "first.example", true),
        (Some("first.example"), "other.example", false),
        (Some("a.wild.example"), "b.wild.example", true),
        (Some("a.wild.example"), "wild.example", true),
        (Some("a.wild.example"), "a.b.wild.example", false),
        (Some("wild.example"), "first.example", false),
        (Some("unknown.example"), "unknown.example", true),
        (Some("unknown.example"), "first.example", true),
        (Some("unknown.example"), "other.example", false),
        (Some("FIRST.example"), "first.example", true),
        (Some("first.example"), "192.0.2.1", true),
        (Some("first.example"), "[2001:db8::1]", true),
        (Some("other.example"), "192.0.2.1", false),
        (None, "first.example", true),
        (None, "other.example", false),
        (None, "203.0.113.1", true),
        (None, "[::1]", true),
        (None, "", true),
        (Some("other.example"), "", true),
    ] {
        assert_eq!(server.covers(sni, host), expected, "{host} on a connection for {sni:?}");
    }
}

#[test]
fn a_mistake_in_the_files_is_one_sentence() {
    let mut authority = Authority::with(&["a.example", "b.example"]);
    authority.issue("old.example", |params| params.not_after = date_time_ymd(2001, 2, 3));
    authority.issue("new.example", |params| params.not_before = date_time_ymd(2999, 12, 31));
    let mut put = |file: &str, content: &str| authority.disk.insert(file.into(), content.as_bytes().to_vec());
    put("empty.crt", "");
    put("empty.key", "");
    put("torn.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    put("odd.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    put("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    put("odd.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    for (cert, key, expected) in [
        ("a.example.crt", "b.example.key", "key b.example.key does not belong to certificate a.example.crt"),
        ("old.example.crt", "old.example.key", "certificate old.example.crt expired on 2001-02-03 00:00:00 UTC"),
        ("new.example.crt", "new.example.key", "certificate new.example.crt is not valid before 2999-12-31 00:00:00 UTC"),
        ("empty.crt", "a.example.key", "empty.crt holds no certificate"),
        ("a.example.key", "a.example.key", "a.example.key holds no certificate"),
        ("a.example.crt", "empty.key", "empty.key holds no private key"),
        ("a.example.crt", "a.example.crt", "a.example.crt holds no private key"),
        ("a.example.crt", "locked.key", "key locked.key is encrypted: it must be stored in the clear"),
        ("a.example.crt", "odd.key", "key odd.key is of a kind that can not be used for TLS"),
        ("odd.crt", "a.example.key", "odd.crt holds a certificate that can not be understood"),
        ("nowhere", "a.example.key", "nowhere can not be read: entity not found"),
    ] {
        let files = CertifiedKeyFiles { cert: cert.into(), key: key.into() };
        let error = authority.server(&ListenerTls { certificates: vec![files], ..listener(&[]) }).expect_err("bad files");
        assert_eq!(error.to_string(), expected);
    }
    let torn = CertifiedKeyFiles { cert: "torn.crt".into(), key: "a.example.key".into() };
    let error = authority.server(&ListenerTls { certificates: vec![torn], ..listener(&[]) }).expect_err("bad files");
    assert!(error.to_string().starts_with("torn.crt is not valid PEM: "), "{error}");

    let error = authority.server(&listener(&[])).expect_err("no files");
    assert!(matches!(error, TlsError::NoCertificates));
    let required = ListenerTls { client_auth: ClientAuth::Required, ..listener(&["a.example"]) };
    assert!(matches!(authority.server(&required), Err(TlsError::NoClientCa)));
    let odd = ListenerTls { client_ca: Some("odd.crt".into()), ..required };
    assert!(matches!(authority.server(&odd), Err(TlsError::Certificate { .. })));
}

#[test]
fn every_certificate_says_when_it_ends() {
    let mut authority = Authority::with(&["a.example"]);
    authority.issue("b.example", |params| params.not_after = date_time_ymd(2030, 1, 1));
    let server = authority.server(&listener(&["a.example", "b.example"])).expect("good files");
    let ends: Vec<_> = server.not_after().collect();
    assert_eq!(ends[1], (Path::new("b.example.crt"), instant(1_893_456_000)));
    assert_eq!(ends.len(), 2);
}

#[test]
fn the_name_of_an_endpoint_is_the_configured_one_or_its_host() {
    let authority = Authority::new();
    let upstream = authority.upstream(None, Protocol::Auto);
    for (host, expected) in [("a.example", Some("a.example")), ("127.0.0.1", Some("127.0.0.1")), ("[::1]", Some("::1")), ("a b", None)] {
        let name = upstream.server_name(host).ok();
        assert_eq!(name.map(|name| name.to_str().into_owned()).as_deref(), expected, "{host}");
    }
    let named = EndpointTls { ca: Some("ca".into()), identity: None, server_name: Some("inside.example".into()) };
    let named = UpstreamTls::load(&named, Protocol::H2, &SystemRoots::default(), &authority.read(), instant(TODAY as i64));
    assert_eq!(named.expect("good files").server_name("127.0.0.1").expect("a name").to_str(), "inside.example");
}

#[test]
fn an_endpoint_without_a_ca_is_checked_against_the_system() {
    let tls = EndpointTls { ca: None, identity: None, server_name: None };
    let loaded = UpstreamTls::load(&tls, Protocol::Auto, &SystemRoots::default(), &Authority::new().read(), instant(TODAY as i64));
    assert!(loaded.is_ok());
}
