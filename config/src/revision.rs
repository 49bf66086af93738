//! A name for the content of a configuration.

use crate::Revision;

impl Revision {
    /// Equal texts give equal revisions, in whatever order they were read. Secrets and certificates are not part of it: they may
    /// differ between nodes, and what is derived from them is shown to everyone.
    pub(crate) fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut hashes: Vec<u64> = texts.map(|text| fnv(text.as_bytes())).collect();
        hashes.sort_unstable();
        let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_be_bytes()).collect();
        let hash = format!("{:016x}", fnv(&bytes));
        Self(hash[..12].into())
    }
}

/// FNV-1a, 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_content_decides() {
        let of = |texts: &[&str]| Revision::of(texts.iter().copied());
        assert_eq!(of(&["a", "b"]), of(&["b", "a"]));
        assert_ne!(of(&["a", "b"]), of(&["ab"]));
        assert_ne!(of(&["a"]), of(&["a", "a"]));
        assert_eq!(of(&["a"]).0.len(), 12);
    }
}
