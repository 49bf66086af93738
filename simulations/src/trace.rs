//! What happened, one line for each event: the trace is what two runs of a seed are compared by, byte by byte.
//!
//! A line is the virtual time in milliseconds with its microseconds, the host, and the event. Nothing that a seed does
//! not decide may be written: no real time, no address of memory, no order of a hash table.

use crate::shim;
use std::{
    fmt::{Display, Write as _},
    io::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Clone, Default)]
pub(crate) struct Trace {
    text: Arc<Mutex<String>>,
    aloud: bool,
}

impl Trace {
    /// Also tells each line on the standard error, for what takes so long that somebody waits for it.
    pub(crate) fn aloud() -> Self {
        Self { aloud: true, ..Self::default() }
    }

    pub(crate) fn line(&self, host: &str, event: impl Display) {
        let micros = shim::elapsed().as_micros();
        let line = format!("{:>7}.{:03} {host:<8} {event}", micros / 1_000, micros % 1_000);
        writeln!(self.text(), "{line}").expect("a string takes every write");
        if self.aloud {
            // Whoever does not listen gets it all in the end.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// Identifies the whole trace.
    pub(crate) fn hash(&self) -> u64 {
        Fnv::of(self.text().as_bytes())
    }

    pub(crate) fn take(&self) -> String {
        std::mem::take(&mut *self.text())
    }

    /// A panicking task writes its last line too, so a poisoned lock is no reason to stop.
    fn text(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// FNV-1a with 64 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(crate) fn of(bytes: &[u8]) -> u64 {
        let mut hash = Self::default();
        hash.add(bytes);
        hash.value()
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a_as_published() {
        assert_eq!(Fnv::of(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(Fnv::of(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(Fnv::of(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
