//! Enrolment as it crosses between nodes: the same things in the messages of peers.

use super::{Admission, EnrolRefusal, Entitled, Petition};
use ::cluster::{
    peers::{EnrolReply, EnrolRequest, Reason, Refusal, Signer as WireSigner, refusal},
    store::Signer,
};
use config::Secret;
use std::time::Duration;

impl Petition {
    /// `hops_left` is how often it may be passed on to somebody who can sign.
    pub fn written(&self, hops_left: u32) -> EnrolRequest {
        let mut request = EnrolRequest {
            node: self.node.to_string(),
            region: self.region.to_string(),
            signing_request: self.request.clone().into(),
            hops_left,
            ..EnrolRequest::default()
        };
        match &self.entitled {
            Entitled::Token(token) => request.token = token.reveal().reveal().to_string(),
            Entitled::Renewal { chain, signature } => {
                request.chain = chain.to_string();
                request.signature = signature.clone().into();
            }
        }
        request
    }

    /// Whether what is in it is good for anything is for the desk to judge.
    pub fn read(request: &EnrolRequest) -> Result<Self, Refusal> {
        let entitled = if request.token.is_empty() {
            Entitled::Renewal { chain: request.chain.as_str().into(), signature: request.signature.to_vec() }
        } else {
            Entitled::Token(request.token.parse().map_err(|error| refusal(Reason::Token, error))?)
        };
        Ok(Self {
            node: request.node.as_str().into(),
            region: request.region.as_str().into(),
            request: request.signing_request.to_vec(),
            entitled,
        })
    }
}

impl Admission {
    /// `peers` are addresses that the node may remember.
    pub fn written(&self, cluster: &str, peers: Vec<String>) -> EnrolReply {
        EnrolReply {
            cluster: cluster.to_string(),
            chain: self.chain.to_string(),
            keyring: self.keyring.reveal().to_string(),
            peers,
            signer: self.signer.as_ref().map(|signer| WireSigner {
                chain: signer.chain.to_string(),
                key: signer.key.reveal().to_string(),
                life_seconds: signer.life.as_secs(),
            }),
            refusal: None,
        }
    }

    /// What was answered to a petition for this region.
    pub fn read(reply: EnrolReply, region: &str) -> Self {
        let signer = reply.signer.map(|signer| Signer {
            region: region.into(),
            chain: signer.chain.into(),
            key: Secret::new(signer.key),
            life: Duration::from_secs(signer.life_seconds),
        });
        Self { chain: reply.chain.into(), keyring: Secret::new(reply.keyring), signer }
    }
}

impl EnrolRefusal {
    /// As it is told to the node that asked.
    pub fn written(&self) -> Refusal {
        let reason = match self {
            Self::Token(_) | Self::OtherRegion { .. } => Reason::Token,
            Self::Taken { .. } => Reason::Name,
            Self::Renewal(_) | Self::NotYours => Reason::Untrusted,
            Self::NoSigner { .. } | Self::NoKeyring | Self::Authority(_) => Reason::Unable,
        };
        refusal(reason, self)
    }
}
