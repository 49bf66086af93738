//! Reads the host that a request asks for: a name or an address, with an optional port.

use super::TargetError;
use std::{
    borrow::Cow,
    fmt::{self, Write},
    net::{Ipv4Addr, Ipv6Addr},
};

/// The longest name that DNS can hold, in text.
const LENGTH_MAX: usize = 255;

/// A host as routes and certificates know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host<'a> {
    /// Lower case, without a trailing dot; an IPv6 address stands in brackets, in its shortest form.
    pub name: Cow<'a, str>,
    pub port: Option<u16>,
}

/// Reads the value of a `Host` field or the authority of a URI. Without an allocation where the name is in lower case.
///
/// Stricter than RFC 3986, which lets a name contain nearly anything: letters, digits, hyphens, underscores and dots,
/// no empty label, and a last label of digits only in an IPv4 address.
pub fn host(raw: &str) -> Result<Host<'_>, TargetError> {
    if raw.contains('@') {
        return Err(TargetError::Userinfo);
    }
    if raw.starts_with('[') {
        return bracketed(raw);
    }
    let (name, port) = match raw.split_once(':') {
        Some((name, digits)) => (name, Some(port(digits)?)),
        None => (raw, None),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return Err(TargetError::HostEmpty);
    }
    if name.len() > LENGTH_MAX {
        return Err(TargetError::HostLength);
    }
    let upper = is_name(name.as_bytes())?;
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|byte| byte.is_ascii_digit()) && name.parse::<Ipv4Addr>().is_err() {
        return Err(TargetError::HostName);
    }
    let name = if upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) };
    Ok(Host { name, port })
}

/// Whether a name has upper case in it; an error if it is no name.
fn is_name(name: &[u8]) -> Result<bool, TargetError> {
    let (mut upper, mut before) = (false, b'.');
    for byte in name {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'A'..=b'Z' => upper = true,
            b'.' if before != b'.' => {}
            _ => return Err(TargetError::HostName),
        }
        before = *byte;
    }
    if before == b'.' { Err(TargetError::HostName) } else { Ok(upper) }
}

fn bracketed(raw: &str) -> Result<Host<'_>, TargetError> {
    let close = raw.find(']').ok_or(TargetError::HostName)?;
    let (name, rest) = raw.split_at(close + 1);
    let address: Ipv6Addr = name[1..close].parse().map_err(|_| TargetError::HostName)?;
    let port = match rest.strip_prefix(':') {
        Some(digits) => Some(port(digits)?),
        None if rest.is_empty() => None,
        None => return Err(TargetError::HostName),
    };
    let mut unread = Unread(name);
    let shortest = write!(unread, "[{address}]").is_ok() && unread.0.is_empty();
    let name = if shortest { Cow::Borrowed(name) } else { Cow::Owned(format!("[{address}]")) };
    Ok(Host { name, port })
}

fn port(digits: &str) -> Result<u16, TargetError> {
    let well_formed = (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| well_formed && *port != 0).ok_or(TargetError::Port)
}

/// Takes only what it already holds: compares a text with one that is about to be written, without writing it.
struct Unread<'a>(&'a str);

impl Write for Unread<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(text).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(raw: &str, expected: Result<(&str, Option<u16>), TargetError>) {
        let found = host(raw);
        let found = found.as_ref().map(|host| (host.name.as_ref(), host.port)).map_err(|error| *error);
        assert_eq!(found, expected, "{raw:?}");
    }

    #[test]
    fn names_and_addresses_are_read() {
        check("example.com", Ok(("example.com", None)));
        check("Example.COM:8080", Ok(("example.com", Some(8080))));
        check("example.com.", Ok(("example.com", None)));
        check("example.com.:443", Ok(("example.com", Some(443))));
        check("a_b.svc", Ok(("a_b.svc", None)));
        check("localhost", Ok(("localhost", None)));
        check("127.0.0.1:80", Ok(("127.0.0.1", Some(80))));
        check("[::1]", Ok(("[::1]", None)));
        check("[2001:DB8:0:0::1]:65535", Ok(("[2001:db8::1]", Some(65535))));
    }

    #[test]
    fn anything_else_is_refused() {
        check("", Err(TargetError::HostEmpty));
        check(".", Err(TargetError::HostEmpty));
        check(":80", Err(TargetError::HostEmpty));
        check("user@example.com", Err(TargetError::Userinfo));
        check("example.com@evil", Err(TargetError::Userinfo));
        for name in
            ["a..b", ".a", "a..", "a b", " a", "a/b", "a?b", "a#b", "a\\b", "a,b", "é", "a%41", "a\0", "*", "a\tb", "127.1", "1.2.3.256"]
        {
            check(name, Err(TargetError::HostName));
        }
        for name in ["[::1", "[]", "[::1]x", "[1.2.3.4]", "[fe80::1%eth0]", "[fe80::1%25eth0]", "[v1.x]", "::1]"] {
            assert!(host(name).is_err(), "{name}");
        }
        for port in ["a:", "a:0", "a:65536", "a:-1", "a:+1", "a:8x", "a:80:90", "[::1]:", "a:000080"] {
            check(port, Err(TargetError::Port));
        }
        check(&"a".repeat(256), Err(TargetError::HostLength));
    }

    #[test]
    fn a_host_in_lower_case_is_borrowed() {
        for raw in ["example.com:80", "[2001:db8::1]", "10.0.0.1", "a.b."] {
            assert!(matches!(host(raw), Ok(Host { name: Cow::Borrowed(_), .. })), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn a_host_that_was_read_reads_the_same_again(raw in "[a-zA-Z0-9._:\\[\\]-]{0,20}") {
            if let Ok(Host { name, .. }) = host(&raw) {
                prop_assert_eq!(host(&name), Ok(Host { name: Cow::Borrowed(&*name), port: None }));
            }
        }
    }
}
