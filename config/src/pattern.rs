//! The small languages inside strings: a route's match, keys of limits, limits on the spot, templates.
//!
//! Requests are normalised before they are matched, and so are literals here, in the same way. A literal that no
//! normalised request can equal is refused instead of waiting for one forever.

mod limit;
mod path;

pub(crate) use limit::{BURST_MAX, inline_limit, is_inline_limit, key_part};
pub(crate) use path::{Template as WrittenTemplate, path, template};

use crate::{HostPattern, PathPattern, document::Span, file::Reader, problem::codes};
use http::{HeaderName, Method};
use std::ops::Range;

/// What is wrong inside a string: where, and what would be right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PatternError {
    pub(crate) code: &'static str,
    pub(crate) range: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: String,
}

impl PatternError {
    fn new(code: &'static str, range: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, range, message: message.into(), help: help.into() }
    }

    /// Counts the range from the beginning of a longer text.
    fn moved(mut self, by: usize) -> Self {
        self.range = self.range.start + by..self.range.end + by;
        self
    }

    pub(crate) fn report<T>(self, at: Span, text: &str, r: &mut Reader<'_>) -> Option<T> {
        let at = r.documents.within(at, text, self.range);
        r.found.error(self.code, at, self.message).help(self.help);
        None
    }
}

/// `[METHOD[,METHOD] ][HOST]/PATH`, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Match {
    pub(crate) methods: Vec<Method>,
    pub(crate) host: HostPattern,
    pub(crate) path: PathPattern,
}

pub(crate) fn parse_match(text: &str) -> Result<Match, PatternError> {
    const FORM: &str = "a match is written [METHOD[,METHOD] ][HOST]/PATH, as in `GET shop.example.com/v1/orders/{id}`";
    let (before, target) = match text.split_once(' ') {
        Some((methods, target)) => (Some(methods), target),
        None => (None, text),
    };
    let offset = text.len() - target.len();
    if let Some(space) = target.find(char::is_whitespace) {
        let at = offset + space;
        return Err(PatternError::new(codes::BAD_MATCH, at..at + 1, "a match has one space, between the methods and the rest", FORM));
    }
    let Some(slash) = target.find('/') else {
        let message = if target.is_empty() { "a match needs a path" } else { "there is no path in this match" };
        let help = match before {
            None if is_method(text) => format!("write `{text} /**` for every path"),
            _ => format!("{FORM}; `{target}/**` is every path"),
        };
        return Err(PatternError::new(codes::BAD_MATCH, offset..text.len(), message, help));
    };
    Ok(Match {
        methods: before.map(methods).transpose()?.unwrap_or_default(),
        host: host(&target[..slash]).map_err(|error| error.moved(offset))?,
        path: path(&target[slash..]).map_err(|error| error.moved(offset + slash))?,
    })
}

fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
}

fn methods(text: &str) -> Result<Vec<Method>, PatternError> {
    let mut methods = Vec::new();
    let mut at = 0;
    for word in text.split(',') {
        let range = at..at + word.len();
        at = range.end + 1;
        let wrong = |message: String, help: &str| Err(PatternError::new(codes::BAD_METHOD, range.clone(), message, help));
        if word == "*" || word.eq_ignore_ascii_case("any") {
            return wrong(format!("`{word}` is no method"), "leave it out: a match without methods takes any");
        }
        if word.is_empty() {
            return wrong("a method is missing".to_string(), "separate methods by a single comma, as in `GET,HEAD /`");
        }
        if !is_method(word) {
            return wrong(format!("`{word}` is no method"), "methods are written in capitals, as in `GET,HEAD /`");
        }
        if matches!(word, "CONNECT" | "TRACE") {
            return wrong(format!("{word} is never forwarded"), "leave it out");
        }
        let method = Method::from_bytes(word.as_bytes()).expect("capitals and dashes are a token");
        if methods.contains(&method) {
            return wrong(format!("{word} is named twice"), "once is enough");
        }
        methods.push(method);
    }
    Ok(methods)
}

fn host(text: &str) -> Result<HostPattern, PatternError> {
    let wrong = |range: Range<usize>, message: String, help: &str| Err(PatternError::new(codes::BAD_HOST, range, message, help));
    let all = 0..text.len();
    if text.is_empty() {
        return Ok(HostPattern::Any);
    }
    if text == "*" {
        return wrong(all, "`*` is no host".to_string(), "leave it out: a match without a host takes any");
    }
    if let Some(scheme) = text.strip_suffix(':').filter(|scheme| matches!(*scheme, "http" | "https" | "h2c")) {
        return wrong(
            all,
            format!("`{scheme}://` does not belong into a match"),
            "a match begins with the host, as in `shop.example.com/`",
        );
    }
    if let Some(inner) = text.strip_prefix('[') {
        return match inner.strip_suffix(']').map(str::parse::<std::net::Ipv6Addr>) {
            Some(Ok(address)) => Ok(HostPattern::Exact(format!("[{address}]").into())),
            _ => wrong(all, format!("`{text}` is no IPv6 address"), "write it in brackets and without a port, as in `[2001:db8::1]/`"),
        };
    }
    if let Some(colon) = text.find(':') {
        return wrong(
            colon..text.len(),
            "a host in a match has no port".to_string(),
            "leave it out; `listen = [\"NAME\"]` says where a route is served",
        );
    }
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('.').unwrap_or(&lower);
    let (name, wildcard) = match lower.strip_prefix("*.") {
        Some(suffix) => (suffix, true),
        None => (lower, false),
    };
    if name.contains('*') {
        let help = "a wildcard is `*.` in front of a name, as in `*.example.com/`, and stands for one or more labels";
        return wrong(all, format!("`{text}` has a `*` in a place where it means nothing"), help);
    }
    if !is_host(name) {
        let help = "a host consists of letters, digits, `-` and dots; other scripts are written in their xn-- form";
        return wrong(all, format!("`{text}` is no host"), help);
    }
    Ok(if wildcard { HostPattern::Wildcard(name.into()) } else { HostPattern::Exact(name.into()) })
}

/// A name in lower case (RFC 1123, with the underscores that are met in practice), or an IPv4 address.
pub(crate) fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

pub(crate) fn header_name(text: &str) -> Result<HeaderName, PatternError> {
    let all = 0..text.len();
    if text.contains('_') {
        let help = format!("write `{}`: many servers cannot tell the two apart", text.replace('_', "-"));
        return Err(PatternError::new(codes::BAD_HEADER, all, format!("the header's name `{text}` has an underscore"), help));
    }
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
        let help = "the name of a header consists of letters, digits and `-`";
        PatternError::new(codes::BAD_HEADER, all, format!("`{text}` is not the name of a header"), help)
    })
}

/// An id for a route without one: `GET shop.example.com/v1/{sku}` becomes `get-shop.example.com-v1-sku`.
pub(crate) fn id_of_match(text: &str) -> String {
    let mut id = String::new();
    for c in text.chars() {
        match c {
            'a'..='z' | '0'..='9' | '.' | '_' | '~' => id.push(c),
            'A'..='Z' => id.push(c.to_ascii_lowercase()),
            '*' if id.ends_with("all") => {}
            '*' => id.push_str("all"),
            _ if id.ends_with('-') || id.is_empty() => {}
            _ => id.push('-'),
        }
        if id.len() >= 100 {
            break;
        }
    }
    let id = id.trim_end_matches('-');
    if id.is_empty() { "root".to_string() } else { id.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a match, as the part of it that is pointed at and the code; or how it reads back.
    fn check(text: &str, expected: &str) {
        let found = match parse_match(text) {
            Ok(parsed) => read_back(&parsed),
            Err(error) => format!("{} at `{}`", error.code, &text[error.range]),
        };
        assert_eq!(found, expected, "{text}");
    }

    fn read_back(parsed: &Match) -> String {
        let methods: Vec<&str> = parsed.methods.iter().map(Method::as_str).collect();
        format!("{:?} {:?} {}", methods, parsed.host, parsed.path)
    }

    #[test]
    fn a_match_is_methods_a_host_and_a_path() {
        check("/", "[] Any /");
        check("/**", "[] Any /**");
        check("GET /hello/{name}", "[\"GET\"] Any /hello/{name}");
        check("GET,POST Shop.Example.com./v1/**", "[\"GET\", \"POST\"] Exact(\"shop.example.com\") /v1/**");
        check("*.example.com/{rest=**}", "[] Wildcard(\"example.com\") /{rest=**}");
        check("PROPFIND 10.0.0.1/", "[\"PROPFIND\"] Exact(\"10.0.0.1\") /");
        check("[2001:DB8:0::1]/", "[] Exact(\"[2001:db8::1]\") /");
    }

    #[test]
    fn what_is_left_out_is_any() {
        check("* shop.example.com/", "E1202 at `*`");
        check("ANY /", "E1202 at `ANY`");
        check("GET */v1", "E1203 at `*`");
    }

    #[test]
    fn a_match_that_is_none_is_pointed_at() {
        check("", "E1201 at ``");
        check("GET", "E1201 at `GET`");
        check("GET ", "E1201 at ``");
        check("GET  /", "E1201 at ` `");
        check("GET, POST /", "E1201 at ` `");
        check("get /", "E1202 at `get`");
        check("GET,GET /", "E1202 at `GET`");
        check("GET,,POST /", "E1202 at ``");
        check("TRACE /", "E1202 at `TRACE`");
        check("example.com:8080/", "E1203 at `:8080`");
        check("https://example.com/", "E1203 at `https:`");
        check("a.*.example.com/", "E1203 at `a.*.example.com`");
        check("-a.example.com/", "E1203 at `-a.example.com`");
        check("münchen.example/", "E1203 at `münchen.example`");
        check("GET [::1/", "E1203 at `[::1`");
    }

    #[test]
    fn a_route_without_an_id_is_named_after_its_match() {
        for (text, expected) in [
            ("GET /hello/{name}", "get-hello-name"),
            ("GET,POST shop.example.com/v1/**", "get-post-shop.example.com-v1-all"),
            ("/", "root"),
            ("/**", "all"),
            ("*.example.com/", "all.example.com"),
        ] {
            assert_eq!(id_of_match(text), expected);
        }
    }
}
