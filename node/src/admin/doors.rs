//! Who gets in: which names the node answers to, which browsers' pages may ask, and the token.
//!
//! A page on the web can make its reader's browser send requests to a loopback address. It cannot choose the `Host`
//! that goes with them, except by a name of its own that it lets point there; and it cannot hide its `Origin`. Both
//! are therefore checked, and for everybody, since a token may be known to the browser.

use super::refusal::Refusal;
use config::Secret;
use http::{HeaderMap, HeaderValue, header, request::Parts, uri::Authority};
use std::{
    collections::VecDeque,
    hint::black_box,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// How many wrong tokens within [`LOCKOUT_WINDOW`] are too many.
const FAILURES_MAX: usize = 10;

const LOCKOUT_WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Doors {
    pub token: Secret,
    pub metrics_open: bool,
    pub callers: Callers,
}

/// By what the listener may be called.
#[derive(Debug)]
pub struct Callers {
    /// What it is bound to.
    pub bound: SocketAddr,
    /// Names beside `localhost` and those under it: the ones of its certificate, `*.` in front of one standing for a
    /// single label. In lower case.
    pub names: Vec<String>,
    /// Whether it speaks TLS, which an `Origin` tells.
    pub tls: bool,
}

impl Doors {
    /// Answers 421 to any other name: a node is no authority for it.
    pub(super) fn check_name(&self, head: &Parts) -> Result<(), Refusal> {
        let authority = authority(head).ok_or(Refusal::NoName)?;
        if self.callers.know(&authority) { Ok(()) } else { Err(Refusal::Name) }
    }

    pub(super) fn check_origin(&self, head: &Parts) -> Result<(), Refusal> {
        let mut origins = head.headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return Ok(()) };
        let scheme: &[u8] = if self.callers.tls { b"https://" } else { b"http://" };
        let asked = origin.as_bytes().strip_prefix(scheme).and_then(|origin| Authority::try_from(origin).ok());
        let own = authority(head).and_then(|authority| Some(authority == asked?));
        if own == Some(true) && origins.next().is_none() { Ok(()) } else { Err(Refusal::Origin) }
    }

    /// Whether the request brings `Authorization: Bearer` with the token, once.
    pub(super) fn token_is_right(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else { return false };
        bearer(value).is_some_and(|token| equal(token, self.token.reveal().as_bytes()))
    }
}

impl Callers {
    /// An address in text cannot be made to point elsewhere, so where the listener has every address, every address
    /// is its own.
    fn know(&self, authority: &Authority) -> bool {
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match literal.parse::<IpAddr>() {
            Ok(address) => address.is_loopback() || address == self.bound.ip() || self.bound.ip().is_unspecified(),
            Err(_) => host == "localhost" || host.ends_with(".localhost") || self.names.iter().any(|name| covers(name, host)),
        }
    }
}

fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => name == host,
    }
}

/// By what the node was called: the target's authority where it has one, as in HTTP/2, and the `Host` otherwise.
fn authority(head: &Parts) -> Option<Authority> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let authority = match (head.uri.authority(), hosts.next()) {
        (Some(authority), None) => authority.clone(),
        (None, Some(host)) => Authority::try_from(host.as_bytes()).ok()?,
        (Some(authority), Some(host)) if authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) => authority.clone(),
        (Some(_), Some(_)) | (None, None) => return None,
    };
    let plain = hosts.next().is_none() && !authority.as_str().contains('@');
    plain.then_some(authority)
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// Takes as long for every token of the right length, so that its beginning cannot be guessed apart from its end.
fn equal(given: &[u8], token: &[u8]) -> bool {
    if given.len() != token.len() || token.is_empty() {
        return false;
    }
    let difference = given.iter().zip(token).fold(0, |difference, (a, b)| black_box(difference | (a ^ b)));
    black_box(difference) == 0
}

/// Remembers the last wrong tokens. It never stands in the way of the right one.
#[derive(Debug, Default)]
pub(super) struct Lockout {
    failures: VecDeque<Instant>,
}

impl Lockout {
    /// A token was wrong. Returns how long to wait if that is too often.
    pub(super) fn observe(&mut self, now: Instant) -> Option<Duration> {
        while self.failures.front().is_some_and(|first| now.saturating_duration_since(*first) >= LOCKOUT_WINDOW) {
            self.failures.pop_front();
        }
        if let Some(first) = self.failures.front()
            && self.failures.len() == FAILURES_MAX
        {
            return Some(LOCKOUT_WINDOW - now.saturating_duration_since(*first));
        }
        self.failures.push_back(now);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn doors(bound: &str) -> Doors {
        Doors {
            token: Secret::new("right"),
            metrics_open: false,
            callers: Callers {
                bound: bound.parse().expect("an address"),
                names: vec!["admin.example.com".into(), "*.nodes.example.com".into()],
                tls: false,
            },
        }
    }

    fn head(target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[track_caller]
    fn check_name(bound: &str, host: &str, known: bool) {
        assert_eq!(doors(bound).check_name(&head("/", &[("host", host)])).is_ok(), known, "{host} on {bound}");
    }

    #[test]
    fn a_node_answers_to_its_own_names() {
        for host in [
            "localhost",
            "LOCALHOST:9901",
            "shoal.localhost",
            "127.0.0.1",
            "127.8.0.1:1",
            "[::1]:9901",
            "admin.example.com.",
            "west-1.nodes.example.com",
        ] {
            check_name("127.0.0.1:9901", host, true);
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.1.2.3",
            "[2001:db8::1]",
            "notlocalhost",
            "0.0.0.0",
            "nodes.example.com",
            "a.b.nodes.example.com",
            ".nodes.example.com",
            "user@localhost",
        ] {
            check_name("127.0.0.1:9901", host, false);
        }
        check_name("10.1.2.3:9901", "10.1.2.3:9901", true);
        check_name("0.0.0.0:9901", "10.1.2.3", true);
        check_name("[::]:9901", "10.1.2.3", true);
        check_name("[::]:9901", "evil.example", false);
    }

    #[test]
    fn a_node_must_be_called_by_one_name() {
        let doors = doors("127.0.0.1:9901");
        assert!(doors.check_name(&head("/", &[])).is_err());
        assert!(doors.check_name(&head("/", &[("host", "localhost"), ("host", "localhost")])).is_err());
        assert!(doors.check_name(&head("http://localhost/", &[])).is_ok());
        assert!(doors.check_name(&head("http://localhost/", &[("host", "localhost")])).is_ok());
        assert!(doors.check_name(&head("http://localhost/", &[("host", "evil.example")])).is_err());
        assert!(doors.check_name(&head("http://evil.example/", &[])).is_err());
    }

    #[test]
    fn only_its_own_pages_may_ask() {
        for (origins, own) in [
            (&[][..], true),
            (&["http://localhost:9901"], true),
            (&["https://localhost:9901"], false),
            (&["http://localhost"], false),
            (&["http://evil.example"], false),
            (&["null"], false),
            (&["http://localhost:9901", "http://localhost:9901"], false),
        ] {
            let mut headers = vec![("host", "localhost:9901")];
            headers.extend(origins.iter().map(|origin| ("origin", *origin)));
            assert_eq!(doors("127.0.0.1:9901").check_origin(&head("/", &headers)).is_ok(), own, "{origins:?}");
        }
    }

    #[test]
    fn the_token_must_be_right() {
        for (given, right) in [
            (&["Bearer right"][..], true),
            (&["bearer right"], true),
            (&["Bearer wrong"], false),
            (&["Bearer righ"], false),
            (&["Bearer rightt"], false),
            (&["Bearer "], false),
            (&["Bearer"], false),
            (&["Basic right"], false),
            (&["right"], false),
            (&["Bearer right", "Bearer right"], false),
            (&[], false),
        ] {
            let headers = given.iter().map(|value| (header::AUTHORIZATION, HeaderValue::from_static(value))).collect();
            assert_eq!(doors("127.0.0.1:9901").token_is_right(&headers), right, "{given:?}");
        }
    }

    #[test]
    fn a_node_without_a_token_lets_nobody_in() {
        let doors = Doors { token: Secret::new(""), ..doors("127.0.0.1:9901") };
        assert!(!doors.token_is_right(&HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("Bearer "))])));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn ten_wrong_tokens_a_minute_are_enough() {
        let start = Instant::now();
        let mut lockout = Lockout::default();
        for second in 0..10 {
            assert_eq!(lockout.observe(start + Duration::from_secs(second)), None);
        }
        assert_eq!(lockout.observe(start + Duration::from_secs(20)), Some(Duration::from_secs(40)));
        assert_eq!(lockout.observe(start + Duration::from_secs(59)), Some(Duration::from_secs(1)));
        assert_eq!(lockout.observe(start + Duration::from_secs(60)), None);
        assert_eq!(lockout.observe(start + Duration::from_secs(60)), Some(Duration::from_secs(1)));
    }
}
