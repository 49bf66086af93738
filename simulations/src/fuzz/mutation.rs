//! Changes to inputs, as chance decides them: bytes that are turned, lost, doubled and moved, and lengths that lie.
//!
//! What is only ever broken as bytes breaks at the first length. So an input that has a structure is also taken apart, changed
//! in one of its parts, and put together again with lengths that are true.

use super::structure::{Part, Structure};
use crate::chance::Chance;

/// Numbers at which code changes its mind.
const EDGES: [u64; 19] = [
    0,
    1,
    2,
    0x10,
    0x20,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Numbers as people write them.
const FIGURES: [&[u8]; 12] = [
    b"0",
    b"-1",
    b"+1",
    b"00",
    b"65535",
    b"65536",
    b"4294967296",
    b"9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"99999999999999999999999999",
    b"1e400",
];

pub(super) struct Mutation<'a> {
    pub(super) chance: &'a mut Chance,
    pub(super) structure: Structure,
    /// What the format says often.
    pub(super) words: &'a [&'a [u8]],
    pub(super) longest: usize,
    /// Other inputs, to take pieces from.
    pub(super) others: &'a [Vec<u8>],
}

impl Mutation<'_> {
    /// Changes an input, once or a few times.
    pub(super) fn of(&mut self, input: &[u8]) -> Vec<u8> {
        let mut input = input.to_vec();
        let times = 1 << self.chance.between(0..=3);
        for _ in 0..times {
            if self.chance.one_in(2) {
                self.structured(self.structure, &mut input);
            } else {
                self.bytes(&mut input);
            }
        }
        input.truncate(self.longest);
        input
    }

    fn structured(&mut self, structure: Structure, input: &mut Vec<u8>) {
        let Some(mut parts) = structure.apart(input) else { return self.bytes(input) };
        if parts.is_empty() {
            return self.bytes(input);
        }
        let at = self.below(parts.len());
        match self.below(9) {
            0 if structure.is_list() => drop(parts.remove(at)),
            1 if structure.is_list() => parts.insert(at, parts[at].clone()),
            2 if structure.is_list() => {
                let other = self.below(parts.len());
                parts.swap(at, other);
            }
            3 if structure.is_list() => {
                let copied = parts[at..self.until(at, parts.len())].to_vec();
                let room = self.longest / (copied.iter().map(|part| part.body.len() + 4).sum::<usize>());
                parts.splice(at..at, vec![copied; self.times().min(room)].concat());
            }
            // What has no content of its own may take more room here than it had there.
            4 if structure.is_list() => {
                let mut hollow = parts[at..self.until(at, parts.len())].to_vec();
                hollow.iter_mut().for_each(|part| part.body.truncate(self.below(3)));
                let times = self.times().min(self.longest / (4 * hollow.len()));
                parts.splice(at..at, vec![hollow; times].concat());
            }
            5 if !self.others.is_empty() => {
                let other = self.below(self.others.len());
                if let Some(theirs) = structure.apart(&self.others[other]).filter(|theirs| !theirs.is_empty()) {
                    let part: Part = theirs[self.below(theirs.len())].clone();
                    if structure.is_list() { parts.insert(at, part) } else { parts[at] = part }
                }
            }
            _ => {
                let inner = structure.inner();
                let mut body = std::mem::take(&mut parts[at].body);
                match inner {
                    Some(inner) if self.chance.one_in(2) => self.structured(inner, &mut body),
                    _ => self.bytes(&mut body),
                }
                parts[at].body = body;
            }
        }
        *input = structure.together(&parts);
    }

    fn bytes(&mut self, input: &mut Vec<u8>) {
        let length = input.len();
        let at = self.below(length + 1);
        let run = self.run(length - at);
        match self.below(18) {
            0 if at < length => input[at] ^= 1 << self.below(8),
            1 if at < length => input[at] = self.chance.draw() as u8,
            2 if at < length => input[at] = input[at].wrapping_add((self.chance.between(0..=32) as u8).wrapping_sub(16)),
            3 => self.put_number(input, at),
            4 => self.put_varint(input, at),
            5 => drop(input.drain(at..at + run)),
            6 => {
                let copy = input[at..at + run].to_vec();
                let to = self.below(length + 1);
                input.splice(to..to, copy);
            }
            7 => {
                let piece = input[at..at + run.max(1).min(length - at)].to_vec();
                let room = self.longest.saturating_sub(length) / piece.len().max(1);
                let times = self.times().min(room);
                input.splice(at..at, piece.repeat(times));
            }
            8 => input.truncate(at),
            9 | 10 if !self.others.is_empty() => {
                let other = &self.others[self.below(self.others.len())];
                let from = self.below(other.len() + 1);
                let run = self.run(other.len() - from);
                if self.chance.one_in(2) {
                    input.truncate(at);
                    input.extend(&other[from..]);
                } else {
                    input.splice(at..at, other[from..from + run].iter().copied());
                }
            }
            11 if !self.words.is_empty() => {
                let word = self.words[self.below(self.words.len())];
                let until = if self.chance.one_in(2) { at } else { (at + word.len()).min(length) };
                input.splice(at..until, word.iter().copied());
            }
            12 => self.put_figure(input, at),
            13 => {
                let random = (0..self.chance.between(1..=8)).map(|_| self.chance.draw() as u8).collect::<Vec<u8>>();
                input.splice(at..at, random);
            }
            14 => {
                let byte = [0, b' ', b'\n', 0x7f, 0x80, 0xff][self.below(6)];
                input[at..at + run].fill(byte);
            }
            15 => {
                let to = self.below(length - run + 1);
                let piece: Vec<u8> = input.drain(at..at + run).collect();
                input.splice(to..to, piece);
            }
            16 => {
                let tail = [&b"\xff\xfe"[..], b"\xc3\x28", b"\xf0\x9f\x98\x80", "\u{202e}".as_bytes(), b"\r\n", b"\x1b[31m"];
                input.splice(at..at, tail[self.below(tail.len())].iter().copied());
            }
            17 if !self.words.is_empty() => {
                let words: Vec<&[u8]> = (0..self.chance.between(1..=3)).map(|_| self.words[self.below(self.words.len())]).collect();
                let phrase = words.concat();
                let room = self.longest.saturating_sub(length) / phrase.len().max(1);
                let times = self.times().min(room);
                input.splice(at..at, phrase.repeat(times));
            }
            _ => {}
        }
        input.truncate(self.longest);
    }

    /// Writes over what is there with a number of a usual width.
    fn put_number(&mut self, input: &mut [u8], at: usize) {
        let left = (input.len() - at) as u64;
        let number = match self.below(3) {
            0 => EDGES[self.below(EDGES.len())],
            1 => left.wrapping_add(self.chance.between(0..=4)).wrapping_sub(2),
            _ => EDGES[self.below(EDGES.len())].wrapping_sub(self.chance.between(0..=2)),
        };
        let width = 1 << self.below(4);
        let bytes = if self.chance.one_in(2) { number.to_le_bytes()[..width].to_vec() } else { number.to_be_bytes()[8 - width..].to_vec() };
        for (byte, new) in input[at..].iter_mut().zip(bytes) {
            *byte = new;
        }
    }

    /// Puts another number in the place of one whose bytes say whether more follow.
    fn put_varint(&mut self, input: &mut Vec<u8>, at: usize) {
        let until = input[at..].iter().position(|byte| byte & 0x80 == 0).map_or(input.len(), |last| at + last + 1);
        let mut number = match self.below(2) {
            0 => EDGES[self.below(EDGES.len())],
            _ => (input.len() - until) as u64 + self.chance.between(0..=2),
        };
        let mut bytes = Vec::new();
        while number > 0x7f {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        input.splice(at..until, bytes);
    }

    /// Puts another number in the place of one that is written in digits.
    fn put_figure(&mut self, input: &mut Vec<u8>, at: usize) {
        let Some(from) = input[at..].iter().position(u8::is_ascii_digit).map(|from| at + from) else { return };
        let until = input[from..].iter().position(|byte| !byte.is_ascii_digit()).map_or(input.len(), |length| from + length);
        input.splice(from..until, FIGURES[self.below(FIGURES.len())].iter().copied());
    }

    /// Where a run of one to three parts ends.
    fn until(&mut self, at: usize, count: usize) -> usize {
        (at + 1 + self.below(3)).min(count)
    }

    /// How often something is repeated: mostly a few times.
    fn times(&mut self) -> usize {
        let scale = self.chance.between(1..=16);
        self.below(1 << scale)
    }

    /// The length of a piece: mostly short.
    fn run(&mut self, most: usize) -> usize {
        let scale = self.chance.between(0..=17);
        self.below(1 << scale).min(most)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.chance.draw() % bound.max(1) as u64) as usize
    }
}
