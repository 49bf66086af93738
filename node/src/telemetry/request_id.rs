//! What a request is called in logs, in answers and at the endpoints.
//!
//! A UUID of version 7 (RFC 9562): it begins with the time, so that ids sort as requests came. Only a trusted proxy may
//! bring its own.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ids of others are replaced.
pub const GIVEN_MAX: usize = 128;

#[derive(Clone)]
pub struct RequestId(Inner);

#[derive(Clone)]
enum Inner {
    Made([u8; 36]),
    /// Visible ASCII.
    Given(HeaderValue),
}

impl RequestId {
    /// Takes over the id of a trusted proxy if there is exactly one, of 1 to 128 visible ASCII characters; makes a new
    /// one otherwise.
    pub fn of(headers: &HeaderMap, trusted: bool, wall: SystemTime, chance: [u64; 2]) -> Self {
        if trusted {
            let mut given = headers.get_all(&X_REQUEST_ID).iter();
            if let (Some(id), None) = (given.next(), given.next())
                && (1..=GIVEN_MAX).contains(&id.len())
                && id.as_bytes().iter().all(u8::is_ascii_graphic)
            {
                return Self(Inner::Given(id.clone()));
            }
        }
        Self::new(wall, chance)
    }

    /// A clock before 1970 counts as 1970.
    pub fn new(wall: SystemTime, chance: [u64; 2]) -> Self {
        let millis = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let high = millis << 16 | 0x7000 | chance[0] & 0x0fff;
        let low = chance[1] >> 2 | 1 << 63;
        let mut digits = [0; 32];
        super::traces::write_hex(&mut digits, &(u128::from(high) << 64 | u128::from(low)).to_be_bytes());
        let mut text = [b'-'; 36];
        for (to, from) in [(0..8, 0..8), (9..13, 8..12), (14..18, 12..16), (19..23, 16..20), (24..36, 20..32)] {
            text[to].copy_from_slice(&digits[from]);
        }
        Self(Inner::Made(text))
    }

    pub fn as_str(&self) -> &str {
        let text = match &self.0 {
            Inner::Made(text) => text,
            Inner::Given(text) => text.as_bytes(),
        };
        std::str::from_utf8(text).expect("an id is ASCII")
    }

    pub fn header(&self) -> HeaderValue {
        match &self.0 {
            Inner::Made(text) => HeaderValue::from_bytes(text).expect("an id is ASCII"),
            Inner::Given(text) => text.clone(),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const WALL: SystemTime = UNIX_EPOCH;

    /// What becomes of the ids that a proxy sends.
    fn check(given: &[&str], trusted: bool, taken: bool) {
        let headers = given.iter().map(|id| (X_REQUEST_ID.clone(), HeaderValue::from_str(id).expect("a value"))).collect();
        let id = RequestId::of(&headers, trusted, WALL, [1, 2]);
        assert_eq!(given == [id.as_str()], taken, "{given:?}");
        assert_eq!(id.header(), id.as_str());
    }

    #[test]
    fn only_a_trusted_proxy_brings_a_sound_id() {
        check(&["abc-123"], true, true);
        check(&["abc-123"], false, false);
        check(&[&"x".repeat(128)], true, true);
        check(&[&"x".repeat(129)], true, false);
        check(&[""], true, false);
        check(&["a b"], true, false);
        check(&["a\tb"], true, false);
        check(&["ä"], true, false);
        check(&["one", "two"], true, false);
        check(&[], true, false);
    }

    #[test]
    fn the_example_of_the_standard_comes_out() {
        // RFC 9562, appendix A.6.
        let wall = UNIX_EPOCH + Duration::from_millis(0x017F_22E2_79B0);
        let id = RequestId::new(wall, [0xCC3, 0x18C4_DC0C_0C07_398F << 2]);
        assert_eq!(id.as_str(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
    }

    proptest! {
        #[test]
        fn later_ids_sort_later(early in 0u64..1 << 40, later in 1u64..1 << 40, chance: [u64; 4]) {
            let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
            let first = RequestId::new(at(early), [chance[0], chance[1]]);
            let second = RequestId::new(at(early + later), [chance[2], chance[3]]);
            prop_assert!(first.as_str() < second.as_str());
            prop_assert_eq!(&first.as_str()[14..15], "7");
            prop_assert!("89ab".contains(&first.as_str()[19..20]));
        }
    }
}
