//! Dialing: those who are wanted, for as long as they are wanted, and single calls.

use super::{
    Ask, EnrolReply, EnrolRequest, Inner, Reply, Unlinked, Wanted,
    backoff::{Backoff, LONGEST},
    hello::{self, Refused, refusal},
    leash::{Hold, Leash, Once},
    link::{Conversation, Ear, Ended, Line, Order, Outgoing, cause},
};
use crate::{
    World,
    trust::{Identity, Trust, is_doubted_by_us},
};
use futures_util::FutureExt;
use proto::{
    PeerClient, Reason, Refusal,
    codec::Crosses,
    frame::{self, Frame},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt, io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

/// How long the node with the larger name lets the other one dial first.
const HEAD_START: Duration = Duration::from_millis(300);

/// How often links that nobody wants are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// How long an answer to a request for a certificate may take: it may have to be passed on.
const ENROL: Duration = Duration::from_secs(20);

const STREAM_WINDOW: u32 = 512 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Why a call came to nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unreachable {
    /// No link to it, and nobody has said where it is.
    Unknown,
    Failed(String),
    Late,
    Refused(Refusal),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Goal {
    Target(Arc<str>),
    Seed(SocketAddr),
}

/// A goal that has not been reached.
#[derive(Clone, Debug)]
pub(super) struct Failing {
    address: SocketAddr,
    since: Instant,
    attempts: u32,
    why: String,
}

pub(super) fn unlinked(inner: &Inner) -> Vec<Unlinked> {
    let (now, table) = (inner.world.now(), inner.table());
    let failing = inner.failing();
    let still = failing.iter().filter(|(goal, _)| match goal {
        // The peer may have dialed us meanwhile.
        Goal::Target(node) => table.get(node).is_none(),
        Goal::Seed(address) => table.at(*address, |_| false).is_none(),
    });
    let view = |(goal, failing): (&Goal, &Failing)| Unlinked {
        node: match goal {
            Goal::Target(node) => Some(Arc::clone(node)),
            Goal::Seed(_) => None,
        },
        address: failing.address,
        since: now.saturating_duration_since(failing.since),
        attempts: failing.attempts,
        why: failing.why.clone(),
    };
    still.map(view).collect()
}

pub(super) async fn run(inner: &Arc<Inner>) {
    let mut wanted = inner.wanted.subscribe();
    let mut pursuits = JoinSet::new();
    let mut pursued = BTreeSet::new();
    let mut unwanted = BTreeMap::new();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let goals = wanted.borrow_and_update().goals();
        for goal in goals {
            if pursued.insert(goal.clone()) {
                pursuits.spawn(pursue(Arc::clone(inner), goal));
            }
        }
        tokio::select! {
            biased;
            // The sender lives in `inner`.
            _ = wanted.changed() => {}
            Some(ended) = pursuits.join_next() => match ended {
                Ok(goal) => {
                    pursued.remove(&goal);
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            },
            _ = look.tick() => close_unwanted(inner, &mut unwanted),
        }
    }
}

impl Wanted {
    fn goals(&self) -> Vec<Goal> {
        let seeds = self.seeds.union(&self.introduced).copied();
        self.targets.keys().cloned().map(Goal::Target).chain(seeds.map(Goal::Seed)).collect()
    }

    fn seeks(&self, address: SocketAddr) -> bool {
        self.seeds.contains(&address) || self.introduced.contains(&address)
    }
}

/// Closes what we dialed and have not wanted for a while. Who has no targets yet does not know what it wants.
fn close_unwanted(inner: &Inner, since: &mut BTreeMap<Arc<str>, Instant>) {
    let now = inner.world.now();
    let wanted = inner.wanted.borrow();
    let table = inner.table();
    let is_unwanted = |node: &Arc<str>| !wanted.targets.is_empty() && !wanted.targets.contains_key(node);
    let unwanted: BTreeSet<Arc<str>> =
        table.iter().filter(|link| link.dialed_by_us && is_unwanted(&link.peer.node)).map(|link| Arc::clone(&link.peer.node)).collect();
    since.retain(|node, _| unwanted.contains(node));
    for node in unwanted {
        let begun = *since.entry(Arc::clone(&node)).or_insert(now);
        if now.saturating_duration_since(begun) >= inner.options.unwanted
            && let Some(link) = table.get(&node)
        {
            link.order(Order::Unwanted);
        }
    }
}

async fn pursue(inner: Arc<Inner>, goal: Goal) -> Goal {
    match &goal {
        Goal::Target(name) => pursue_target(&inner, name).await,
        Goal::Seed(address) => pursue_seed(&inner, *address).await,
    }
    inner.failing().remove(&goal);
    goal
}

/// Keeps a link to the node for as long as it is wanted.
async fn pursue_target(inner: &Arc<Inner>, name: &Arc<str>) {
    let (mut wanted, mut changes) = (inner.wanted.subscribe(), inner.changes.subscribe());
    let mut backoff = Backoff::default();
    let mut waits_for_them = *inner.me().node > **name;
    loop {
        let Some(address) = wanted.borrow_and_update().targets.get(name).copied() else { return };
        changes.borrow_and_update();
        if inner.table().get(name).is_some() {
            tokio::select! {
                biased;
                _ = wanted.changed() => {}
                _ = changes.changed() => {}
            }
            continue;
        }
        let still = |wanted: &Wanted| wanted.targets.get(name) == Some(&address);
        if std::mem::take(&mut waits_for_them) {
            rest(&mut wanted, HEAD_START, still).await;
            continue;
        }
        let ended = dial(inner, address, Some(name)).await;
        note(inner, Goal::Target(Arc::clone(name)), address, &ended);
        advance(&mut backoff, &ended);
        rest(&mut wanted, backoff.wait(inner.world.chance()), still).await;
    }
}

/// Links the seed once in each round, and again when there is no link at all.
async fn pursue_seed(inner: &Arc<Inner>, address: SocketAddr) {
    let (mut wanted, mut changes) = (inner.wanted.subscribe(), inner.changes.subscribe());
    let mut backoff = Backoff::default();
    let mut linked_in = 0;
    let mut is_itself = false;
    loop {
        let (still, round) = {
            let wanted = wanted.borrow_and_update();
            (wanted.seeks(address), wanted.round)
        };
        if !still {
            return;
        }
        changes.borrow_and_update();
        let (is_linked, alone) = {
            let table = inner.table();
            (table.at(address, |_| false).is_some(), table.len() == 0)
        };
        if is_linked {
            linked_in = round;
        }
        is_itself |= inner.me().address == address;
        if is_itself || (linked_in == round && !alone) {
            tokio::select! {
                biased;
                _ = wanted.changed() => {}
                _ = changes.changed(), if !is_itself => {}
            }
            continue;
        }
        let ended = dial(inner, address, None).await;
        match &ended {
            Ended::Linked { .. } | Ended::Refused(Reason::Duplicate) => linked_in = wanted.borrow().round,
            Ended::Refused(Reason::Itself) => is_itself = true,
            _ => {}
        }
        note(inner, Goal::Seed(address), address, &ended);
        advance(&mut backoff, &ended);
        rest(&mut wanted, backoff.wait(inner.world.chance()), |wanted| wanted.seeks(address)).await;
    }
}

/// Remembers what came of an attempt, for those who ask why somebody is not there.
fn note(inner: &Inner, goal: Goal, address: SocketAddr, ended: &Ended) {
    let mut failing = inner.failing();
    let why = match ended {
        Ended::Linked { .. } | Ended::Refused(Reason::Duplicate | Reason::Itself) => {
            failing.remove(&goal);
            return;
        }
        Ended::Refused(reason) => format!("the link was refused ({})", reason.as_str_name().to_lowercase()),
        Ended::Failed(why) => why.clone(),
    };
    let begun = || Failing { address, since: inner.world.now(), attempts: 0, why: String::new() };
    let known = failing.entry(goal).or_insert_with(begun);
    known.attempts = known.attempts.saturating_add(1);
    (known.address, known.why) = (address, why);
}

fn advance(backoff: &mut Backoff, ended: &Ended) {
    match ended {
        Ended::Linked { lasted } if *lasted >= LONGEST => *backoff = Backoff::default(),
        // The link that there is already may be about to end.
        Ended::Refused(Reason::Duplicate) | Ended::Linked { .. } | Ended::Failed(_) => {}
        Ended::Refused(_) => backoff.refused(),
    }
}

/// Waits, unless what is wanted changes so that waiting has lost its point.
async fn rest(wanted: &mut watch::Receiver<Wanted>, wait: Duration, still: impl Fn(&Wanted) -> bool) {
    tokio::select! {
        biased;
        _ = wanted.wait_for(|wanted| !still(wanted)) => {}
        () = sleep(wait) => {}
    }
}

/// Dials, and holds the link until it ends. What panics in it is the end of this link and no other.
async fn dial(inner: &Arc<Inner>, address: SocketAddr, expected: Option<&Arc<str>>) -> Ended {
    let ended = AssertUnwindSafe(dial_once(inner, address, expected)).catch_unwind().await;
    ended.unwrap_or(Ended::Refused(Reason::Unspecified))
}

async fn dial_once(inner: &Arc<Inner>, address: SocketAddr, expected: Option<&Arc<str>>) -> Ended {
    let unreached = |why: String| {
        inner.counts.unreached.fetch_add(1, Relaxed);
        Ended::Failed(why)
    };
    let opened = timeout(inner.options.handshake, open(&*inner.world, &*inner.trust, address)).await;
    let mut open = match opened {
        Ok(Ok(open)) => open,
        Ok(Err(error)) => {
            return match is_doubted_by_us(&error) {
                Some(by_us) => refused(inner, by_us, None, address, &refusal(Reason::Untrusted, error)),
                None => unreached(error.to_string()),
            };
        }
        Err(_) => return unreached("it does not answer in time".to_owned()),
    };
    let node = Arc::clone(&open.identity.node);
    if let Some(expected) = expected.filter(|expected| **expected != node) {
        let wrong = refusal(Reason::Name, format_args!("{expected} was to be there and {node} is"));
        return refused(inner, true, Some(node), address, &wrong);
    }
    if inner.table().get(&node).is_some() {
        return Ended::Refused(Reason::Duplicate);
    }
    let dial = inner.dial_number();
    let line = Line::new(inner.world.now());
    line.put(Frame::Hello(hello::greeting(&inner.me(), dial)), &inner.counts);
    let asked = timeout(inner.options.handshake, open.client.link(Outgoing::new(inner, &line))).await;
    let incoming = match asked {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => {
            return match said_no(&status, Some(&open.hold)) {
                Some(refusal) => refused(inner, false, Some(node), address, &refusal),
                None => unreached(cause(&status)),
            };
        }
        Err(_) => return unreached("it does not answer in time".to_owned()),
    };
    let conversation = Conversation {
        inner: Arc::clone(inner),
        identity: open.identity,
        address,
        line,
        dialed: Some((dial, open.client)),
        ear: Ear::new(inner, incoming),
    };
    let ended = conversation.run(()).await;
    drop(open.hold);
    ended
}

fn refused(inner: &Inner, by_us: bool, node: Option<Arc<str>>, address: SocketAddr, refusal: &Refusal) -> Ended {
    let refused = Refused::new(by_us, node, address, refusal);
    inner.refused(&refused);
    Ended::Refused(refused.reason)
}

/// Whether the other side refused us, rather than not being there.
fn said_no(status: &Status, hold: Option<&Hold>) -> Option<Refusal> {
    if let Some(distrust) = hold.and_then(Hold::distrust) {
        return Some(refusal(Reason::Untrusted, distrust));
    }
    match status.code() {
        Code::Unauthenticated => Some(refusal(Reason::Anonymous, status.message())),
        Code::ResourceExhausted => Some(refusal(Reason::Busy, status.message())),
        _ => None,
    }
}

/// A connection whose other end is known.
struct Open {
    identity: Identity,
    client: PeerClient<Channel>,
    hold: Hold,
}

async fn open(world: &dyn World, trust: &dyn Trust, address: SocketAddr) -> io::Result<Open> {
    let (stream, identity) = trust.connect(world.connect(address).await?).await?;
    let (leash, hold) = Leash::new(stream);
    let endpoint = Endpoint::from_static("http://peer")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(8 << 10);
    let connected = endpoint.connect_with_connector(Once::new(leash)).await;
    let channel = connected.map_err(|error| match hold.distrust() {
        Some(distrust) => io::Error::new(io::ErrorKind::InvalidInput, distrust),
        None => io::Error::other(cause(&error)),
    })?;
    let client = PeerClient::new(channel).max_decoding_message_size(frame::BYTES_MAX);
    Ok(Open { identity, client, hold })
}

pub(super) async fn ask(inner: &Inner, to: &str, ask: Ask) -> Result<Reply, Unreachable> {
    let asking = async {
        let (client, hold) = client(inner, to).await?;
        let answered = client.max_decoding_message_size(Reply::BYTES_MAX).ask(ask).await;
        answered.map(tonic::Response::into_inner).map_err(|status| failed(&status, hold.as_ref()))
    };
    timeout(inner.options.ask, asking).await.unwrap_or(Err(Unreachable::Late))
}

pub(super) async fn pass_on(inner: &Inner, to: &str, request: EnrolRequest) -> Result<EnrolReply, Unreachable> {
    let passing = async {
        let (client, hold) = client(inner, to).await?;
        request_certificate(client, hold.as_ref(), request).await
    };
    timeout(ENROL, passing).await.unwrap_or(Err(Unreachable::Late))
}

/// Presents a token and a signing request to the member at `address`, from a node that has no certificate yet. Whether
/// that is a member is for `trust` to know, by what the token says about the cluster's authority.
pub async fn enrol(world: &dyn World, trust: &dyn Trust, address: SocketAddr, request: EnrolRequest) -> Result<EnrolReply, Unreachable> {
    let enrolling = async {
        let open = open(world, trust, address).await.map_err(|error| not_open(&error))?;
        request_certificate(open.client, Some(&open.hold), request).await
    };
    timeout(ENROL, enrolling).await.unwrap_or(Err(Unreachable::Late))
}

async fn request_certificate(client: PeerClient<Channel>, hold: Option<&Hold>, request: EnrolRequest) -> Result<EnrolReply, Unreachable> {
    let answered = client.max_decoding_message_size(EnrolReply::BYTES_MAX).enrol(request).await;
    admitted(answered.map(tonic::Response::into_inner).map_err(|status| failed(&status, hold))?)
}

/// The answer, unless it is no; then why, as it can be told to an operator.
pub(super) fn admitted(mut reply: EnrolReply) -> Result<EnrolReply, Unreachable> {
    match reply.refusal.take() {
        Some(no) => Err(Unreachable::Refused(refusal(no.reason(), no.message))),
        None => Ok(reply),
    }
}

/// The connection of the link if we dialed it, and a new one otherwise: a call goes from who dialed to who was dialed.
async fn client(inner: &Inner, to: &str) -> Result<(PeerClient<Channel>, Option<Hold>), Unreachable> {
    let known = inner.table().get(to).map(|link| (link.client.clone(), link.peer.address));
    let address = match known {
        Some((Some(client), _)) => return Ok((client, None)),
        Some((None, address)) => address,
        None => inner.wanted.borrow().targets.get(to).copied().ok_or(Unreachable::Unknown)?,
    };
    let open = open(&*inner.world, &*inner.trust, address).await.map_err(|error| not_open(&error))?;
    if *open.identity.node != *to {
        return Err(Unreachable::Failed(format!("{} is at {address} in its place", open.identity.node)));
    }
    Ok((open.client, Some(open.hold)))
}

fn not_open(error: &io::Error) -> Unreachable {
    match is_doubted_by_us(error) {
        Some(_) => Unreachable::Refused(refusal(Reason::Untrusted, error)),
        None => Unreachable::Failed(error.to_string()),
    }
}

fn failed(status: &Status, hold: Option<&Hold>) -> Unreachable {
    match said_no(status, hold) {
        Some(refusal) => Unreachable::Refused(refusal),
        None => Unreachable::Failed(cause(status)),
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no member of that name is known here"),
            Self::Failed(why) => f.write_str(why),
            Self::Late => f.write_str("it does not answer in time"),
            Self::Refused(refusal) => f.write_str(&refusal.message),
        }
    }
}

impl Error for Unreachable {}
