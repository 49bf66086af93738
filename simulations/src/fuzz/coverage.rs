//! Which places of the program an input reaches, where it was built to tell.
//!
//! A compiler that is asked for it (`docs/simulation.md` says how) gives every block of the program a counter of one byte, and
//! tells where those of each part lie before `main` begins. Without that there is nothing to see, and inputs are chosen blindly.

/// What has been reached so far.
#[derive(Default)]
pub(super) struct Map {
    seen: Vec<u8>,
    places: usize,
}

impl Map {
    /// How many places any input has reached; zero where nothing can be seen.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// Whether what ran since [`reset`] reached a place for the first time, or one clearly more often than any before.
    pub(super) fn grows(&mut self) -> bool {
        let mut grew = false;
        let mut at = 0;
        counters::each(|part| {
            if self.seen.len() < at + part.len() {
                self.seen.resize(at + part.len(), 0);
            }
            for (chunk, seen) in part.chunks(CHUNK).zip(self.seen[at..].chunks_mut(CHUNK)) {
                if sleeps(chunk) {
                    continue;
                }
                for (count, seen) in chunk.iter().zip(seen) {
                    let bit = magnitude(*count);
                    if bit & !*seen != 0 {
                        self.places += usize::from(*seen == 0);
                        *seen |= bit;
                        grew = true;
                    }
                }
            }
            at += part.len();
        });
        grew
    }
}

pub(super) fn reset() {
    counters::each(|part| part.chunks_mut(CHUNK).filter(|chunk| !sleeps(chunk)).for_each(|chunk| chunk.fill(0)));
}

const CHUNK: usize = 256;

/// As nearly all of a program does.
fn sleeps(chunk: &[u8]) -> bool {
    chunk.iter().fold(0, |all, count| all | *count) == 0
}

/// Once, twice, three times, up to 7, 15, 31, 127, and more: one bit each.
fn magnitude(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => 4,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        128.. => 128,
    }
}

#[cfg(not(guided))]
mod counters {
    pub(super) fn each(_: impl FnMut(&mut [u8])) {}
}

#[cfg(guided)]
mod counters {
    #![expect(unsafe_code, reason = "the compiler hands the counters over as pointers")]

    use std::{
        ptr,
        sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed},
    };

    const PARTS: usize = 8_192;

    static COUNT: AtomicUsize = AtomicUsize::new(0);
    static STARTS: [AtomicPtr<u8>; PARTS] = [const { AtomicPtr::new(ptr::null_mut()) }; PARTS];
    static LENGTHS: [AtomicUsize; PARTS] = [const { AtomicUsize::new(0) }; PARTS];

    /// Called for each part of the program before `main`.
    ///
    /// # Safety
    /// From `start` to `stop` lie counters that live as long as the program.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
        let length = stop.addr() - start.addr();
        let known = STARTS.iter().take(COUNT.load(Relaxed)).any(|known| known.load(Relaxed) == start);
        if length == 0 || known {
            return;
        }
        let part = COUNT.fetch_add(1, Relaxed);
        if part < PARTS {
            STARTS[part].store(start, Relaxed);
            LENGTHS[part].store(length, Relaxed);
        }
    }

    pub(super) fn each(mut look: impl FnMut(&mut [u8])) {
        for (start, length) in STARTS.iter().zip(&LENGTHS).take(COUNT.load(Relaxed).min(PARTS)) {
            // SAFETY: the compiler promised them; other threads of this process only wait, and a count that is lost is none
            // that decides anything.
            look(unsafe { std::slice::from_raw_parts_mut(start.load(Relaxed), length.load(Relaxed)) });
        }
    }
}
