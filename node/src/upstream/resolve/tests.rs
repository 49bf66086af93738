use super::*;
use crate::world::RealWorld;
use hickory_proto::rr::{
    Record as Line,
    rdata::{A, AAAA, CNAME, NS, SRV},
};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};

/// What a server sends back for a question over UDP (`false`) or TCP: any number of datagrams.
type Script = dyn Fn(Message, bool) -> Vec<Message> + Send + Sync;

/// A server that does as it is told.
struct Server {
    address: SocketAddr,
    /// What it was asked: the transport, the type and the name.
    asked: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "a server needs sockets of its own")]
    async fn start(script: impl Fn(Message, bool) -> Vec<Message> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
            // The port may be taken for the other transport.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("it is bound")).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let serving = tokio::spawn(serve(udp, tcp, Box::new(script), Arc::clone(&asked)));
        Self { address, asked, serving }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panics with it").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(udp: UdpSocket, tcp: TcpListener, script: Box<Script>, asked: Arc<Mutex<Vec<String>>>) {
    let note = |how: &str, message: &Message| {
        let query = &message.queries[0];
        asked.lock().expect("no test panics with it").push(format!("{how} {} {}", query.query_type(), query.name()));
    };
    let mut datagram = [0; DATAGRAM_MAX];
    loop {
        tokio::select! {
            received = udp.recv_from(&mut datagram) => {
                let (length, from) = received.expect("a datagram can be received");
                let question = Message::from_vec(&datagram[..length]).expect("a question");
                note("udp", &question);
                for reply in script(question, false) {
                    udp.send_to(&reply.to_vec().expect("a reply"), from).await.expect("a reply can be sent");
                }
            }
            accepted = tcp.accept() => {
                let (mut stream, _) = accepted.expect("a connection can be accepted");
                let mut question = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
                stream.read_exact(&mut question).await.expect("a whole question");
                let question = Message::from_vec(&question).expect("a question");
                note("tcp", &question);
                for reply in script(question, true) {
                    let bytes = reply.to_vec().expect("a reply");
                    stream.write_u16(bytes.len() as u16).await.expect("a length can be sent");
                    stream.write_all(&bytes).await.expect("a reply can be sent");
                }
            }
        }
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

/// `owner ttl type data`, one for each record.
fn lines(text: &str) -> Vec<Line> {
    let line = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |at: usize| words[at].parse().expect("a number");
        let data = match words[2] {
            "A" => RData::A(A(words[3].parse().expect("an address"))),
            "AAAA" => RData::AAAA(AAAA(words[3].parse().expect("an address"))),
            "CNAME" => RData::CNAME(CNAME(name(words[3]))),
            "SRV" => RData::SRV(SRV::new(number(3), number(4), number(5), name(words[6]))),
            other => panic!("{other} is no type"),
        };
        Line::from_rdata(name(words[0]), words[1].parse().expect("a ttl"), data)
    };
    text.split(',').filter(|text| !text.trim().is_empty()).map(line).collect()
}

fn reply(question: &Message, code: ResponseCode, records: &str) -> Message {
    let mut reply = Message::response(question.metadata.id, OpCode::Query);
    reply.metadata.response_code = code;
    reply.add_query(question.queries[0].clone());
    reply.add_answers(lines(records));
    reply
}

fn says(records: &'static str) -> impl Fn(Message, bool) -> Vec<Message> + Send + Sync {
    move |question, _| vec![reply(&question, ResponseCode::NoError, records)]
}

fn question(name: &str, kind: RecordKind) -> Question {
    Question { name: name.into(), kind }
}

async fn ask(servers: &[&Server], name: &str, kind: RecordKind) -> Answer {
    let servers: Vec<_> = servers.iter().map(|server| server.address).collect();
    lookup(&RealWorld::new(), &servers, &question(name, kind)).await
}

fn addresses(ips: &[&str], ttl: u64) -> Answer {
    let records = ips.iter().map(|ip| Record::Address(ip.parse().expect("an address"))).collect();
    Answer::Records { records, ttl: Duration::from_secs(ttl) }
}

#[test]
fn an_answer_is_what_stands_at_the_end_of_the_aliases() {
    use RecordKind::{A, Aaaa, Srv};
    let check = |kind: RecordKind, code: ResponseCode, records: &str, expected: Answer| {
        let mut asked = Message::query();
        asked.add_query(Query::query(name("a.test."), record_type(kind)));
        assert_eq!(read(&reply(&asked, code, records), &asked.queries[0]), expected, "{records}");
    };
    let ok = ResponseCode::NoError;
    check(A, ok, "a.test. 30 A 10.0.0.1, a.test. 20 A 10.0.0.2", addresses(&["10.0.0.1", "10.0.0.2"], 20));
    check(A, ok, "A.TEST. 30 A 10.0.0.1", addresses(&["10.0.0.1"], 30));
    check(Aaaa, ok, "a.test. 30 AAAA ::1, a.test. 5 A 10.0.0.1", addresses(&["::1"], 30));
    // The least time of the chain counts, in whatever order it is told.
    check(A, ok, "a.test. 30 CNAME b.test., b.test. 7 CNAME c.test., c.test. 60 A 10.0.0.1", addresses(&["10.0.0.1"], 7));
    check(A, ok, "c.test. 60 A 10.0.0.1, b.test. 70 CNAME c.test., a.test. 30 CNAME b.test.", addresses(&["10.0.0.1"], 30));
    check(A, ok, "a.test. 4294967295 A 10.0.0.1", addresses(&["10.0.0.1"], 0));
    // What was not asked for is not looked at.
    check(A, ok, "b.test. 30 A 10.0.0.1", Answer::Nothing(Absence::NoRecord));
    check(A, ok, "a.test. 30 CNAME b.test., a.test. 30 A 10.0.0.1", Answer::Nothing(Absence::NoRecord));
    check(A, ok, "a.test. 30 CNAME b.test., b.test. 30 CNAME a.test.", Answer::Nothing(Absence::NoRecord));
    check(A, ok, "", Answer::Nothing(Absence::NoRecord));
    check(A, ResponseCode::NXDomain, "", Answer::Nothing(Absence::NoName));
    check(A, ResponseCode::NXDomain, "a.test. 30 CNAME b.test.", Answer::Nothing(Absence::NoName));
    let srv = |target: &str| Record::Srv { priority: 1, weight: 2, port: 80, target: target.into() };
    let services = |target: &str| Answer::Records { records: vec![srv(target)], ttl: Duration::from_secs(9) };
    check(Srv, ok, "a.test. 9 SRV 1 2 80 B.test.", services("b.test."));
    check(Srv, ok, "a.test. 9 SRV 1 2 80 .", services("."));
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::FormErr] {
        check(A, code, "a.test. 30 A 10.0.0.1", failed(format!("\"{code}\"")));
    }
}

#[test]
fn a_server_that_only_says_who_might_know_has_not_answered() {
    let mut asked = Message::query();
    asked.add_query(Query::query(name("a.test."), RecordType::A));
    let mut referral = reply(&asked, ResponseCode::NoError, "");
    referral.add_authority(Line::from_rdata(name("test."), 30, RData::NS(NS(name("ns.test.")))));
    assert!(matches!(read(&referral, &asked.queries[0]), Answer::Failed(_)));
}

#[tokio::test]
async fn a_question_is_asked_and_answered() {
    let server = Server::start(says("a.test. 30 CNAME b.test., b.test. 5 A 10.0.0.1")).await;
    assert_eq!(ask(&[&server], "a.test.", RecordKind::A).await, addresses(&["10.0.0.1"], 5));
    assert_eq!(server.asked(), ["udp A a.test."]);
    let server = Server::start(says("_http._tcp.a.test. 30 SRV 1 2 80 b.test.")).await;
    assert!(matches!(ask(&[&server], "_http._tcp.a.test.", RecordKind::Srv).await, Answer::Records { .. }));
}

#[tokio::test]
async fn a_cut_answer_is_asked_for_again_over_tcp() {
    let many: String = (0..200).map(|last| format!("a.test. 30 A 10.0.0.{last},")).collect();
    let server = Server::start(move |question, tcp| {
        let mut reply = reply(&question, ResponseCode::NoError, if tcp { &many } else { "a.test. 30 A 10.0.0.1" });
        reply.metadata.truncation = !tcp;
        vec![reply]
    })
    .await;
    let answer = ask(&[&server], "a.test.", RecordKind::A).await;
    assert_eq!(answer.addresses().count(), 200);
    assert_eq!(server.asked(), ["udp A a.test.", "tcp A a.test."]);
}

#[tokio::test]
async fn what_does_not_fit_the_question_is_ignored() {
    let server = Server::start(|question, _| {
        let right = reply(&question, ResponseCode::NoError, "a.test. 30 A 10.0.0.1");
        let mut forged = reply(&question, ResponseCode::NoError, "a.test. 30 A 10.6.6.6");
        forged.metadata.id ^= 1;
        let mut other_name = reply(&question, ResponseCode::NoError, "a.test. 30 A 10.6.6.6");
        other_name.queries = vec![Query::query(name("b.test."), RecordType::A)];
        let mut other_type = reply(&question, ResponseCode::NoError, "a.test. 30 A 10.6.6.6");
        other_type.queries = vec![Query::query(name("a.test."), RecordType::AAAA)];
        let mut none = reply(&question, ResponseCode::NoError, "a.test. 30 A 10.6.6.6");
        none.queries.clear();
        vec![forged, other_name, other_type, none, question, right]
    })
    .await;
    assert_eq!(ask(&[&server], "a.test.", RecordKind::A).await, addresses(&["10.0.0.1"], 30));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_lost_question_is_sent_again() {
    let lost = Mutex::new(true);
    let server = Server::start(move |question, _| {
        let lost = std::mem::take(&mut *lost.lock().expect("no test panics with it"));
        if lost { Vec::new() } else { vec![reply(&question, ResponseCode::NoError, "a.test. 30 A 10.0.0.1")] }
    })
    .await;
    assert_eq!(ask(&[&server], "a.test.", RecordKind::A).await, addresses(&["10.0.0.1"], 30));
}

#[tokio::test]
async fn a_server_that_fails_or_is_silent_leaves_it_to_the_next() {
    let silent = Server::start(|_, _| Vec::new()).await;
    let refusing = Server::start(|question, _| vec![reply(&question, ResponseCode::Refused, "")]).await;
    let knowing = Server::start(says("a.test. 30 A 10.0.0.1")).await;
    assert_eq!(ask(&[&silent, &refusing, &knowing], "a.test.", RecordKind::A).await, addresses(&["10.0.0.1"], 30));
    assert_eq!(refusing.asked().len(), 1);
    // An absence is an answer, and the order of the servers counts.
    let empty = Server::start(|question, _| vec![reply(&question, ResponseCode::NXDomain, "")]).await;
    assert_eq!(ask(&[&empty, &knowing], "a.test.", RecordKind::A).await, Answer::Nothing(Absence::NoName));
    let answer = ask(&[&refusing], "a.test.", RecordKind::A).await;
    assert!(matches!(&answer, Answer::Failed(why) if why.contains("says")), "{answer:?}");
    assert_eq!(refusing.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "the clock that this test turns")]
async fn silence_is_a_failure_within_the_bound() {
    let silent = Server::start(|_, _| Vec::new()).await;
    let began = Instant::now();
    let answer = ask(&[&silent, &silent, &silent, &silent, &silent], "a.test.", RecordKind::A).await;
    assert!(matches!(&answer, Answer::Failed(why) if why.contains("in time")), "{answer:?}");
    assert_eq!(began.elapsed().as_secs(), LOOKUP_BOUND.as_secs());
}

#[tokio::test]
async fn the_machine_itself_needs_no_server() {
    let server = Server::start(says("")).await;
    let found: Vec<IpAddr> = ask(&[&server], "localhost", RecordKind::A).await.addresses().collect();
    assert_eq!(found, [Ipv4Addr::LOCALHOST]);
    assert!(server.asked().is_empty());
}
