//! An endpoint that keeps what it is sent and answers as a test tells it to, well or badly.
//!
//! Every request is held against a strict reader of RFC 9112; a test whose gateway forwarded anything that this reader
//! refuses fails when its origin is dropped, whatever it was about.

use crate::{
    h1::{Decoder, Fields, Framing, Head, Io, Wire, request_faults},
    wait::until_some,
};
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How a request is answered. An error ends the connection, which is what becomes of a gateway that goes away.
type Script = dyn for<'a> Fn(&'a mut Exchange) -> BoxFuture<'a, io::Result<()>> + Send + Sync;

pub struct Origin {
    pub address: SocketAddr,
    log: Arc<Log>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Log {
    requests: Mutex<Vec<Recorded>>,
    faults: Mutex<Vec<String>>,
    connections: AtomicUsize,
    open: AtomicUsize,
}

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    pub method: String,
    pub target: String,
    pub fields: Fields,
    pub raw_head: String,
    /// As much of it as has been read so far.
    pub body: Vec<u8>,
    /// Bytes of it that have been read so far; where the body is not kept, this is all that is known of it.
    pub body_size: u64,
    pub trailers: Fields,
    /// Whether its end has been seen.
    pub complete: bool,
    /// The connection that it came on, counted from 0.
    pub connection: usize,
}

impl Recorded {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Origin {
    /// Answers every request as `script` says. What a script leaves unread of a body is read after it.
    pub async fn start<F>(script: F) -> Self
    where
        F: for<'a> Fn(&'a mut Exchange) -> BoxFuture<'a, io::Result<()>> + Send + Sync + 'static,
    {
        Self::bound(None, Arc::new(script)).await
    }

    /// The same over TLS.
    pub async fn start_tls<F>(tls: TlsAcceptor, script: F) -> Self
    where
        F: for<'a> Fn(&'a mut Exchange) -> BoxFuture<'a, io::Result<()>> + Send + Sync + 'static,
    {
        Self::bound(Some(tls), Arc::new(script)).await
    }

    /// Reads each body whole and answers with `status` and `body`.
    pub async fn saying(status: &'static str, body: &'static str) -> Self {
        Self::start(move |exchange| {
            Box::pin(async move {
                exchange.body().await?;
                exchange.answer(status, "", body).await
            })
        })
        .await
    }

    /// Answers 200 with `body`, for tests that are about what arrived.
    pub async fn ok() -> Self {
        Self::saying("200 OK", "ok").await
    }

    /// Answers 200 at an address where another one may come after it, once it has let go of that.
    pub async fn at(address: SocketAddr) -> Self {
        let free = || {
            let socket = TcpSocket::new_v4().ok()?;
            // What is left of connections keeps nobody away who says the same.
            socket.set_reuseaddr(true).ok()?;
            socket.bind(address).ok()?;
            socket.listen(4096).ok()
        };
        let listener = until_some("the address to be free", free).await;
        Self::listening(
            listener,
            None,
            Arc::new(|exchange: &mut Exchange| {
                Box::pin(async move {
                    exchange.body().await?;
                    exchange.answer("200 OK", "", "ok").await
                })
            }),
        )
    }

    /// Origins that answer 200 at one port of 127.0.0.1, 127.0.0.2 and so on, as the hosts behind a name are.
    pub async fn siblings<const COUNT: usize>() -> [Self; COUNT] {
        let script: Arc<Script> = Arc::new(|exchange: &mut Exchange| {
            Box::pin(async move {
                exchange.body().await?;
                exchange.answer("200 OK", "", "ok").await
            })
        });
        loop {
            let first = listen();
            let port = first.local_addr().expect("a bound listener has an address").port();
            let mut listeners = vec![first];
            // Somebody may hold the port at another address.
            listeners.extend((2..=COUNT as u8).map_while(|host| bind(([127, 0, 0, host], port).into()).ok()));
            if let Ok(listeners) = <[TcpListener; COUNT]>::try_from(listeners) {
                return listeners.map(|listener| Self::listening(listener, None, script.clone()));
            }
        }
    }

    /// Reads each body whole and sends it back.
    pub async fn echo() -> Self {
        Self::start(|exchange| {
            Box::pin(async move {
                let body = exchange.body().await?;
                exchange.answer("200 OK", "", &body).await
            })
        })
        .await
    }

    async fn bound(tls: Option<TlsAcceptor>, script: Arc<Script>) -> Self {
        Self::listening(listen(), tls, script)
    }

    fn listening(listener: TcpListener, tls: Option<TlsAcceptor>, script: Arc<Script>) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let log = Arc::new(Log::default());
        let accepting = tokio::spawn(accept(listener, tls, script, log.clone()));
        Self { address, log, accepting }
    }

    /// `http://address`, as it stands in a file.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.log.requests().clone()
    }

    pub fn count(&self) -> usize {
        self.log.requests().len()
    }

    /// The only request so far.
    pub fn request(&self) -> Recorded {
        let requests = self.log.requests();
        assert_eq!(requests.len(), 1, "the origin was asked once: {requests:?}");
        requests[0].clone()
    }

    /// Waits until a request is as it should be.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Recorded) -> bool) -> Recorded {
        until_some(what, || self.log.requests().iter().find(|request| wanted(request)).cloned()).await
    }

    /// Connections that were ever accepted.
    pub fn connections(&self) -> usize {
        self.log.connections.load(SeqCst)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.log.open.load(SeqCst)
    }

    /// What a strict reader refused. Asking takes it off the record.
    pub fn take_faults(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.faults())
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accepting.abort();
        let faults = self.take_faults();
        if !faults.is_empty() && !std::thread::panicking() {
            panic!("the gateway forwarded what a strict reader refuses: {faults:#?}");
        }
    }
}

impl Log {
    fn requests(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.requests.lock().expect("no test panics while it holds the record")
    }

    fn faults(&self) -> MutexGuard<'_, Vec<String>> {
        self.faults.lock().expect("no test panics while it holds the record")
    }

    fn fault(&self, what: impl Into<String>) {
        self.faults().push(what.into());
    }
}

/// A free port of loopback with room for a burst: a short backlog loses connections without a word.
pub fn listen() -> TcpListener {
    bind(([127, 0, 0, 1], 0).into()).expect("loopback has a free port")
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(address)?;
    socket.listen(4096)
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, script: Arc<Script>, log: Arc<Log>) {
    // Connections end with their origin.
    let mut serving = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let connection = log.connections.fetch_add(1, SeqCst);
        let (script, log, tls) = (script.clone(), log.clone(), tls.clone());
        serving.spawn(async move {
            log.open.fetch_add(1, SeqCst);
            let io: Option<Box<dyn Io>> = match tls {
                None => Some(Box::new(stream)),
                Some(tls) => tls.accept(stream).await.ok().map(|stream| Box::new(stream) as Box<dyn Io>),
            };
            if let Some(io) = io {
                // However the gateway leaves is its own affair.
                let _ = serve(Wire::new(io), &*script, &log, connection).await;
            }
            log.open.fetch_sub(1, SeqCst);
        });
    }
}

async fn serve(mut wire: Wire, script: &Script, log: &Arc<Log>, connection: usize) -> io::Result<()> {
    while let Some(raw) = wire.head().await? {
        let head = match Head::parse(&raw) {
            Ok(head) => head,
            Err(fault) => {
                log.fault(fault);
                return Ok(());
            }
        };
        for fault in request_faults(&head) {
            log.fault(fault);
        }
        let mut words = head.start.split(' ').map(str::to_string);
        let recorded = Recorded {
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            fields: head.fields.clone(),
            raw_head: String::from_utf8_lossy(&raw).into_owned(),
            connection,
            ..Recorded::default()
        };
        let decoder = Decoder::new(head.framing().ok().flatten().unwrap_or(Framing::Length(0)));
        let index = {
            let mut requests = log.requests();
            requests.push(Recorded { complete: decoder.is_done(), ..recorded.clone() });
            requests.len() - 1
        };
        let mut exchange = Exchange { request: recorded, wire, decoder, log: log.clone(), index, keep: true, keep_body: true };
        script(&mut exchange).await?;
        if !exchange.keep {
            return exchange.wire.finish().await;
        }
        exchange.body().await?;
        wire = exchange.wire;
    }
    Ok(())
}

/// One request, and the connection to answer it on.
pub struct Exchange {
    pub request: Recorded,
    pub wire: Wire,
    decoder: Decoder,
    log: Arc<Log>,
    index: usize,
    /// Whether the connection carries another request afterwards.
    pub keep: bool,
    /// Whether the record holds the bytes of the body, and not only their number.
    pub keep_body: bool,
}

impl Exchange {
    /// The next piece of the request's body, as soon as it is there.
    pub async fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        let read = self.wire.piece(&mut self.decoder).await;
        let mut requests = self.log.requests();
        let recorded = &mut requests[self.index];
        match &read {
            Ok(Some(piece)) => {
                recorded.body_size += piece.len() as u64;
                if self.keep_body {
                    recorded.body.extend(piece);
                }
                recorded.complete = self.decoder.is_done();
            }
            Ok(None) => {
                recorded.complete = true;
                recorded.trailers = self.decoder.trailers.clone();
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => self.log.fault(error.to_string()),
            // A body that breaks off is no body that is malformed.
            Err(_) => {}
        }
        read
    }

    /// What is left of the request's body.
    pub async fn body(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            if self.keep_body {
                body.extend(piece);
            }
        }
        Ok(body)
    }

    /// Sends bytes as they are.
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.send(bytes).await
    }

    /// A whole answer with a length. `fields` are lines with their ends.
    pub async fn answer(&mut self, status: &str, fields: &str, body: impl AsRef<[u8]>) -> io::Result<()> {
        let body = body.as_ref();
        let mut answer = format!("HTTP/1.1 {status}\r\n{fields}content-length: {}\r\n\r\n", body.len()).into_bytes();
        if self.request.method != "HEAD" {
            answer.extend(body);
        }
        self.say(answer).await
    }

    /// One chunk of an answer that has said it would be chunked.
    pub async fn chunk(&mut self, data: impl AsRef<[u8]>) -> io::Result<()> {
        let data = data.as_ref();
        let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
        chunk.extend(data);
        chunk.extend(b"\r\n");
        self.say(chunk).await
    }

    /// Never answers: waits until the gateway has had enough.
    pub async fn silence(&mut self) -> io::Result<()> {
        while self.wire.fill().await? > 0 {}
        self.keep = false;
        Ok(())
    }

    /// Ends the connection after what has been said.
    pub fn hang_up(&mut self) {
        self.keep = false;
    }
}

/// An address at which nobody listens.
pub async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    listener.local_addr().expect("a bound listener has an address")
}
