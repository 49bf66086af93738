//! A request that is only talked about: read from a question, never from a connection.

use crate::request::{origin::Connected, target};
use http::{HeaderName, HeaderValue, Method, Request, Uri, header, request::Parts};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

/// What an operator asks about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    pub method: String,
    /// Absolute, or a path alone with a `Host` among the headers.
    pub url: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Values>,
    /// Where the connection comes from; loopback where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<IpAddr>,
    /// The listener it comes in by; the one that fits the URL where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
}

/// The values of one header.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Values {
    One(String),
    Many(Vec<String>),
}

/// The question as a request.
pub(super) struct Asked {
    /// As HTTP/1.1 would carry it: the path as the target, and the authority in `Host`.
    pub(super) parts: Parts,
    pub(super) declared: Option<u64>,
    pub(super) server_name: Option<String>,
    /// Of the URL; `None` where it has no scheme.
    pub(super) tls: Option<bool>,
    pub(super) port: Option<u16>,
    client_ip: IpAddr,
}

impl Question {
    pub(super) fn read(&self) -> Result<Asked, String> {
        let method = Method::from_bytes(self.method.as_bytes()).map_err(|_| format!("`{}` is not a method", self.method))?;
        let url: Uri = self.url.parse().map_err(|error| format!("`{}` is not a URL: {error}", self.url))?;
        let tls = match url.scheme_str() {
            Some("http") => Some(false),
            Some("https") => Some(true),
            None if url.authority().is_none() => None,
            _ => return Err("a URL begins with http://, https:// or a slash".to_string()),
        };
        let mut request = Request::builder().method(method);
        let written_host = self.headers.keys().any(|name| name.eq_ignore_ascii_case("host"));
        if let Some(authority) = url.authority().filter(|_| !written_host) {
            request = request.header(header::HOST, authority.as_str());
        }
        for (name, values) in &self.headers {
            for value in values.iter() {
                request = request.header(header_name(name)?, header_value(name, value)?);
            }
        }
        let target = url.path_and_query().map_or("/", |target| target.as_str());
        let (parts, ()) = request.uri(target).body(()).map_err(|error| error.to_string())?.into_parts();

        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let name = url.authority().map(|authority| authority.as_str()).or(host).and_then(|host| target::host(host).ok());
        let is_address = |name: &str| name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Ok(Asked {
            declared,
            server_name: name.map(|host| host.name.into_owned()).filter(|name| !is_address(name)),
            port: tls.map(|tls| url.port_u16().unwrap_or(if tls { 443 } else { 80 })),
            tls,
            client_ip: self.client_ip.unwrap_or(Ipv4Addr::LOCALHOST.into()),
            parts,
        })
    }
}

impl Asked {
    pub(super) fn connected(&self, tls: bool) -> Connected {
        Connected { peer: self.client_ip, proxied: None, tls }
    }
}

impl Values {
    pub(crate) fn push(&mut self, value: String) {
        match self {
            Self::One(first) => *self = Self::Many(vec![std::mem::take(first), value]),
            Self::Many(values) => values.push(value),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &String> {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
        .iter()
    }
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not the name of a header"))
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(value).map_err(|_| format!("the value of `{name}` is not one that a header can have"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(url: &str, headers: &[(&str, &str)]) -> Question {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), Values::One(value.to_string()))).collect();
        Question { method: "GET".into(), url: url.into(), headers, client_ip: None, listener: None }
    }

    /// Target, `Host`, server name and port.
    #[track_caller]
    fn check(url: &str, headers: &[(&str, &str)], expected: &str) {
        let read = match ask(url, headers).read() {
            Ok(asked) => {
                let host = asked.parts.headers.get(header::HOST).map_or("-", |host| host.to_str().expect("ASCII"));
                let port = asked.port.map_or("-".to_string(), |port| port.to_string());
                format!("{} {host} {} {port}", asked.parts.uri, asked.server_name.as_deref().unwrap_or("-"))
            }
            Err(error) => error,
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn a_url_becomes_a_target_and_a_host() {
        check("https://shop.example/a?b=c", &[], "/a?b=c shop.example shop.example 443");
        check("http://shop.example:8080", &[], "/ shop.example:8080 shop.example 8080");
        check("http://127.0.0.1:8080/a", &[], "/a 127.0.0.1:8080 - 8080");
        check("http://[::1]/a", &[], "/a [::1] - 80");
        check("/a", &[("Host", "Shop.example")], "/a Shop.example shop.example -");
        check("/a", &[], "/a - - -");
        check("https://a.example/", &[("host", "b.example")], "/ b.example a.example 443");
    }

    #[test]
    fn what_is_no_request_is_no_question() {
        check("ftp://a/", &[], "a URL begins with http://, https:// or a slash");
        check("a.example", &[], "a URL begins with http://, https:// or a slash");
        check("/", &[("a b", "c")], "`a b` is not the name of a header");
        check("/", &[("a", "b\nc")], "the value of `a` is not one that a header can have");
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        let json = r#"{"method":"GET","url":"/","headers":{"a":"1","b":["2","3"]},"client_ip":"192.0.2.1","listener":"main"}"#;
        let question: Question = serde_json::from_str(json).expect("a question");
        assert_eq!(serde_json::to_string(&question).expect("JSON"), json);
        assert!(serde_json::from_str::<Question>(r#"{"method":"GET","url":"/","body":"x"}"#).is_err());
    }
}
