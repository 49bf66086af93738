//! Reads `Connection`: which fields it names, and whether they are its to name.

use super::{HeadError, field};
use http::HeaderValue;

/// What one line of `Connection` asks for.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Named {
    pub(super) upgrade: bool,
    /// Fields that are not removed anyway.
    pub(super) others: bool,
}

/// An end-to-end field that is named, or a name that is none, is an error.
pub(super) fn read(value: &HeaderValue) -> Result<Named, HeadError> {
    let mut named = Named::default();
    for token in tokens(value) {
        named.add(token);
        if !str::from_utf8(token).is_ok_and(field::is_allowed) {
            return Err(HeadError::Connection);
        }
        if !may_nominate(token) {
            return Err(HeadError::Nominated);
        }
    }
    Ok(named)
}

/// Takes what can be taken: an endpoint's mistake is no reason to keep its answer from the caller.
pub(super) fn read_leniently(value: &HeaderValue) -> Named {
    let mut named = Named::default();
    tokens(value).for_each(|token| named.add(token));
    named
}

impl Named {
    fn add(&mut self, token: &[u8]) {
        let is = |known: &str| token.eq_ignore_ascii_case(known.as_bytes());
        self.upgrade |= is("upgrade");
        self.others |= !["close", "keep-alive", "upgrade", "te", "http2-settings"].into_iter().any(is);
    }
}

/// The members of a list (RFC 9110 5.6.1); empty ones are skipped.
pub(super) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Whether a caller may have a field removed. Were it free to choose, it could take away what a check in front of the
/// endpoint has just looked at.
pub(super) fn may_nominate(token: &[u8]) -> bool {
    let begins = |prefix: &str| token.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()));
    let is = |known: &str| token.eq_ignore_ascii_case(known.as_bytes());
    let protected =
        ["host", "authorization", "cookie", "set-cookie", "forwarded", "x-real-ip", "x-api-client", "date", "location"].into_iter().any(is)
            || ["content-", "x-forwarded-", "x-shoal-", "x-jwt-", "sec-", "access-control-", "www-"].into_iter().any(begins);
    !protected
}
