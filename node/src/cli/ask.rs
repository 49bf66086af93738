//! Asking a node that runs: one request, one answer, and a sentence where there is none.

use super::{Exit, Failure, Surroundings, block_on, error};
use crate::{
    tls::{SystemRoots, UpstreamTls},
    upstream::{ConnectError, Purpose, Target, resolve::NameServers},
};
use actors::service::names::Located;
use bytes::Bytes;
use cluster::World;
use config::{Endpoint, EndpointTls, Protocol};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{
    fmt,
    future::poll_fn,
    path::{Path, PathBuf},
    pin::pin,
    str::FromStr,
    task::Poll,
    time::Duration,
};

/// Where admin listens unless a file says otherwise.
pub(super) const ADMIN: &str = "127.0.0.1:9901";

/// An answer that is longer is none of ours.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// How long a node may take to answer an operator.
const WITHIN: Duration = Duration::from_secs(5);

/// Which node is asked, and how.
#[derive(clap::Args, Debug)]
pub(super) struct Desk {
    /// The node's admin listener.
    #[arg(long, value_name = "ADDR", env = "SHOAL_ADMIN", default_value = ADMIN)]
    pub(super) admin: Address,
    /// Its token, as printed at the start or set in the file.
    #[arg(long, env = "SHOAL_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// PEM file with the authority of the certificate that it shows.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Desk {
    pub(super) fn get(&self, path: &str, surroundings: &Surroundings) -> Result<Value, Failure> {
        self.ask(Method::GET, path, None, surroundings)
    }

    pub(super) fn post(&self, path: &str, question: &Value, surroundings: &Surroundings) -> Result<Value, Failure> {
        self.ask(Method::POST, path, Some(question), surroundings)
    }

    /// All items of a list, page by page. `path` has a query.
    pub(super) fn list(&self, path: &str, surroundings: &Surroundings) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let mut page = self.get(&format!("{path}{cursor}"), surroundings)?;
            let Some(Value::Array(found)) = page.get_mut("items").map(Value::take) else { return Err(self.other_version("no list")) };
            items.extend(found);
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(items),
            }
        }
    }

    fn ask(&self, method: Method, path: &str, question: Option<&Value>, surroundings: &Surroundings) -> Result<Value, Failure> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut body = Bytes::new();
        if let Some(question) = question {
            request = request.header(header::CONTENT_TYPE, "application/json");
            body = serde_json::to_vec(question).expect("a question is JSON").into();
        }
        let request = request
            .body(Full::new(body))
            .map_err(|_| Failure::usage("the token is not one that a header can have", "copy it from what the node printed"))?;
        let answer = block_on(ask(&*surroundings.world, &self.admin, self.ca.as_deref(), request, WITHIN))??;
        if answer.status().is_success() {
            return serde_json::from_slice(answer.body()).map_err(|error| self.other_version(&error.to_string()));
        }
        Err(self.refused(answer.status(), answer.body()))
    }

    pub(super) fn other_version(&self, why: &str) -> Failure {
        Failure {
            exit: Exit::Failed,
            code: error::OTHER_VERSION,
            message: format!("{} answered something else: {why}", self.admin),
            help: Some("use the `shoal` that the node runs".to_string()),
        }
    }

    /// What the node said instead, in its own words.
    fn refused(&self, status: StatusCode, body: &Bytes) -> Failure {
        let problem: Value = serde_json::from_slice(body).unwrap_or_default();
        let words = |member: &str| problem[member].as_str().map(String::from);
        let said = words("detail").or(words("title")).unwrap_or_else(|| status.to_string());
        let code = words("code").unwrap_or_default();
        match code.as_str() {
            "E9004" | "E9005" | "E9006" => Failure {
                exit: Exit::Refused,
                code: error::TOKEN,
                message: format!("{}: {}", self.admin, words("title").unwrap_or(said)),
                help: Some("give the node's token by --token or SHOAL_TOKEN".to_string()),
            },
            "E9015" => Failure::usage(said, "see --help of the verb"),
            "E9016" => Failure {
                exit: Exit::Refused,
                code: error::known("E9016"),
                message: format!("{}: {}", self.admin, words("title").unwrap_or_default()),
                help: Some(said),
            },
            code @ ("E9017" | "E9018" | "E9019" | "E9020" | "E9021" | "E9022" | "E9023" | "E9030" | "E9031" | "E9032" | "E9033") => {
                Failure { exit: Exit::Failed, code: error::known(code), message: said, help: None }
            }
            _ => Failure {
                exit: Exit::Failed,
                code: error::UNREACHABLE,
                message: format!("{} answered {status}: {said}", self.admin),
                help: None,
            },
        }
    }
}

/// A host and a port, and whether TLS is spoken there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Address {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

impl FromStr for Address {
    type Err = String;

    /// Takes `host:port`, `:port` for this machine, and either behind a scheme, whose own port may be left out.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no address; write it as host:port");
        let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
        let (tls, own_port) = match scheme {
            None => (false, None),
            Some("http") => (false, Some(80)),
            Some("https") => (true, Some(443)),
            Some(other) => return Err(format!("`{other}` is not http or https")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse::<u16>().map_err(|_| wrong())?)),
            _ => (rest, None),
        };
        let port = port.or(own_port).ok_or_else(wrong)?;
        let host = match host {
            "" => "127.0.0.1",
            host => host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host),
        };
        let named = crate::request::target::host(&bracketed(host)).is_ok();
        if named { Ok(Self { tls, host: host.to_string(), port }) } else { Err(wrong()) }
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_string() }
}

impl Address {
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

/// A word as one segment of a path, or as a value of a query.
pub(super) fn encoded(word: &str) -> String {
    let mut encoded = String::with_capacity(word.len());
    for byte in word.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => encoded.push(byte.into()),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// The address of a URL, and the path with its query.
pub(super) fn url(text: &str) -> Result<(Address, String), Failure> {
    let wrong = |message: String| Failure::usage(message, "write it as http://host:port/path");
    let Some((scheme, rest)) = text.split_once("://") else { return Err(wrong(format!("`{text}` is no URL"))) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let address = format!("{scheme}://{}", &rest[..end]).parse().map_err(wrong)?;
    let path = match &rest[end..] {
        path if path.starts_with('/') => path.to_string(),
        path => format!("/{path}"),
    };
    Ok((address, path))
}

/// Sends a request and reads the whole answer.
pub(super) async fn ask(
    world: &dyn World,
    address: &Address,
    ca: Option<&Path>,
    mut request: Request<Full<Bytes>>,
    within: Duration,
) -> Result<Response<Bytes>, Failure> {
    let authority = address.authority().parse().expect("an address is a header value");
    request.headers_mut().insert(header::HOST, authority);
    match tokio::time::timeout(within, exchange(world, address, ca, request, within)).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(unreachable(address, "it does not answer in time")),
    }
}

async fn exchange(
    world: &dyn World,
    address: &Address,
    ca: Option<&Path>,
    request: Request<Full<Bytes>>,
    within: Duration,
) -> Result<Response<Bytes>, Failure> {
    let tls = if address.tls { Some(tls(world, ca)?) } else { None };
    let located = Located::written(Endpoint::new(address.tls, address.host.as_str().into(), address.port));
    let target = Target::new(&located, Protocol::H1, NameServers::default());
    let dialed = target.dial(world, tls.as_ref(), Purpose::Requests, within).await;
    let stream = dialed.map_err(|error| unreachable(address, &sentence(&error)))?.stream;
    let broken = |error: hyper::Error| unreachable(address, &format!("it does not speak HTTP: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut connection = pin!(connection);
    let mut exchange = pin!(async {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await;
        let body = body.map_err(|error| unreachable(address, &format!("its answer breaks off: {error}")))?;
        Ok(Response::from_parts(head, body.to_bytes()))
    });
    let mut open = true;
    poll_fn(|cx| {
        // How the connection ends is told by the exchange.
        if open && connection.as_mut().poll(cx).is_ready() {
            open = false;
        }
        match exchange.as_mut().poll(cx) {
            Poll::Pending if !open => Poll::Ready(Err(unreachable(address, "it closed the connection"))),
            polled => polled,
        }
    })
    .await
}

fn tls(world: &dyn World, ca: Option<&Path>) -> Result<UpstreamTls, Failure> {
    let files = EndpointTls { ca: ca.map(Path::to_path_buf), identity: None, server_name: None };
    let disk = world.disk();
    let read = |path: &Path| disk.read(path);
    UpstreamTls::load(&files, Protocol::H1, &SystemRoots::default(), &read, world.wall()).map_err(|error| Failure {
        exit: Exit::Failed,
        code: error::TLS,
        message: error.to_string(),
        help: None,
    })
}

fn sentence(error: &ConnectError) -> String {
    match error {
        ConnectError::Name(error) => format!("its name has no address: {error}"),
        ConnectError::Refused(error) => format!("it cannot be connected to: {error}"),
        ConnectError::Tls(error) => format!("no TLS with it: {error}"),
        ConnectError::TimedOut | ConnectError::PoolFull | ConnectError::WaitingFull => "it does not answer in time".to_string(),
    }
}

fn unreachable(address: &Address, why: &str) -> Failure {
    Failure {
        exit: Exit::Unreachable,
        code: error::UNREACHABLE,
        message: format!("{address}: {why}"),
        help: Some("start a node with `shoal run`, or name the one you mean".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let read = text.parse::<Address>().map_or_else(|error| error, |address| address.to_string());
        assert_eq!(read, expected);
    }

    #[test]
    fn an_address_may_be_written_short() {
        check("127.0.0.1:9901", "http://127.0.0.1:9901");
        check(":9901", "http://127.0.0.1:9901");
        check("http://localhost", "http://localhost:80");
        check("https://admin.example/", "https://admin.example:443");
        check("[::1]:9901", "http://[::1]:9901");
        check("https://[::1]", "https://[::1]:443");
        check("localhost", "`localhost` is no address; write it as host:port");
        check("localhost:", "`localhost:` is no address; write it as host:port");
        check("a b:1", "`a b:1` is no address; write it as host:port");
        check("ftp://a:1", "`ftp` is not http or https");
    }

    #[test]
    fn a_url_has_an_address_and_a_path() {
        let check = |text: &str, expected: &str| {
            let (address, path) = url(text).expect("a URL");
            assert_eq!(format!("{address} {path}"), expected);
        };
        check("http://127.0.0.1:8080/readyz?a=b", "http://127.0.0.1:8080 /readyz?a=b");
        check("https://a.example", "https://a.example:443 /");
        check("http://a.example?b", "http://a.example:80 /?b");
        assert_eq!(url("a.example/b").expect_err("no URL").exit, Exit::Usage);
    }
}
