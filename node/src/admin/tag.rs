//! An `ETag` is a hash of the content this node holds: two nodes with the same content have the same tag.

use http::{HeaderMap, HeaderValue, header};

#[derive(PartialEq, Eq, Debug)]
pub(super) struct Tag(String);

impl Tag {
    /// FNV-1a over 128 bits. It tells changes apart and protects nothing.
    pub(super) fn of(content: &[u8]) -> Self {
        const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let hash = content.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME));
        Self(format!("\"{hash:032x}\""))
    }

    pub(super) fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("digits and quotes are a value")
    }

    /// Whether the caller has this content already (RFC 9110, 13.1.2).
    pub(super) fn known_to(&self, headers: &HeaderMap) -> bool {
        headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(
            |tag| {
                let tag = tag.trim();
                tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.0
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        // From the test vectors of the FNV draft: the empty input and "a".
        assert_eq!(Tag::of(b"").0, "\"6c62272e07bb014262b821756295c58d\"");
        assert_eq!(Tag::of(b"a").0, "\"d228cb696f1a8caf78912b704e4a8964\"");
    }

    #[test]
    fn a_caller_may_know_several_tags() {
        let tag = Tag::of(b"a");
        for (known, expected) in [
            ("\"d228cb696f1a8caf78912b704e4a8964\"", true),
            ("\"x\", W/\"d228cb696f1a8caf78912b704e4a8964\"", true),
            ("*", true),
            ("\"x\"", false),
            ("d228cb696f1a8caf78912b704e4a8964", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(known))]);
            assert_eq!(tag.known_to(&headers), expected, "{known}");
        }
    }
}
