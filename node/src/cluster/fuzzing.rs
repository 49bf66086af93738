//! Doors for a fuzzer: enrolment, certificates, verdicts and questions as peers write them, and a cluster whose keys never change,
//! so that what was found once is found again.
//!
//! Nothing here decides anything. The keys are known to everybody and good for nothing else.

use super::{
    authority::{AuthorityError, Request, Root},
    enrol::{Admission, Admitted, Desk, EnrolError, Petition, Petitioner},
    tls::{self, Distrust, Names},
};
use crate::admin::{self, Cluster, Health, Look, members};
use ::actors::{
    inspect::{Found, Id, View},
    service::{Drain, Drained, NotDrained},
};
use ::cluster::{
    World,
    keyring::{Key, Keyring},
    peers::{EnrolReply, EnrolRequest, Refusal},
    store::{Memory, Signer},
    token::{Grant, Role, Token},
    trust::Identity,
};
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// What an Ed25519 key has before its bits in PKCS #8.
const ED25519: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// What a P-256 key has before its bits in PKCS #8, where its public half is left to be computed.
const P256: [u8; 36] = [
    0x30, 0x41, 2, 1, 0, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 4, 0x27, 0x30,
    0x25, 2, 1, 1, 4, 0x20, 0,
];

const LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A cluster `shop` with one region `west`.
pub struct Shop {
    names: Names,
    wall: SystemTime,
    keyring: Keyring,
    root: Arc<str>,
    chain: Arc<str>,
    signer: Signer,
    desk: Desk,
    petitioner: Petitioner,
    renewal: EnrolRequest,
}

impl Shop {
    pub fn new(world: &dyn World) -> Result<Self, AuthorityError> {
        let (cluster, node): (Arc<str>, Arc<str>) = ("shop".into(), "a".into());
        let wall = world.wall();
        let root = Root::of(key(&ED25519, 1)?, &cluster, wall)?;
        let signer = root.authority_of(key(&ED25519, 2)?, &cluster, "west", LIFE, wall)?;
        let authority = super::authority::Authority::open(&cluster, &signer)?;
        let keyring = Keyring::new([1, 2, 3].map(|bits| Key::new([bits; 32])));
        let memory = Arc::new(Memory::open(world.disk(), None).map_err(|_| AuthorityError::Unreadable("the memory"))?);
        // There is no disk to keep it on: it counts all the same.
        let _ = memory.keep_keyring(&keyring);
        let _ = memory.keep_signer(&signer);

        let grant = Grant { number: 7, authority: root.hash(), region: "west".into(), role: Role::Signer, expires: wall + LIFE };
        let token = Token::issue(grant, &keyring);
        let petitioner = Petitioner::shows(token, Request::of(key(&ED25519, 3)?, &node)?, &cluster, &node);

        let old = Request::of(key(&P256, 4)?, &node)?;
        let chain = authority.sign(&old.der, &node, wall)?;
        let request = petitioner.petition().request.clone();
        let renewal = EnrolRequest {
            node: node.to_string(),
            region: "west".to_string(),
            chain: chain.to_string(),
            signature: rcgen::SigningKey::sign(&old.key, &request)?.into(),
            signing_request: request.into(),
            ..EnrolRequest::default()
        };
        let names = Names::Own { cluster: cluster.clone() };
        Ok(Self { names, wall, keyring, root: root.pem().clone(), chain, signer, desk: Desk::new(cluster, memory), petitioner, renewal })
    }

    /// By a token, and by a certificate.
    pub fn petitions(&self) -> [EnrolRequest; 2] {
        [self.petitioner.petition().written(2), self.renewal.clone()]
    }

    /// What whoever asks so is answered.
    pub fn admit(&self, request: &EnrolRequest) -> Result<EnrolReply, Refusal> {
        let petition = Petition::read(request)?;
        let admission = self.desk.admit(&petition, |_| false, self.wall).map_err(|no| no.written())?;
        Ok(admission.written("shop", vec!["192.0.2.1:7900".to_string()]))
    }

    /// A petition as it is passed on.
    pub fn written(request: &EnrolRequest) -> Option<EnrolRequest> {
        Petition::read(request).ok().map(|petition| petition.written(request.hops_left))
    }

    /// What the one that asked by a token makes of an answer.
    pub fn accept(&self, reply: EnrolReply) -> Result<Admitted, EnrolError> {
        self.petitioner.accept(Admission::read(reply, "west"), self.wall)
    }

    /// A certificate of a node in PEM, with all that lead to the root.
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// Certificates in DER, the node's first and the root's last.
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        CertificateDer::pem_slice_iter(self.chain.as_bytes()).filter_map(Result::ok).map(|certificate| certificate.to_vec()).collect()
    }

    /// Whom a chain names that leads to the root.
    pub fn trusted(&self, chain: &str) -> Result<Identity, Distrust> {
        tls::judge(chain, &self.root, &self.names, self.wall).map(|(identity, _)| identity)
    }

    /// Whom a certificate names, of the cluster's own and of those from outside.
    pub fn named(&self, certificate: &[u8]) -> [Result<Identity, Distrust>; 2] {
        [self.names.identity(certificate), Names::Outside.identity(certificate)]
    }

    /// Whether what is taken for an authority can sign.
    pub fn opens(&self, chain: &str, key: &str) -> bool {
        let signer = Signer { chain: chain.into(), key: config::Secret::new(key.to_string()), ..self.signer.clone() };
        super::authority::Authority::open("shop", &signer).is_ok()
    }

    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }
}

fn key(before: &[u8], bits: u8) -> Result<KeyPair, AuthorityError> {
    let mut der = before.to_vec();
    der.resize(before.len() + if before.len() == P256.len() { 31 } else { 32 }, bits);
    Ok(KeyPair::try_from(der)?)
}

/// Hears what the other side of a connection thinks of us.
pub async fn listen(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    tls::listen(stream).await
}

/// Says it.
pub async fn tell(stream: &mut (impl AsyncWrite + Unpin), judged: Result<(), Distrust>) -> io::Result<()> {
    tls::tell(stream, &judged).await
}

/// What a peer is answered who asks for a page, as far as that is decided without waiting; the status of it.
pub fn page(path: &str, query: &str, now: Instant) -> Option<u16> {
    match members::answer_peer(path, query, &Blank, now, "fuzzed") {
        admin::Reply::Whole(response) => Some(response.status().as_u16()),
        admin::Reply::Actor(_) | admin::Reply::Member(_) | admin::Reply::Views => None,
    }
}

/// A node that has nothing to show.
struct Blank;

impl Look for Blank {
    fn health(&self) -> Health {
        Health::default()
    }

    fn metrics(&self) -> String {
        String::new()
    }

    fn route(&self, id: &str) -> Option<Value> {
        (id == "shop").then(|| json!({ "id": id }))
    }

    fn routes(&self, _: Option<&str>, count: usize) -> Vec<(String, Value)> {
        ["shop", "stock"].into_iter().take(count).map(|id| (id.to_string(), json!({ "id": id }))).collect()
    }

    fn config(&self) -> Value {
        Value::Null
    }

    fn upstreams(&self) -> Value {
        Value::Array(Vec::new())
    }

    fn drain(&self, _: &str, _: &str, _: Drain) -> Option<Result<Drained, NotDrained>> {
        unreachable!("a peer only reads")
    }

    fn explain(&self, _: Value) -> Result<Value, String> {
        unreachable!("a peer sends no body")
    }

    fn actors(&self) -> Vec<View> {
        Vec::new()
    }

    fn actor(&self, _: &Id) -> Option<Found> {
        None
    }

    fn drills_allowed(&self) -> bool {
        true
    }

    fn drilled(&self, _: &Id, _: &str) {
        unreachable!("a peer only reads")
    }

    fn cluster(&self) -> Option<&dyn Cluster> {
        None
    }

    fn leave(&self, _: bool) -> String {
        unreachable!("a peer only reads")
    }
}
