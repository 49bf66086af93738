//! A caller that sends any bytes, at any pace, and reads what comes back by the letter.

use crate::{
    h1::{Decoder, Fields, Framing, Head, Io, Wire},
    wait::within,
};
use std::{io, net::SocketAddr};
use tokio::net::{TcpSocket, TcpStream};

pub struct Caller {
    pub wire: Wire,
    local: SocketAddr,
}

/// A whole answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The code of the problem that the answer is.
    pub fn code(&self) -> String {
        assert_eq!(self.fields.get("content-type"), Some("application/problem+json"), "{self:?}");
        self.json()["code"].as_str().expect("a problem has a code").to_string()
    }

    /// Asserts that the answer is this refusal of the gateway's.
    pub fn refuses(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}\n{}", self.text());
        let problem = self.json();
        assert_eq!(self.code(), code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["request_id"].as_str(), self.fields.get("x-request-id"), "{problem}");
    }
}

impl Caller {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await;
        Self::of(stream.unwrap_or_else(|error| panic!("{address}: {error}")))
    }

    /// Connects with so little room to receive that a sender soon feels when nothing is read.
    pub async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4 * 1024).expect("a small buffer");
        Self::of(within("a connection", socket.connect(address)).await.expect("the address is listened at"))
    }

    /// `None` where nobody listens.
    pub async fn try_connect(address: SocketAddr) -> Option<Self> {
        within("a connection or its refusal", TcpStream::connect(address)).await.ok().map(Self::of)
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket of TCP");
        let local = stream.local_addr().expect("a connected socket has an address");
        Self { wire: Wire::new(Box::new(stream)), local }
    }

    pub fn over(io: Box<dyn Io>, local: SocketAddr) -> Self {
        Self { wire: Wire::new(io), local }
    }

    /// Where it calls from.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("room to send", self.wire.send(bytes)).await.expect("the gateway still reads");
    }

    /// Sends what may be refused half-way.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within("room to send", self.wire.send(bytes)).await
    }

    /// The head of the next answer. Answers of class 1xx are answers here.
    pub async fn head(&mut self) -> Head {
        let raw = within("the head of an answer", self.wire.head()).await;
        let raw = raw.expect("the connection still stands").expect("an answer instead of the end of the connection");
        Head::parse(&raw).unwrap_or_else(|fault| panic!("the gateway answered what a strict reader refuses: {fault}"))
    }

    /// The next answer to a request of `method`, whole.
    pub async fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.head().await;
        let mut decoder = Decoder::new(framing(&head, method));
        let body = within("the body of an answer", self.wire.body(&mut decoder)).await;
        let body = body.unwrap_or_else(|error| panic!("the answer broke off: {error}; {head:?}"));
        Answer { status: status(&head), fields: head.fields, body, trailers: decoder.trailers }
    }

    pub async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    /// The head of the next answer, and what its body is to be read with.
    pub async fn begin(&mut self) -> (Head, Decoder) {
        let head = self.head().await;
        let decoder = Decoder::new(framing(&head, "GET"));
        (head, decoder)
    }

    /// The next piece of a body; `None` at its end.
    pub async fn piece(&mut self, decoder: &mut Decoder) -> io::Result<Option<Vec<u8>>> {
        within("a piece of the answer", self.wire.piece(decoder)).await
    }

    /// Sends a request and takes its answer.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        let request = request.as_ref();
        self.send(request).await;
        let method = String::from_utf8_lossy(request.split(|byte| *byte == b' ').next().unwrap_or_default()).into_owned();
        self.answer_to(&method).await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask(format!("GET {path} HTTP/1.1\r\nhost: shop.test\r\n\r\n")).await
    }

    /// Waits for the other end to end the connection, and returns what it still had to say.
    pub async fn end(&mut self) -> Vec<u8> {
        within("the end of the connection", async { while matches!(self.wire.fill().await, Ok(1..)) {} }).await;
        std::mem::take(&mut self.wire.buffer)
    }
}

/// One request on a connection of its own.
pub async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    Caller::connect(address).await.ask(request).await
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    Caller::connect(address).await.get(path).await
}

/// A request with fields of its own: lines without their ends.
pub fn request(line: &str, fields: &[&str], body: &str) -> String {
    let mut request = format!("{line} HTTP/1.1\r\nhost: shop.test\r\n");
    for field in fields {
        request.push_str(field);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request.push_str(body);
    request
}

pub fn status(head: &Head) -> u16 {
    let mut words = head.start.splitn(3, ' ');
    assert!(matches!(words.next(), Some("HTTP/1.1" | "HTTP/1.0")), "{}", head.start);
    words.next().and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status in {:?}", head.start))
}

/// RFC 9112 6.3: answers to HEAD and some statuses have no body, whatever they declare.
fn framing(head: &Head, method: &str) -> Framing {
    let declared = head.framing().unwrap_or_else(|fault| panic!("the gateway answered with {fault}"));
    match status(head) {
        100..200 | 204 | 304 => Framing::Length(0),
        _ if method == "HEAD" => Framing::Length(0),
        _ => declared.unwrap_or(Framing::UntilClose),
    }
}
