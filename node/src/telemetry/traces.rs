//! Whose trace a request belongs to (W3C Trace Context, level 2).
//!
//! A caller's `traceparent` is taken over if it is right to the letter; whatever is wrong starts a new trace and throws
//! the caller's `tracestate` away with it. The node is a span of that trace, each attempt at an endpoint is a child of it, and the
//! endpoint sees its attempt as the parent. The caller's sampled flag is passed on as it came.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::{fmt, ops::Deref};

pub static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A longer `tracestate` is dropped.
pub const STATE_SIZE_MAX: usize = 512;

/// A `tracestate` of more members is dropped.
pub const STATE_MEMBERS_MAX: usize = 32;

const SAMPLED: u8 = 0b01;
/// The trace id was drawn by chance, so that it can itself decide on sampling.
const RANDOM: u8 = 0b10;

/// The place of one request in a trace.
#[derive(Clone, Debug)]
pub struct Trace {
    pub trace_id: TraceId,
    /// The node's own span.
    pub span_id: SpanId,
    /// The caller's span, where the trace did not begin here.
    pub parent_id: Option<SpanId>,
    flags: u8,
    state: State,
}

/// What becomes of the caller's `tracestate`.
#[derive(Clone, Debug)]
enum State {
    Drop,
    /// It goes on as it came.
    Keep,
    /// It came in several headers and goes on in one.
    Join(HeaderValue),
}

/// Never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// Never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

impl Trace {
    /// Goes on with the caller's trace, or begins one. `sampled` is the decision for traces that begin here.
    pub fn of(headers: &HeaderMap, sampled: bool, mut chance: impl FnMut() -> u64) -> Self {
        let span_id = SpanId::new(chance());
        let mut given = headers.get_all(&TRACEPARENT).iter();
        if let (Some(value), None) = (given.next(), given.next())
            && let Some(parent) = Traceparent::parse(value.as_bytes())
        {
            let (trace_id, parent_id) = (parent.trace_id, Some(parent.parent_id));
            return Self { trace_id, span_id, parent_id, flags: parent.flags, state: State::of(headers) };
        }
        let flags = RANDOM | if sampled { SAMPLED } else { 0 };
        Self { trace_id: TraceId::new([chance(), chance()]), span_id, parent_id: None, flags, state: State::Drop }
    }

    pub fn sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What an endpoint is told, whose parent is the span of the attempt.
    pub fn traceparent(&self, attempt: SpanId) -> HeaderValue {
        let text = Traceparent { trace_id: self.trace_id, parent_id: attempt, flags: self.flags }.write();
        HeaderValue::from_bytes(&text).expect("digits and dashes are a value")
    }

    /// Makes the headers of an attempt, which are still the caller's, say where the attempt belongs.
    pub fn pass_on(&self, attempt: SpanId, headers: &mut HeaderMap) {
        headers.insert(&TRACEPARENT, self.traceparent(attempt));
        match &self.state {
            State::Drop => drop(headers.remove(&TRACESTATE)),
            State::Keep => {}
            State::Join(state) => drop(headers.insert(&TRACESTATE, state.clone())),
        }
    }
}

impl TraceId {
    pub fn new(chance: [u64; 2]) -> Self {
        let id = u128::from(chance[0]) << 64 | u128::from(chance[1]);
        Self(id.max(1).to_be_bytes())
    }

    pub fn text(&self) -> Text<32> {
        let mut text = [0; 32];
        write_hex(&mut text, &self.0);
        Text(text)
    }
}

impl SpanId {
    pub fn new(chance: u64) -> Self {
        Self(chance.max(1).to_be_bytes())
    }

    pub fn text(&self) -> Text<16> {
        let mut text = [0; 16];
        write_hex(&mut text, &self.0);
        Text(text)
    }
}

/// The header as it is written: `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Traceparent {
    trace_id: TraceId,
    parent_id: SpanId,
    flags: u8,
}

impl Traceparent {
    /// A version that is not known yet may go on after a dash; what it says there is not understood and left away.
    fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(55)?;
        let mut version = [0; 1];
        read_hex(&mut version, &known[..2])?;
        match (version[0], rest.first()) {
            (0xff, _) => return None,
            (0, Some(_)) => return None,
            (_, None | Some(b'-')) => {}
            (_, Some(_)) => return None,
        }
        if [known[2], known[35], known[52]] != *b"---" {
            return None;
        }
        let (mut trace_id, mut parent_id, mut flags) = ([0; 16], [0; 8], [0; 1]);
        read_hex(&mut trace_id, &known[3..35])?;
        read_hex(&mut parent_id, &known[36..52])?;
        read_hex(&mut flags, &known[53..])?;
        if trace_id == [0; 16] || parent_id == [0; 8] {
            return None;
        }
        // Flags that this version does not know must not be passed on.
        Some(Self { trace_id: TraceId(trace_id), parent_id: SpanId(parent_id), flags: flags[0] & (SAMPLED | RANDOM) })
    }

    fn write(&self) -> [u8; 55] {
        let mut text = [b'-'; 55];
        text[..2].copy_from_slice(b"00");
        write_hex(&mut text[3..35], &self.trace_id.0);
        write_hex(&mut text[36..52], &self.parent_id.0);
        write_hex(&mut text[53..], &[self.flags]);
        text
    }
}

impl State {
    fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(&TRACESTATE).iter();
        let Some(first) = given.next() else { return Self::Drop };
        let Some(second) = given.next() else {
            return if sound(first.as_bytes()) { Self::Keep } else { Self::Drop };
        };
        let mut joined = first.as_bytes().to_vec();
        for value in [second].into_iter().chain(given) {
            joined.push(b',');
            joined.extend_from_slice(value.as_bytes());
            if joined.len() > STATE_SIZE_MAX {
                return Self::Drop;
            }
        }
        match HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
            Ok(joined) if sound(joined.as_bytes()) => Self::Join(joined),
            _ => Self::Drop,
        }
    }
}

/// Whether a `tracestate` has at least one member, not too many, and each as the standard writes it: a key, `=`, a
/// value. Members may be empty; keys may not come twice.
fn sound(state: &[u8]) -> bool {
    if state.len() > STATE_SIZE_MAX {
        return false;
    }
    let mut keys = [&b""[..]; STATE_MEMBERS_MAX];
    let mut count = 0;
    for member in state.split(|byte| *byte == b',') {
        // The blanks around a comma belong to nobody, nor do those that end the header.
        let member = member.trim_ascii();
        if member.is_empty() {
            continue;
        }
        let Some(equals) = member.iter().position(|byte| *byte == b'=') else { return false };
        let (key, value) = (&member[..equals], &member[equals + 1..]);
        if count == STATE_MEMBERS_MAX || !key_sound(key) || !value_sound(value) || keys[..count].contains(&key) {
            return false;
        }
        keys[count] = key;
        count += 1;
    }
    count > 0
}

fn key_sound(key: &[u8]) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= 256 && key.first().is_some_and(alphanumeric) && key.iter().all(|byte| alphanumeric(byte) || b"_-*/@".contains(byte))
}

fn value_sound(value: &[u8]) -> bool {
    (1..=256).contains(&value.len()) && value.iter().all(|byte| matches!(byte, 0x20..=0x7e) && !b",=".contains(byte))
}

/// ASCII on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Deref for Text<N> {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits are ASCII")
    }
}

/// `text` has two places for each of `bytes`.
pub(super) fn write_hex(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Lower case only, as the standard wants it.
fn read_hex(bytes: &mut [u8], text: &[u8]) -> Option<()> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).expect("a value"))).collect()
    }

    /// Chance that counts: 1, 2, 3.
    fn counting() -> impl FnMut() -> u64 {
        let mut next = 0;
        move || {
            next += 1;
            next
        }
    }

    /// What an endpoint hears, where the node's chance is 1, 2, 3 and the attempt's is 15.
    fn check(given: &[&str], passed_on: &str) {
        let mut headers = headers(&TRACEPARENT, given);
        let trace = Trace::of(&headers, false, counting());
        trace.pass_on(SpanId::new(15), &mut headers);
        assert_eq!(headers[&TRACEPARENT], passed_on, "{given:?}");
        assert_eq!(headers.get_all(&TRACEPARENT).iter().count(), 1);
    }

    const FRESH: &str = "00-00000000000000020000000000000003-000000000000000f-02";

    #[test]
    fn a_sound_parent_is_gone_on_with() {
        check(&["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"], "00-4bf92f3577b34da6a3ce929d0e0e4736-000000000000000f-01");
        check(&["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff"], "00-4bf92f3577b34da6a3ce929d0e0e4736-000000000000000f-03");
        for later in [
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-holds",
        ] {
            check(&[later], "00-4bf92f3577b34da6a3ce929d0e0e4736-000000000000000f-01");
        }
    }

    #[test]
    fn anything_else_begins_a_trace() {
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ".0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            check(&[wrong], FRESH);
        }
        check(&[], FRESH);
        let twice = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        check(&[twice, twice], FRESH);
    }

    #[test]
    fn ids_are_never_zero() {
        let trace = Trace::of(&HeaderMap::new(), true, || 0);
        assert_eq!(trace.traceparent(trace.span_id), "00-00000000000000000000000000000001-0000000000000001-03");
        assert!(trace.sampled());
    }

    /// What becomes of a `tracestate` that comes with a sound parent.
    fn check_state(given: &[&str], passed_on: Option<&str>) {
        let mut map = headers(&TRACESTATE, given);
        map.insert(&TRACEPARENT, HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        Trace::of(&map, false, counting()).pass_on(SpanId::new(15), &mut map);
        let states: Vec<_> = map.get_all(&TRACESTATE).iter().map(|state| state.to_str().expect("ASCII")).collect();
        assert_eq!(states, passed_on.as_slice(), "{given:?}");
    }

    #[test]
    fn a_sound_state_goes_on() {
        let members = |count| (0..count).map(|index| format!("k{index}=v")).collect::<Vec<_>>().join(",");
        for kept in [
            "a=1",
            "a=1,b=2",
            "rojo=00f067aa0ba902b7 , ,congo=t61 rcWkgMzE",
            "0v@tenant*_-/=!~",
            &members(32),
            &format!("{}=x", "k".repeat(256)),
        ] {
            check_state(&[kept], Some(kept));
        }
        check_state(&["a=1,b=2", "c=3"], Some("a=1,b=2,c=3"));
        for dropped in [
            "",
            " , ",
            "a",
            "=1",
            "a=",
            "A=1",
            "a=1,a=2",
            "a=1=2",
            "@a=1",
            &members(33),
            &format!("a={}", "x".repeat(257)),
            &format!("{}=x", "k".repeat(257)),
        ] {
            check_state(&[dropped], None);
        }
        let long = [format!("a={}", "x".repeat(256)), format!("b={}", "x".repeat(256))];
        check_state(&[&long.join(",")], None);
        check_state(&[&long[0], &long[1]], None);
        check_state(&["a=1", "a=2"], None);
        check_state(&[], None);
    }

    #[test]
    fn a_state_without_a_parent_is_dropped() {
        let mut map = headers(&TRACESTATE, &["a=1"]);
        Trace::of(&map, false, counting()).pass_on(SpanId::new(15), &mut map);
        assert!(!map.contains_key(&TRACESTATE));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace: [u64; 2], span: u64, flags in 0u8..4) {
            let parent = Traceparent { trace_id: TraceId::new(trace), parent_id: SpanId::new(span), flags };
            prop_assert_eq!(Traceparent::parse(&parent.write()), Some(parent));
        }

        #[test]
        fn whatever_comes_is_survived(value in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(parent) = Traceparent::parse(&value) {
                prop_assert_eq!(&parent.write()[3..52], &value[3..52]);
            }
        }

        #[test]
        fn one_wrong_character_is_noticed(at in 0usize..55, with in any::<u8>()) {
            let mut value = *b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
            value[at] = with;
            if let Some(parent) = Traceparent::parse(&value) {
                prop_assert!(with.is_ascii_digit() || (b'a'..=b'f').contains(&with) || with == b'-');
                prop_assert_eq!(&parent.write()[3..52], &value[3..52]);
            }
        }

        #[test]
        fn any_state_is_kept_whole_or_dropped(state in "[ a-c=,@\t]{0,40}") {
            let kept = sound(state.as_bytes());
            if kept {
                prop_assert!(state.split(',').all(|member| member.trim().is_empty() || member.matches('=').count() == 1));
            }
        }
    }
}
