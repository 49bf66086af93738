//! The authorities of a cluster: one root, which is kept offline, and under it one for each region, which lets nodes in.
//!
//! A node's certificate names it twice: as `spiffe://CLUSTER/REGION/NODE`, and as `NODE.REGION.CLUSTER`. The second is
//! what a region's authority is constrained to by the root, so that one region's key can vouch for no other region's
//! nodes; `tls` believes the first only together with the second.

use ::cluster::{
    store::{Credentials, Signer},
    token::AuthorityHash,
};
use config::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Nothing is signed by it but the authorities of regions, and it lies offline: replacing it means a new cluster.
const ROOT_LIFE: Duration = Duration::from_secs(20 * 365 * DAY.as_secs());
const REGION_LIFE: Duration = Duration::from_secs(10 * 365 * DAY.as_secs());

/// How long a node's certificate is good for where `shoal cluster init` is told nothing else.
pub const NODE_LIFE: Duration = Duration::from_secs(30 * DAY.as_secs());

/// Clocks differ: a certificate is valid so long before it was signed, or for a tenth of its life if that is less.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5 * 60);

/// The root of a cluster, with its key.
pub struct Root {
    pem: Arc<str>,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

/// What a region's nodes are let in with.
pub struct Authority {
    cluster: Arc<str>,
    region: Arc<str>,
    /// Its own certificate and the root's.
    chain: Arc<str>,
    root: Arc<str>,
    hash: AuthorityHash,
    not_after: SystemTime,
    issuer: Issuer<'static, KeyPair>,
    life: Duration,
}

/// A key that has just been made, and the request to have it certified.
pub struct Request {
    pub key: KeyPair,
    /// PKCS #10, in DER. Only the key in it counts: names are given by whoever signs.
    pub der: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthorityError {
    /// A file or a record that should be a certificate with its key is none.
    Unreadable(&'static str),
    KeyMismatch,
    /// The authority itself is no longer valid.
    Expired,
    /// The request is none, or whoever made it does not hold its key.
    Request,
    /// What rcgen cannot do.
    Failed(Arc<str>),
}

impl Root {
    pub fn make(cluster: &str, wall: SystemTime) -> Result<Self, AuthorityError> {
        Self::of(KeyPair::generate()?, cluster, wall)
    }

    pub(super) fn of(key: KeyPair, cluster: &str, wall: SystemTime) -> Result<Self, AuthorityError> {
        let mut params = params(&format!("{cluster} root"), wall, ROOT_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Ok(Self { pem: certificate.pem().into(), certificate: certificate.der().clone(), key })
    }

    /// From what was kept of it.
    pub fn read(pem: &str, key: &str) -> Result<Self, AuthorityError> {
        let certificate = first(pem).ok_or(AuthorityError::Unreadable("the root's certificate"))?;
        let key = KeyPair::from_pem(key).map_err(|_| AuthorityError::Unreadable("the root's key"))?;
        if !belongs(&key, &certificate) {
            return Err(AuthorityError::KeyMismatch);
        }
        Ok(Self { pem: pem.into(), certificate, key })
    }

    pub fn pem(&self) -> &Arc<str> {
        &self.pem
    }

    pub fn reveal_key(&self) -> Secret {
        Secret::new(self.key.serialize_pem())
    }

    pub fn hash(&self) -> AuthorityHash {
        AuthorityHash::of(&self.certificate)
    }

    /// Makes the authority of a region, whose certificates are good for `life`.
    pub fn authority(&self, cluster: &str, region: &str, life: Duration, wall: SystemTime) -> Result<Signer, AuthorityError> {
        self.authority_of(KeyPair::generate()?, cluster, region, life, wall)
    }

    pub(super) fn authority_of(
        &self,
        key: KeyPair,
        cluster: &str,
        region: &str,
        life: Duration,
        wall: SystemTime,
    ) -> Result<Signer, AuthorityError> {
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key)?;
        let mut params = params(&format!("{cluster} {region}"), wall, REGION_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        let own = GeneralSubtree::DnsName(format!("{region}.{cluster}"));
        params.name_constraints = Some(NameConstraints { permitted_subtrees: vec![own], excluded_subtrees: Vec::new() });
        let certificate = params.signed_by(&key, &issuer)?;
        let chain = format!("{}{}", certificate.pem(), self.pem);
        Ok(Signer { region: region.into(), chain: chain.into(), key: Secret::new(key.serialize_pem()), life })
    }
}

impl Authority {
    pub fn open(cluster: &str, signer: &Signer) -> Result<Self, AuthorityError> {
        let unreadable = AuthorityError::Unreadable("the authority of the region");
        let chain: Vec<CertificateDer<'_>> =
            CertificateDer::pem_slice_iter(signer.chain.as_bytes()).collect::<Result<_, _>>().map_err(|_| unreadable.clone())?;
        let [own, root] = &chain[..] else { return Err(unreadable) };
        let key = KeyPair::from_pem(signer.key.reveal()).map_err(|_| unreadable.clone())?;
        if !belongs(&key, own) {
            return Err(AuthorityError::KeyMismatch);
        }
        let (_, parsed) = X509Certificate::from_der(own).map_err(|_| unreadable.clone())?;
        let not_after = super::tls::instant(parsed.validity().not_after.timestamp());
        let root_pem = signer.chain.rfind("-----BEGIN").map(|at| Arc::from(&signer.chain[at..])).ok_or(unreadable)?;
        Ok(Self {
            cluster: cluster.into(),
            region: signer.region.clone(),
            hash: AuthorityHash::of(root),
            chain: signer.chain.clone(),
            root: root_pem,
            not_after,
            issuer: Issuer::from_ca_cert_der(own, key)?,
            life: signer.life,
        })
    }

    /// Of the root, which join tokens are bound to.
    pub fn hash(&self) -> AuthorityHash {
        self.hash
    }

    /// The root's certificate in PEM.
    pub fn root(&self) -> &Arc<str> {
        &self.root
    }

    /// Certifies the key of a request under a name. Returns the new certificate and all that lead to the root, in PEM.
    pub fn sign(&self, request: &[u8], node: &str, wall: SystemTime) -> Result<Arc<str>, AuthorityError> {
        let left = self.not_after.duration_since(wall).map_err(|_| AuthorityError::Expired)?;
        let mut request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request)).map_err(|_| AuthorityError::Request)?;
        let (cluster, region) = (&self.cluster, &self.region);
        let mut params = params(node, wall, self.life.min(left));
        params.subject_alt_names = vec![
            SanType::DnsName(format!("{node}.{region}.{cluster}").try_into()?),
            SanType::URI(format!("spiffe://{cluster}/{region}/{node}").try_into()?),
        ];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        request.params = params;
        let certificate = request.signed_by(&self.issuer)?;
        Ok(format!("{}{}", certificate.pem(), self.chain).into())
    }

    /// A key and a certificate for the node that is the first of its cluster.
    pub fn first(&self, node: &str, wall: SystemTime) -> Result<Credentials, AuthorityError> {
        let request = Request::make(node)?;
        let chain = self.sign(&request.der, node, wall)?;
        Ok(Credentials { chain, key: Secret::new(request.key.serialize_pem()), roots: self.root.clone() })
    }
}

impl Request {
    pub fn make(node: &str) -> Result<Self, AuthorityError> {
        Self::of(KeyPair::generate()?, node)
    }

    pub(super) fn of(key: KeyPair, node: &str) -> Result<Self, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(node);
        let der = params.serialize_request(&key)?.der().to_vec();
        Ok(Self { key, der })
    }
}

fn params(name: &str, wall: SystemTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.not_before = date(wall - CLOCKS_DIFFER.min(life / 10));
    params.not_after = date(wall + life);
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// In the whole seconds that certificates know.
pub(super) fn date(wall: SystemTime) -> OffsetDateTime {
    let seconds = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or_else(|_| rcgen::date_time_ymd(9999, 12, 31))
}

fn first(pem: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}

fn belongs(key: &KeyPair, certificate: &[u8]) -> bool {
    use rcgen::PublicKeyData;
    X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| certificate.public_key().raw == key.subject_public_key_info())
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Failed(error.to_string().into())
    }
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(what) => write!(f, "{what} is not a certificate with its key"),
            Self::KeyMismatch => f.write_str("the authority's key does not belong to its certificate"),
            Self::Expired => f.write_str("the region's authority has expired; `shoal cluster init --region` makes it anew from the root"),
            Self::Request => f.write_str("the signing request is none, or is not signed by its own key"),
            Self::Failed(why) => write!(f, "a certificate cannot be made: {why}"),
        }
    }
}

impl std::error::Error for AuthorityError {}
