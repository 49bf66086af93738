//! A DNS server on loopback that says what a test has written, and can be told otherwise while it runs.
//!
//! It reads questions and writes answers by itself, byte for byte after RFC 1035, so that a resolver is held against the page and
//! not against the library that it was made with.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinHandle,
};

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const INTERNET: u16 = 1;

const SERVER_FAILURE: u16 = 2;
const NO_SUCH_NAME: u16 = 3;

/// Aliases that are followed for one answer.
const ALIASES_MAX: usize = 16;

/// What a datagram may carry; longer answers are cut.
const DATAGRAM_MAX: usize = 512;

pub struct NameServer {
    pub address: SocketAddr,
    table: Arc<Mutex<Table>>,
    serving: JoinHandle<()>,
}

/// What is said of names. One that is not there does not exist.
#[derive(Default)]
struct Table {
    names: BTreeMap<String, Says>,
    /// How often each name was asked for: over UDP, and over TCP.
    asked: BTreeMap<String, (usize, usize)>,
}

/// What is said of one name.
#[derive(Clone, Debug)]
pub enum Says {
    /// For so many seconds, whichever of these the question is about.
    Records(u32, Vec<Data>),
    /// The name is another one's alias, for so many seconds.
    Alias(u32, String),
    /// Nothing about IPv6, and this about the rest.
    NothingOnIpv6(Box<Says>),
    ServerFailure,
    Silence,
}

#[derive(Clone, Debug)]
pub enum Data {
    Address(IpAddr),
    Service { priority: u16, weight: u16, port: u16, target: String },
}

impl Says {
    /// Addresses, for so many seconds.
    pub fn addresses(ttl: u32, ips: &[&str]) -> Self {
        Self::Records(ttl, ips.iter().map(|ip| Data::Address(ip.parse().expect("an address"))).collect())
    }
}

impl NameServer {
    /// Starts with a table in which no name exists.
    pub async fn start() -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
            // Somebody may hold the port for the other transport.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("a bound listener has an address")).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().expect("a bound socket has an address");
        let table = Arc::new(Mutex::new(Table::default()));
        let serving = tokio::spawn(serve(udp, tcp, table.clone()));
        Self { address, table, serving }
    }

    /// What the name says from now on.
    pub fn set(&self, name: &str, says: Says) {
        self.table().names.insert(name.to_string(), says);
    }

    /// Makes the name one that does not exist.
    pub fn remove(&self, name: &str) {
        self.table().names.remove(name);
    }

    /// How often the name was asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.table().asked.get(name).map_or(0, |(udp, tcp)| udp + tcp)
    }

    /// How often the name was asked for over TCP.
    pub fn asked_over_tcp(&self, name: &str) -> usize {
        self.table().asked.get(name).map_or(0, |(_, tcp)| *tcp)
    }

    /// The server as `[node] dns` has it.
    pub fn keys(&self) -> String {
        format!("[node]\ndns = [\"{}\"]\n\n", self.address)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no test panics with the table")
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(udp: UdpSocket, tcp: TcpListener, table: Arc<Mutex<Table>>) {
    let mut datagram = [0; DATAGRAM_MAX];
    loop {
        tokio::select! {
            Ok((length, from)) = udp.recv_from(&mut datagram) => {
                if let Some(answer) = answer(&datagram[..length], &table, false) {
                    // Whoever asked may be gone.
                    let _ = udp.send_to(&answer, from).await;
                }
            }
            Ok((stream, _)) = tcp.accept() => {
                tokio::spawn(serve_stream(stream, table.clone()));
            }
        }
    }
}

/// RFC 1035, 4.2.2: each message after its length.
async fn serve_stream(mut stream: TcpStream, table: Arc<Mutex<Table>>) -> io::Result<()> {
    loop {
        let mut question = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut question).await?;
        if let Some(answer) = answer(&question, &table, true) {
            stream.write_all(&[&(answer.len() as u16).to_be_bytes(), &answer[..]].concat()).await?;
        }
    }
}

/// What is sent back; `None` is silence.
fn answer(message: &[u8], table: &Mutex<Table>, tcp: bool) -> Option<Vec<u8>> {
    let question = Question::read(message)?;
    let mut table = table.lock().expect("no test panics with the table");
    let (over_udp, over_tcp) = table.asked.entry(question.name.clone()).or_default();
    *(if tcp { over_tcp } else { over_udp }) += 1;

    let mut records = Vec::new();
    let mut owner = question.name.clone();
    let mut code = 0;
    for _ in 0..ALIASES_MAX {
        let mut says = table.names.get(&owner);
        if let Some(Says::NothingOnIpv6(rest)) = says {
            if question.kind == AAAA {
                return None;
            }
            says = Some(rest);
        }
        match says {
            None => code = NO_SUCH_NAME,
            Some(Says::ServerFailure) => code = SERVER_FAILURE,
            Some(Says::Silence | Says::NothingOnIpv6(_)) => return None,
            Some(Says::Records(ttl, all)) => {
                records.extend(all.iter().filter(|data| data.kind() == question.kind).map(|data| record(&owner, *ttl, data)));
            }
            Some(Says::Alias(ttl, target)) => {
                records.push(line(&owner, CNAME, *ttl, &encoded(target)));
                owner = target.clone();
                continue;
            }
        }
        break;
    }
    let whole = question.reply(code, false, &records);
    Some(if tcp || whole.len() <= DATAGRAM_MAX { whole } else { question.reply(code, true, &[]) })
}

struct Question {
    id: [u8; 2],
    name: String,
    kind: u16,
    /// As it was written.
    section: Vec<u8>,
}

impl Question {
    /// RFC 1035, 4.1.1 and 4.1.2. `None` for what is no standard query about one name of the internet.
    fn read(message: &[u8]) -> Option<Self> {
        let header = message.first_chunk::<12>()?;
        let is_query = header[2] & 0b1111_1000 == 0;
        if !is_query || header[4..6] != [0, 1] {
            return None;
        }
        let mut labels = Vec::new();
        let mut at = header.len();
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            // The first name of a message has nothing to point at.
            let label = message.get(at..at + length).filter(|_| length < 64)?;
            labels.push(String::from_utf8(label.to_ascii_lowercase()).ok()?);
            at += length;
        }
        let [kind_high, kind_low, class @ ..] = *message.get(at..)?.first_chunk::<4>()?;
        let section = message[header.len()..at + 4].to_vec();
        let question =
            Self { id: [header[0], header[1]], name: labels.join("."), kind: u16::from_be_bytes([kind_high, kind_low]), section };
        (u16::from_be_bytes(class) == INTERNET).then_some(question)
    }

    fn reply(&self, code: u16, cut: bool, records: &[Vec<u8>]) -> Vec<u8> {
        const RESPONSE: u16 = 1 << 15;
        const TRUNCATED: u16 = 1 << 9;
        const RECURSION_DESIRED: u16 = 1 << 8;
        const RECURSION_AVAILABLE: u16 = 1 << 7;
        let flags = RESPONSE | RECURSION_DESIRED | RECURSION_AVAILABLE | code | if cut { TRUNCATED } else { 0 };
        let counts = [1, records.len() as u16, 0, 0];
        let mut reply = self.id.to_vec();
        reply.extend(flags.to_be_bytes());
        reply.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        reply.extend(&self.section);
        reply.extend(records.iter().flatten());
        reply
    }
}

impl Data {
    fn kind(&self) -> u16 {
        match self {
            Self::Address(ip) if ip.is_ipv4() => A,
            Self::Address(_) => AAAA,
            Self::Service { .. } => SRV,
        }
    }
}

fn record(owner: &str, ttl: u32, data: &Data) -> Vec<u8> {
    let bytes = match data {
        Data::Address(IpAddr::V4(ip)) => ip.octets().to_vec(),
        Data::Address(IpAddr::V6(ip)) => ip.octets().to_vec(),
        Data::Service { priority, weight, port, target } => {
            let numbers = [priority, weight, port].into_iter().flat_map(|number| number.to_be_bytes());
            numbers.chain(encoded(target)).collect()
        }
    };
    line(owner, data.kind(), ttl, &bytes)
}

/// RFC 1035, 4.1.3, without compression.
fn line(owner: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut line = encoded(owner);
    line.extend([kind, INTERNET].iter().flat_map(|number| number.to_be_bytes()));
    line.extend(ttl.to_be_bytes());
    line.extend((data.len() as u16).to_be_bytes());
    line.extend(data);
    line
}

fn encoded(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}
