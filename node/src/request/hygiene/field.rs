//! The fields that mean something to a gateway, told apart by their name.

use http::{
    HeaderName,
    header::{CONNECTION, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE},
};

/// What a field is to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Field {
    /// Nothing: it is passed on.
    Ordinary,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Te,
    Trailer,
    Upgrade,
    ProxyAuthenticate,
    ProxyAuthorization,
    Expect,
    Http2Settings,
    /// Says who the client is: only shoal may.
    Identity,
    /// Says where the request comes from: only trusted proxies and shoal may.
    Origin,
    Cookie,
    /// Not a field: `Connection` names others than those.
    Nominated,
    /// Not a field: there is more than one `Cookie`.
    Crumbs,
}

impl Field {
    /// `name` is in lower case.
    pub(super) fn of(name: &str) -> Self {
        match (name.as_bytes()[0], name) {
            (b'h', "host") => Self::Host,
            (b'h', "http2-settings") => Self::Http2Settings,
            (b'c', "content-length") => Self::ContentLength,
            (b'c', "connection") => Self::Connection,
            (b'c', "cookie") => Self::Cookie,
            (b't', "transfer-encoding") => Self::TransferEncoding,
            (b't', "te") => Self::Te,
            (b't', "trailer") => Self::Trailer,
            (b'k', "keep-alive") => Self::KeepAlive,
            (b'p', "proxy-connection") => Self::ProxyConnection,
            (b'p', "proxy-authenticate") => Self::ProxyAuthenticate,
            (b'p', "proxy-authorization") => Self::ProxyAuthorization,
            (b'u', "upgrade") => Self::Upgrade,
            (b'e', "expect") => Self::Expect,
            (b'f', "forwarded") => Self::Origin,
            (b'x', _) => Self::of_extension(name),
            _ => Self::Ordinary,
        }
    }

    fn of_extension(name: &str) -> Self {
        match name {
            "x-api-client" => Self::Identity,
            "x-real-ip" => Self::Origin,
            _ if name.starts_with("x-forwarded-") => Self::Origin,
            _ if name.starts_with("x-shoal-") || name.starts_with("x-jwt-") => Self::Identity,
            _ => Self::Ordinary,
        }
    }

    /// Whether HTTP/2 forbids it (RFC 9113 8.2.2).
    pub(super) fn is_connection_specific(self) -> bool {
        matches!(
            self,
            Self::Connection | Self::KeepAlive | Self::ProxyConnection | Self::TransferEncoding | Self::Upgrade | Self::Http2Settings
        )
    }
}

/// What is removed from every message, on either side.
pub(super) static HOP_BY_HOP: [(Field, HeaderName); 10] = [
    (Field::Connection, CONNECTION),
    (Field::KeepAlive, HeaderName::from_static("keep-alive")),
    (Field::ProxyConnection, HeaderName::from_static("proxy-connection")),
    (Field::Te, TE),
    (Field::TransferEncoding, TRANSFER_ENCODING),
    (Field::Upgrade, UPGRADE),
    (Field::ProxyAuthenticate, PROXY_AUTHENTICATE),
    (Field::ProxyAuthorization, PROXY_AUTHORIZATION),
    (Field::Http2Settings, HeaderName::from_static("http2-settings")),
    // Answered here, before the body is asked for.
    (Field::Expect, EXPECT),
];

/// A set of fields.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Fields(u32);

impl Fields {
    /// Returns whether it was there before.
    pub(super) fn note(&mut self, field: Field) -> bool {
        let before = self.has(field);
        self.0 |= 1 << field as u8;
        before
    }

    pub(super) fn has(self, field: Field) -> bool {
        self.0 & (1 << field as u8) != 0
    }
}

/// Whether a name is a token (RFC 9110 5.6.2) without underscores. CGI and its heirs make `_` of `-`, so that
/// `Content_Length` would be read as a length by some and not by us.
pub(super) fn is_allowed(name: &str) -> bool {
    name.bytes().all(|byte| ALLOWED[byte as usize])
}

static ALLOWED: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        table[at] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'`' | b'|' | b'~');
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_that_is_removed_is_recognised_by_its_name() {
        for (field, name) in &HOP_BY_HOP {
            assert_eq!(Field::of(name.as_str()), *field, "{name}");
        }
    }
}
