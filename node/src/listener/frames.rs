//! Watches the frames of an HTTP/2 connection from outside the codec, and ends what keeps it busy for nothing.
//!
//! The codec answers or ignores PING, SETTINGS, PRIORITY and their like without telling anyone, so a peer can keep a
//! connection working without ever asking for anything. [`Inbound`] reads only the nine bytes in front of each frame and
//! skips the rest by its length: too many control frames in ten seconds without a stream being completed, or too many
//! streams reset, and its verdict is that the connection be closed with ENHANCE_YOUR_CALM (RFC 9113 7).
//!
//! An honest peer that reads a large answer sends WINDOW_UPDATE for the data it gets, and some send PING to measure the
//! way; so every DATA frame that we send excuses a few of those. [`Outbound`] counts them, and knows whether what has
//! been written ends where another frame may begin, so that a GOAWAY can be put there.
//!
//! Neither allocates, and neither cares how the bytes are cut.

use std::{
    cell::LazyCell,
    time::{Duration, Instant},
};

/// What a client sends before its first frame.
const PREFACE: u32 = 24;
const HEADER: usize = 9;

/// How long control frames count.
const WINDOW: Duration = Duration::from_secs(10);
/// Clients exist that return window in pieces of 4 KiB, for the stream and for the connection: eight frames for one DATA
/// frame of 16 KiB.
const EXCUSED_PER_DATA: u32 = 10;
/// As much as large windows can have in flight.
const EXCUSED_MAX: u32 = 10_000;
/// In the life of a connection.
const RESETS_MAX: u32 = 5_000;
/// The same where more than half of all streams end so.
const RESETS_MAX_OF_MOST: u32 = 500;

/// What is to become of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Pass,
    /// It is to be closed with [`goaway_enhance_your_calm`].
    Calm(Flood),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flood {
    ControlFrames,
    Resets,
}

/// Guards what a client sends, from the first byte of its preface.
#[derive(Debug)]
pub struct Inbound {
    frames: Frames,
    control_frames_max: u32,
    /// Control frames since `since`, or since a stream was completed.
    control_frames: u32,
    since: Option<Instant>,
    /// WINDOW_UPDATE and PING frames that answer data of ours.
    excused: u32,
    opened: u32,
    resets: u32,
    last_stream: u32,
}

impl Inbound {
    /// `control_frames_max` is how many control frames may come within ten seconds without a completed stream.
    pub fn new(control_frames_max: u32) -> Self {
        Self {
            frames: Frames { skip: PREFACE, ..Frames::default() },
            control_frames_max,
            control_frames: 0,
            since: None,
            excused: 0,
            opened: 0,
            resets: 0,
            last_stream: 0,
        }
    }

    /// Takes what has been read. Asks for the time only if it meets a control frame that counts, and then once.
    pub fn feed(&mut self, bytes: &[u8], now: impl FnOnce() -> Instant) -> Verdict {
        let now = LazyCell::new(now);
        let mut rest = bytes;
        while let Some((frame, behind)) = self.frames.next(rest) {
            rest = behind;
            if let Some(flood) = self.observe(frame, &now) {
                return Verdict::Calm(flood);
            }
        }
        Verdict::Pass
    }

    /// A stream was answered to its end: whatever was sent meanwhile was not for nothing.
    pub fn completed(&mut self) {
        self.control_frames = 0;
    }

    /// We have sent so many frames of data: see [`Outbound::feed`].
    pub fn data_sent(&mut self, frames: u32) {
        self.excused = self.excused.saturating_add(frames.saturating_mul(EXCUSED_PER_DATA)).min(EXCUSED_MAX);
    }

    /// The newest stream that the client has opened: what a GOAWAY has to name.
    pub fn last_stream(&self) -> u32 {
        self.last_stream
    }

    fn observe(&mut self, frame: Frame, now: &LazyCell<Instant, impl FnOnce() -> Instant>) -> Option<Flood> {
        match frame.kind {
            Kind::HEADERS if frame.stream > self.last_stream => {
                self.last_stream = frame.stream;
                self.opened = self.opened.saturating_add(1);
                return None;
            }
            // Trailers of a stream that is open.
            Kind::HEADERS => return None,
            Kind::DATA | Kind::CONTINUATION if frame.length > 0 => return None,
            // The end of a body whose length was not known; it can come only once for each stream.
            Kind::DATA if frame.flags & END_STREAM != 0 => return None,
            Kind::WINDOW_UPDATE | Kind::PING if self.excused > 0 => {
                self.excused -= 1;
                return None;
            }
            Kind::RST_STREAM => {
                self.resets = self.resets.saturating_add(1);
                let most = self.resets > self.opened / 2;
                if self.resets > RESETS_MAX || (most && self.resets > RESETS_MAX_OF_MOST) {
                    return Some(Flood::Resets);
                }
            }
            _ => {}
        }
        self.count(**now)
    }

    fn count(&mut self, now: Instant) -> Option<Flood> {
        let fresh = self.since.is_some_and(|since| now.saturating_duration_since(since) <= WINDOW);
        if !fresh || self.control_frames == 0 {
            self.since = Some(now);
            self.control_frames = 0;
        }
        self.control_frames += 1;
        (self.control_frames > self.control_frames_max).then_some(Flood::ControlFrames)
    }
}

/// Follows what we send, from its first byte.
#[derive(Debug, Default)]
pub struct Outbound {
    frames: Frames,
    /// Whether a header block has begun and not ended: nothing may come between its frames (RFC 9113 4.3).
    in_block: bool,
}

impl Outbound {
    /// Takes what has been written. Returns how many frames of data have begun in it, for [`Inbound::data_sent`].
    pub fn feed(&mut self, bytes: &[u8]) -> u32 {
        let mut data = 0;
        let mut rest = bytes;
        while let Some((frame, behind)) = self.frames.next(rest) {
            rest = behind;
            match frame.kind {
                Kind::DATA if frame.length > 0 => data += 1,
                Kind::HEADERS | Kind::PUSH_PROMISE | Kind::CONTINUATION => self.in_block = frame.flags & END_HEADERS == 0,
                _ => {}
            }
        }
        data
    }

    /// Whether a frame of another kind may follow what has been written.
    pub fn at_boundary(&self) -> bool {
        self.frames.known == 0 && self.frames.skip == 0 && !self.in_block
    }
}

/// A GOAWAY frame that says why, and that streams after `last_stream` were not looked at.
pub fn goaway_enhance_your_calm(last_stream: u32) -> [u8; 17] {
    const ENHANCE_YOUR_CALM: u8 = 0x0b;
    let [a, b, c, d] = (last_stream & STREAM).to_be_bytes();
    [0, 0, 8, Kind::GOAWAY.0, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, ENHANCE_YOUR_CALM]
}

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
/// All bits of a stream's number; the one above is reserved.
const STREAM: u32 = 0x7fff_ffff;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kind(u8);

impl Kind {
    const DATA: Self = Self(0x0);
    const HEADERS: Self = Self(0x1);
    const RST_STREAM: Self = Self(0x3);
    const PUSH_PROMISE: Self = Self(0x5);
    const PING: Self = Self(0x6);
    const GOAWAY: Self = Self(0x7);
    const WINDOW_UPDATE: Self = Self(0x8);
    const CONTINUATION: Self = Self(0x9);
}

/// The front of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Frame {
    length: u32,
    kind: Kind,
    flags: u8,
    stream: u32,
}

impl Frame {
    fn read(header: &[u8; HEADER]) -> Self {
        let [high, middle, low, kind, flags, stream @ ..] = *header;
        let length = u32::from_be_bytes([0, high, middle, low]);
        Self { length, kind: Kind(kind), flags, stream: u32::from_be_bytes(stream) & STREAM }
    }
}

/// Finds the front of each frame in a stream of bytes.
#[derive(Debug, Default)]
struct Frames {
    /// A front that was cut.
    header: [u8; HEADER],
    known: usize,
    /// Bytes to come before the next front.
    skip: u32,
}

impl Frames {
    /// The next front that is complete, and what follows it; `None` once all of `bytes` is taken.
    fn next<'a>(&mut self, bytes: &'a [u8]) -> Option<(Frame, &'a [u8])> {
        let skipped = (self.skip as usize).min(bytes.len());
        self.skip -= skipped as u32;
        let bytes = &bytes[skipped..];
        let frame = match bytes.split_first_chunk::<HEADER>() {
            Some((header, behind)) if self.known == 0 => (Frame::read(header), behind),
            _ => {
                let taken = (HEADER - self.known).min(bytes.len());
                self.header[self.known..][..taken].copy_from_slice(&bytes[..taken]);
                self.known += taken;
                if self.known < HEADER {
                    return None;
                }
                self.known = 0;
                (Frame::read(&self.header), &bytes[taken..])
            }
        };
        self.skip = frame.0.length;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PRIORITY: u8 = 2;
    const SETTINGS: u8 = 4;
    const UNKNOWN: u8 = 0xfa;

    fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
        let [_, high, middle, low] = u32::try_from(payload).expect("a short payload").to_be_bytes();
        [&[high, middle, low, kind, flags], &stream.to_be_bytes()[..], &vec![0xff; payload]].concat()
    }

    fn preface() -> Vec<u8> {
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()
    }

    #[expect(clippy::disallowed_methods, reason = "the tests only count from it")]
    fn start() -> Instant {
        Instant::now()
    }

    /// A guard that allows `max` control frames and has seen the preface.
    fn guard(max: u32) -> Inbound {
        let mut guard = Inbound::new(max);
        assert_eq!(guard.feed(&preface(), || unreachable!("the preface is no control frame")), Verdict::Pass);
        guard
    }

    /// How many of a thousand repetitions pass before the verdict, or `None` if all do.
    fn passed(guard: &mut Inbound, at: Instant, mut repeated: impl FnMut(u32) -> Vec<u8>) -> Option<u32> {
        (0..1_000).find(|n| guard.feed(&repeated(*n), || at) != Verdict::Pass)
    }

    #[test]
    fn control_frames_without_a_completed_stream_end_the_connection() {
        for (kind, flags) in [(Kind::PING.0, 0), (SETTINGS, 0), (SETTINGS, 1), (PRIORITY, 0), (Kind::WINDOW_UPDATE.0, 0), (UNKNOWN, 0)] {
            assert_eq!(passed(&mut guard(20), start(), |_| frame(kind, flags, 1, 8)), Some(20), "{kind}");
        }
        for kind in [Kind::DATA, Kind::CONTINUATION, Kind::RST_STREAM] {
            assert_eq!(passed(&mut guard(20), start(), |_| frame(kind.0, 0, 1, 0)), Some(20), "{kind:?}");
        }
    }

    #[test]
    fn what_asks_for_something_does_not_count() {
        let unread = || -> Instant { unreachable!("nothing counts, so no clock is read") };
        for n in 0..100 {
            let request = [
                frame(Kind::HEADERS.0, 4, 2 * n + 1, 30),
                frame(Kind::DATA.0, 0, 2 * n + 1, 9),
                frame(Kind::DATA.0, END_STREAM, 2 * n + 1, 0),
            ];
            let mut guard = guard(0);
            assert_eq!(guard.feed(&request.concat(), unread), Verdict::Pass);
            assert_eq!(guard.last_stream(), 2 * n + 1);
        }
    }

    #[test]
    fn a_completed_stream_or_ten_seconds_start_the_count_again() {
        let now = start();
        let ping = |_| frame(Kind::PING.0, 0, 0, 8);
        let mut guard = guard(20);
        let feed = |guard: &mut Inbound, times: usize, at| guard.feed(&ping(0).repeat(times), || at);
        assert_eq!(feed(&mut guard, 20, now), Verdict::Pass);
        guard.completed();
        assert_eq!(feed(&mut guard, 20, now), Verdict::Pass);
        let later = now + WINDOW + Duration::from_millis(1);
        assert_eq!(feed(&mut guard, 20, later), Verdict::Pass);
        assert_eq!(feed(&mut guard, 1, later + WINDOW), Verdict::Calm(Flood::ControlFrames));
    }

    #[test]
    fn a_reader_of_large_answers_is_excused() {
        let mut guard = guard(20);
        for _ in 0..10_000 {
            guard.data_sent(1);
            assert_eq!(guard.feed(&frame(Kind::WINDOW_UPDATE.0, 0, 1, 4).repeat(8), start), Verdict::Pass);
        }
        // The excuse covers what answers data, and nothing that does not.
        assert_eq!(passed(&mut guard, start(), |_| frame(SETTINGS, 0, 0, 0)), Some(20));
        let mut idle = Inbound::new(20);
        idle.data_sent(u32::MAX);
        let verdict = idle.feed(&[preface(), frame(Kind::PING.0, 0, 0, 8).repeat(EXCUSED_MAX as usize + 21)].concat(), start);
        assert_eq!(verdict, Verdict::Calm(Flood::ControlFrames));
    }

    /// Opens streams and resets every `nth`; how many resets pass.
    fn resets_passed(nth: u32) -> u32 {
        let mut guard = guard(u32::MAX);
        let now = start();
        let mut resets = 0;
        for n in 0..100_000 {
            let stream = 2 * n + 1;
            assert_eq!(guard.feed(&frame(Kind::HEADERS.0, 5, stream, 10), || now), Verdict::Pass);
            if n % nth == 0 {
                match guard.feed(&frame(Kind::RST_STREAM.0, 0, stream, 4), || now) {
                    Verdict::Pass => resets += 1,
                    verdict => {
                        assert_eq!(verdict, Verdict::Calm(Flood::Resets));
                        return resets;
                    }
                }
            }
            guard.completed();
        }
        resets
    }

    #[test]
    fn resets_are_counted_over_the_life_of_a_connection() {
        assert_eq!(resets_passed(1), RESETS_MAX_OF_MOST);
        assert_eq!(resets_passed(3), RESETS_MAX);
        assert_eq!(resets_passed(50), 2_000);
    }

    #[test]
    fn a_goaway_is_a_frame() {
        let goaway = goaway_enhance_your_calm(7);
        let (front, payload) = goaway.split_first_chunk::<HEADER>().expect("a whole frame");
        assert_eq!(Frame::read(front), Frame { length: 8, kind: Kind::GOAWAY, flags: 0, stream: 0 });
        assert_eq!(payload, [0, 0, 0, 7, 0, 0, 0, 0x0b]);
        let mut outbound = Outbound::default();
        assert_eq!(outbound.feed(&goaway), 0);
        assert!(outbound.at_boundary());
    }

    #[test]
    fn nothing_goes_between_the_frames_of_a_header_block() {
        let mut outbound = Outbound::default();
        for (bytes, expected) in [
            (frame(SETTINGS, 0, 0, 6), true),
            (frame(Kind::HEADERS.0, 0, 1, 10), false),
            (frame(Kind::CONTINUATION.0, 0, 1, 10), false),
            (frame(Kind::CONTINUATION.0, END_HEADERS, 1, 10), true),
            (frame(Kind::DATA.0, 0, 1, 10)[..5].to_vec(), false),
            (frame(Kind::DATA.0, 0, 1, 10)[5..12].to_vec(), false),
            (frame(Kind::DATA.0, 0, 1, 10)[12..].to_vec(), true),
            (frame(Kind::DATA.0, END_STREAM, 1, 0), true),
        ] {
            outbound.feed(&bytes);
            assert_eq!(outbound.at_boundary(), expected, "{bytes:?}");
        }
    }

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        (0..12u8, any::<u8>(), 0..9u32, 0..30usize).prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, payload))
    }

    proptest! {
        #[test]
        fn cuts_make_no_difference(frames in prop::collection::vec(any_frame(), 0..12), size in 1..40usize) {
            let bytes = [preface(), frames.concat()].concat();
            let now = start();
            let (mut whole, mut cut) = (Inbound::new(5), Inbound::new(5));
            let verdict = whole.feed(&bytes, || now);
            let other = bytes.chunks(size).map(|piece| cut.feed(piece, || now)).find(|verdict| *verdict != Verdict::Pass);
            prop_assert_eq!(other.unwrap_or(Verdict::Pass), verdict);
            prop_assert_eq!(whole.last_stream(), cut.last_stream());

            let (mut whole, mut cut) = (Outbound::default(), Outbound::default());
            let data = whole.feed(&frames.concat());
            prop_assert_eq!(frames.concat().chunks(size).map(|piece| cut.feed(piece)).sum::<u32>(), data);
            prop_assert_eq!(whole.at_boundary(), cut.at_boundary());
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let now = start();
            let _ = Inbound::new(5).feed(&bytes, || now);
            Outbound::default().feed(&bytes);
        }
    }
}
