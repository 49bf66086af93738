//! Asking DNS servers: one question, over UDP, and over TCP where the answer is too long for that.
//!
//! A stub resolver, as a C library has one: recursion is the servers' work, and an alias comes with what it leads to. It keeps
//! nothing; how long an answer counts is decided by those who asked. Of what comes back only what fits the question is looked
//! at: from the server's address, with the number of the question, which like the port is drawn by chance, and about its name.

mod system;

use self::system::System;
use arc_swap::ArcSwap;
use cluster::{
    LOOKUP_BOUND, World,
    dns::{Absence, Answer, Question, Record, RecordKind},
    offload,
};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, RecordType},
};
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UdpSocket,
    time::timeout,
};

/// A datagram may be lost: the same question is sent again after this.
const SEND_AGAIN: Duration = Duration::from_millis(400);

/// One server is not waited for any longer, whatever the system allows: there may be others, and those who ask do not wait long.
const TRY_MAX: Duration = Duration::from_secs(2);

/// A server that was not told otherwise sends no more than 512 bytes in a datagram (RFC 1035); some do not keep to it.
const DATAGRAM_MAX: usize = 4096;

/// Aliases that are followed in one answer.
const ALIASES_MAX: usize = 16;

/// The DNS servers that a node asks, as the revision that serves names them; those of the system where it names none.
#[derive(Clone, Default)]
pub(crate) struct NameServers(Arc<ArcSwap<Vec<SocketAddr>>>);

impl NameServers {
    pub(crate) fn set(&self, servers: &[SocketAddr]) {
        self.0.store(Arc::new(servers.to_vec()));
    }

    pub(crate) fn get(&self) -> Arc<Vec<SocketAddr>> {
        self.0.load_full()
    }
}

/// Asks these servers, or those of the system where there are none.
pub(crate) async fn lookup(world: &dyn World, servers: &[SocketAddr], question: &Question) -> Answer {
    let disk = world.disk();
    let system = offload(world, move || System::read(&*disk)).await;
    match timeout(LOOKUP_BOUND, search(world, &system, servers, question)).await {
        Ok(answer) => answer,
        Err(_elapsed) => failed("no DNS server answered in time"),
    }
}

fn failed(why: impl AsRef<str>) -> Answer {
    Answer::Failed(why.as_ref().into())
}

/// Asks for each name that the question may mean until one has what is asked for. That there is nothing is certain only if it
/// was said about all of them.
async fn search(world: &dyn World, system: &System, servers: &[SocketAddr], question: &Question) -> Answer {
    if let Some(known) = system.known(question) {
        return known;
    }
    let servers = if servers.is_empty() { &system.servers } else { servers };
    if servers.is_empty() {
        return failed("there is no DNS server to ask; name one in `[node] dns` or in /etc/resolv.conf");
    }
    let mut trouble = None;
    let mut absence = Absence::NoName;
    for name in system.candidates(&question.name) {
        let Ok(name) = Name::from_ascii(&name) else {
            trouble.get_or_insert_with(|| failed("the name is too long for DNS"));
            continue;
        };
        match ask_all(world, system, servers, &name, question.kind).await {
            records @ Answer::Records { .. } => return records,
            Answer::Nothing(Absence::NoRecord) => absence = Absence::NoRecord,
            Answer::Nothing(Absence::NoName) => {}
            failed @ Answer::Failed(_) => {
                trouble.get_or_insert(failed);
            }
        }
    }
    trouble.unwrap_or(Answer::Nothing(absence))
}

/// Asks one server after the other until one knows. Those that all stay silent are asked again.
async fn ask_all(world: &dyn World, system: &System, servers: &[SocketAddr], name: &Name, kind: RecordKind) -> Answer {
    let mut silent = String::new();
    for _ in 0..system.attempts {
        let mut refused = None;
        for server in servers {
            match Exchange::new(world, *server, name, kind).run(system.timeout.min(TRY_MAX)).await {
                Ok(Answer::Failed(why)) => refused = Some(failed(format!("{server} says {why}"))),
                Ok(answer) => return answer,
                Err(error) => silent = format!("{server}: {error}"),
            }
        }
        if let Some(refused) = refused {
            return refused;
        }
    }
    failed(silent)
}

/// A question to one server.
struct Exchange<'a> {
    world: &'a dyn World,
    server: SocketAddr,
    question: Message,
}

impl<'a> Exchange<'a> {
    fn new(world: &'a dyn World, server: SocketAddr, name: &Name, kind: RecordKind) -> Self {
        let id = (world.chance() >> 48) as u16;
        let mut question = Message::new(id, MessageType::Query, OpCode::Query);
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name.clone(), record_type(kind)));
        Self { world, server, question }
    }

    /// What the server says. Errors are about reaching it.
    async fn run(&self, within: Duration) -> io::Result<Answer> {
        let bytes = self.question.to_vec().map_err(io::Error::other)?;
        let mut reply = bounded(within, self.over_udp(&bytes)).await?;
        if reply.metadata.truncation {
            reply = bounded(within, self.over_tcp(&bytes)).await?;
        }
        Ok(read(&reply, &self.question.queries[0]))
    }

    #[expect(clippy::disallowed_methods, reason = "this is how the real world looks names up")]
    async fn over_udp(&self, question: &[u8]) -> io::Result<Message> {
        let any = if self.server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        // The system chooses the port, by chance. Connected, so that others are not heard and an unreachable server is noticed.
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        socket.connect(self.server).await?;
        let mut datagram = [0; DATAGRAM_MAX];
        loop {
            socket.send(question).await?;
            let heard = timeout(SEND_AGAIN, async {
                loop {
                    let length = socket.recv(&mut datagram).await?;
                    if let Some(reply) = self.fitting(&datagram[..length]) {
                        return Ok(reply);
                    }
                }
            });
            if let Ok(reply) = heard.await {
                return reply;
            }
        }
    }

    async fn over_tcp(&self, question: &[u8]) -> io::Result<Message> {
        let mut stream = self.world.connect(self.server).await?;
        let length = u16::try_from(question.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
        let length = stream.read_u16().await?;
        let mut reply = vec![0; usize::from(length)];
        stream.read_exact(&mut reply).await?;
        self.fitting(&reply).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer does not fit the question"))
    }

    /// The message, if it is a reply to this question.
    fn fitting(&self, bytes: &[u8]) -> Option<Message> {
        // Most of what does not fit has another number, and need not be taken apart.
        if bytes.get(..2)? != self.question.metadata.id.to_be_bytes() {
            return None;
        }
        let reply = Message::from_vec(bytes).ok()?;
        (reply.metadata.message_type == MessageType::Response && reply.queries == self.question.queries).then_some(reply)
    }
}

async fn bounded<T>(within: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(within, work).await {
        Ok(done) => done,
        Err(_elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
    }
}

fn record_type(kind: RecordKind) -> RecordType {
    match kind {
        RecordKind::A => RecordType::A,
        RecordKind::Aaaa => RecordType::AAAA,
        RecordKind::Srv => RecordType::SRV,
    }
}

/// What a reply says about a question: the records at the end of the aliases that begin with its name.
fn read(reply: &Message, question: &Query) -> Answer {
    let code = reply.metadata.response_code;
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return failed(format!("\"{code}\""));
    }
    let answers = || reply.answers.iter().filter(|record| record.dns_class == DNSClass::IN);
    let mut owner = question.name();
    let mut ttls = Vec::new();
    for _ in 0..ALIASES_MAX {
        let alias = answers().filter(|record| record.name == *owner).find_map(|record| match &record.data {
            RData::CNAME(target) => Some((record.ttl, &target.0)),
            _ => None,
        });
        let Some((ttl, target)) = alias else { break };
        ttls.push(ttl);
        owner = target;
    }
    let mut records = Vec::new();
    for record in answers().filter(|record| record.name == *owner && record.record_type() == question.query_type()) {
        ttls.push(record.ttl);
        records.extend(understood(&record.data));
    }
    if !records.is_empty() {
        let ttl = ttls.into_iter().map(lifetime).min().unwrap_or_default();
        return Answer::Records { records, ttl };
    }
    let names = |kind| reply.authorities.iter().any(|record| record.record_type() == kind);
    if code == ResponseCode::NXDomain {
        Answer::Nothing(Absence::NoName)
    } else if names(RecordType::NS) && !names(RecordType::SOA) {
        failed("that others know; it does not ask them")
    } else {
        Answer::Nothing(Absence::NoRecord)
    }
}

fn understood(data: &RData) -> Option<Record> {
    match data {
        RData::A(ip) => Some(Record::Address(ip.0.into())),
        RData::AAAA(ip) => Some(Record::Address(ip.0.into())),
        RData::SRV(srv) => Some(Record::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: srv.target.to_ascii().to_ascii_lowercase().into(),
        }),
        _ => None,
    }
}

/// A time to live with the highest bit set is none (RFC 2181).
fn lifetime(ttl: u32) -> Duration {
    Duration::from_secs(if ttl > i32::MAX as u32 { 0 } else { u64::from(ttl) })
}

#[cfg(test)]
mod tests;
