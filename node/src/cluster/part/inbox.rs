//! What peers say, given to whom it is for; and what gossip says, given to the links.

use super::Part;
use crate::{
    admin::{self, Told},
    cluster::enrol::{EnrolRefusal, Entitled, Petition},
    telemetry::request_id::RequestId,
};
use bytes::Bytes;
use cluster::{
    BoxFuture,
    gossip::{self, Membership, Sender, To, Wire},
    offload,
    peers::{Ask, EnrolReply, EnrolRequest, Frame, Inbox, Lost, Peer, Reason, Refusal, Refused, Reply, Ring, Unreachable, refusal},
    topology::ways,
    trust::Identity,
};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Weak},
};

/// How often a question about a member is passed on at most: to a representative here, to one there, to the member.
pub(super) const HOPS: u32 = 3;

/// How many members are asked whether they can let a node in.
const SIGNERS_ASKED: usize = 8;

pub(super) struct Ear(pub(super) Weak<Part>);

impl Inbox for Ear {
    fn frame(&self, from: &Peer, frame: Frame) {
        let Some(part) = self.0.upgrade() else { return };
        match frame {
            Frame::Gossip { ring, bytes } => {
                let sender = Sender { node: from.node.clone(), region: from.region.clone(), address: from.address };
                let ring = match ring {
                    Ring::Region => gossip::Ring::Region,
                    Ring::World => gossip::Ring::World,
                };
                part.gossip.receive(&sender, ring, bytes);
            }
            Frame::Leave => part.gossip.goodbye(&from.node, from.generation),
            // The link keeps the others, and counts what it does not know.
            _ => {}
        }
    }

    fn linked(&self, _peer: &Peer) {
        if let Some(part) = self.0.upgrade() {
            part.tell_links();
        }
    }

    fn members_of(&self, region: &str) -> Vec<SocketAddr> {
        let Some(part) = self.0.upgrade() else { return Vec::new() };
        part.gossip.view().of_region(region).filter(|member| member.is_alive()).map(|member| member.facts.address).collect()
    }

    fn lost(&self, peer: &Peer, why: &Lost) {
        let Some(part) = self.0.upgrade() else { return };
        part.tell_links();
        if let Lost::Malformed(why) = why {
            part.say(&format!("frames of {}", peer.node), &format!("{} sent what is no frame: {why}", peer.node));
        }
    }

    fn refused(&self, refused: &Refused) {
        let Some(part) = self.0.upgrade() else { return };
        let who = refused.node.as_deref().map(|node| format!("{node} at ")).unwrap_or_default();
        let address = refused.address;
        let verb = if refused.by_us { "is refused here" } else { "refuses this node" };
        let gist = format!("{verb}: {}", refused.message);
        // Whoever comes in comes from another port each time.
        part.say_as(&format!("link {who}{}", address.ip()), &gist, &format!("{who}{address} {gist}"));
    }

    fn ask(&self, from: &Identity, ask: Ask) -> BoxFuture<'_, Reply> {
        let part = self.0.upgrade();
        let from = from.node.clone();
        Box::pin(async move {
            match part {
                Some(part) => part.answer(&from, ask).await,
                None => told(Told::Unreachable { why: "the node ends".into(), gone: None }),
            }
        })
    }

    fn enrol(&self, from: Option<&Identity>, request: EnrolRequest) -> BoxFuture<'_, Result<EnrolReply, Refusal>> {
        let part = self.0.upgrade();
        let from = from.map(|identity| identity.node.clone());
        Box::pin(async move {
            match part {
                Some(part) => part.enrol(from, request).await,
                None => Err(refusal(Reason::Unable, "the node ends")),
            }
        })
    }
}

pub(super) struct Carrier(pub(super) Weak<Part>);

impl Wire for Carrier {
    fn send(&self, to: To, ring: gossip::Ring, bytes: Bytes) {
        let Some(part) = self.0.upgrade() else { return };
        let framed = match ring {
            gossip::Ring::Region => Ring::Region,
            gossip::Ring::World => Ring::World,
        };
        let address = match to {
            To::Member(address) => Some(address),
            To::Anyone => part.anyone(ring),
        };
        if let Some(address) = address {
            // Without a link it is lost, and the next one says the same.
            let _ = part.peers.send(address, Frame::Gossip { ring: framed, bytes });
        }
    }
}

impl Part {
    /// A peer by chance: of this region for its ring, of another one for the ring of the world.
    fn anyone(&self, ring: gossip::Ring) -> Option<SocketAddr> {
        let mut peers: Vec<Arc<Peer>> = self.peers.links().into_iter().map(|link| link.peer).collect();
        peers.retain(|peer| (peer.region == self.site.region) == (ring == gossip::Ring::Region));
        let at = usize::try_from(self.world.chance() % peers.len().max(1) as u64).unwrap_or_default();
        peers.get(at).map(|peer| peer.address)
    }

    fn tell_links(&self) {
        let links = self.peers.links();
        self.gossip.linked(links.into_iter().map(|link| (link.peer.node.clone(), link.peer.region.clone())).collect());
    }

    pub(super) fn linked(&self) -> BTreeSet<Arc<str>> {
        self.peers.links().into_iter().map(|link| link.peer.node.clone()).collect()
    }

    /// A page of a member: this one's, or passed on.
    async fn answer(self: &Arc<Self>, from: &str, ask: Ask) -> Reply {
        if *ask.to == *self.site.name {
            return self.own_page(ask).await;
        }
        let Some(hops_left) = ask.hops_left.checked_sub(1) else {
            return told(Told::Unreachable { why: "no way leads there".into(), gone: None });
        };
        match self.pass_on(Some(from), Ask { hops_left, ..ask.clone() }).await {
            Ok(reply) => reply,
            Err(unreachable) => told(self.unreachable(&ask.to, &unreachable)),
        }
    }

    /// Asks whoever is on a way to the member, nearest first, until one answers.
    pub(super) async fn pass_on(&self, from: Option<&str>, ask: Ask) -> Result<Reply, Unreachable> {
        let view = self.gossip.view();
        let mut last = Unreachable::Unknown;
        for next in ways(&view, &self.linked(), &ask.to).into_iter().filter(|next| from != Some(&**next)) {
            match self.peers.ask(&next, ask.clone()).await {
                // Somebody on the way found no way on: another one might.
                Ok(reply) if reply.status == u32::from(http::StatusCode::GATEWAY_TIMEOUT.as_u16()) && *next != *ask.to => {
                    last = Unreachable::Failed(format!("{next} does not reach it either"));
                }
                Ok(reply) => return Ok(reply),
                Err(unreachable) => last = unreachable,
            }
        }
        Err(last)
    }

    async fn own_page(self: &Arc<Self>, ask: Ask) -> Reply {
        let Some(node) = self.node() else {
            return told(Told::Unreachable { why: "the node starts".into(), gone: None });
        };
        let request_id = RequestId::new(self.world.wall(), [self.world.chance(), self.world.chance()]);
        let response = admin::serve::answer_peer(&node, ask.path, ask.query, request_id).await;
        let content_type = response.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Reply {
            status: response.status().as_u16().into(),
            content_type: content_type.unwrap_or_default().to_string(),
            body: response.body().clone(),
        }
    }

    /// Lets a node in, or has somebody let it in who can.
    async fn enrol(self: Arc<Self>, from: Option<Arc<str>>, request: EnrolRequest) -> Result<EnrolReply, Refusal> {
        let petition = Petition::read(&request)?;
        // What was passed on was asked of a member, whose certificate says nothing about who asks.
        if let (Entitled::Renewal { .. }, None) = (&petition.entitled, &from) {
            return Err(refusal(Reason::Anonymous, "a certificate is renewed over a connection that shows it"));
        }
        let admitted = offload(&*self.world, {
            let part = self.clone();
            move || {
                let view = part.gossip.view();
                let alive = |name: &str| view.members.get(name).is_some_and(|member| member.is_alive());
                part.desk.admit(&petition, alive, part.world.wall())
            }
        })
        .await;
        let admission = match admitted {
            Ok(admission) => admission,
            Err(EnrolRefusal::NoSigner { .. }) if request.hops_left > 0 => return self.have_enrolled(from, request).await,
            Err(no) => return Err(no.written()),
        };
        let view = self.gossip.view();
        let peers = view.alive().map(|member| member.facts.address.to_string()).take(SIGNERS_ASKED * 8).collect();
        Ok(admission.written(&self.settings.name, peers))
    }

    async fn have_enrolled(&self, from: Option<Arc<str>>, request: EnrolRequest) -> Result<EnrolReply, Refusal> {
        let view = self.gossip.view();
        let mut able: Vec<Arc<str>> = self.linked().into_iter().filter(|name| Some(name) != from.as_ref()).collect();
        let far = |name: &Arc<str>| view.members.get(name).is_none_or(|member| *member.facts.region != *request.region);
        able.sort_by_key(|name| (far(name), name.clone()));
        let mut last = refusal(Reason::Unable, format!("no member that is reached can sign for the region {}", request.region));
        for name in able.into_iter().take(SIGNERS_ASKED) {
            let passed = EnrolRequest { hops_left: request.hops_left - 1, ..request.clone() };
            match self.peers.enrol(&name, passed).await {
                Ok(reply) => return Ok(reply),
                Err(Unreachable::Refused(no)) if no.reason() != Reason::Unable => return Err(no),
                Err(Unreachable::Refused(no)) => last = no,
                // Somebody else may be there.
                Err(_) => {}
            }
        }
        Err(last)
    }

    /// What is to be said of a member that did not answer.
    pub(super) fn unreachable(&self, name: &str, why: &Unreachable) -> Told {
        let view = self.gossip.view();
        let gone = match view.members.get(name).map(|member| member.seen) {
            Some(cluster::member::Seen::Gone { since }) => Some(self.world.now().saturating_duration_since(since)),
            _ => None,
        };
        Told::Unreachable { why: why.to_string(), gone }
    }
}

fn told(told: Told) -> Reply {
    match told {
        Told::Answer { status, content_type, body } => Reply { status: status.into(), content_type, body },
        Told::Unreachable { why, gone } => {
            let gone = gone.map(|gone| format!("; not seen for {} s", gone.as_secs())).unwrap_or_default();
            Reply {
                status: http::StatusCode::GATEWAY_TIMEOUT.as_u16().into(),
                content_type: "text/plain; charset=utf-8".into(),
                body: format!("{why}{gone}\n").into(),
            }
        }
    }
}
