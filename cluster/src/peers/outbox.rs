//! What is to be sent to one peer: state, not a queue. A peer that reads slowly costs a bounded amount of memory, and gets
//! what is newest once it reads.

use proto::frame::{self, Frame, Ring};
use std::collections::VecDeque;

/// Frames that must not be lost and that are few.
pub(super) const CONTROL_MAX: usize = 64;

/// Gossip that waits, for each ring. What is older than that has been overtaken.
pub(super) const GOSSIP_MAX: usize = 16;
pub(super) const GOSSIP_BYTES_MAX: usize = 512 << 10;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    control: VecDeque<Frame>,
    beat: bool,
    gossip: [Gossip; Ring::ALL.len()],
    /// The ring whose turn it is.
    turn: usize,
    ending: bool,
}

#[derive(Debug, Default)]
struct Gossip {
    waiting: VecDeque<Frame>,
    bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Put {
    Kept,
    /// Kept, and so many older ones are not sent any more.
    Overtook(usize),
    /// There is no room, no peer would take it, or nothing is sent any more.
    Full,
}

#[derive(PartialEq, Debug)]
pub(super) enum Next {
    Frame(Frame),
    /// A beat is due: it is made when it is sent, because it says when that was.
    Beat,
    Nothing,
    /// Nothing will come any more.
    End,
}

impl Outbox {
    pub(super) fn put(&mut self, frame: Frame) -> Put {
        if self.ending || frame.size() > frame::BYTES_MAX {
            return Put::Full;
        }
        match frame {
            Frame::Gossip { ring, .. } => self.gossip[ring as usize].put(frame),
            // A beat is not passed on: `beat` asks for one.
            Frame::Beat(_) => Put::Full,
            _ if self.control.len() == CONTROL_MAX => Put::Full,
            frame => {
                self.control.push_back(frame);
                Put::Kept
            }
        }
    }

    pub(super) fn beat(&mut self) {
        self.beat = !self.ending;
    }

    /// Sends what has to be sent and nothing after it; gossip has lost its point.
    pub(super) fn end(&mut self) {
        self.ending = true;
        self.beat = false;
        self.gossip = Default::default();
    }

    pub(super) fn next(&mut self) -> Next {
        if let Some(frame) = self.control.pop_front() {
            return Next::Frame(frame);
        }
        if std::mem::take(&mut self.beat) {
            return Next::Beat;
        }
        for _ in Ring::ALL {
            self.turn = (self.turn + 1) % Ring::ALL.len();
            if let Some(frame) = self.gossip[self.turn].take() {
                return Next::Frame(frame);
            }
        }
        if self.ending { Next::End } else { Next::Nothing }
    }

    /// Whether something has to be sent.
    pub(super) fn waits(&self) -> bool {
        self.beat || !self.control.is_empty() || self.gossip.iter().any(|gossip| !gossip.waiting.is_empty())
    }
}

impl Gossip {
    fn put(&mut self, frame: Frame) -> Put {
        let size = frame.size();
        let mut overtaken = 0;
        while self.waiting.len() == GOSSIP_MAX || self.bytes + size > GOSSIP_BYTES_MAX {
            self.take();
            overtaken += 1;
        }
        self.bytes += size;
        self.waiting.push_back(frame);
        if overtaken == 0 { Put::Kept } else { Put::Overtook(overtaken) }
    }

    fn take(&mut self) -> Option<Frame> {
        let frame = self.waiting.pop_front()?;
        self.bytes -= frame.size();
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::{
        prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof},
        proptest,
    };

    fn gossip(ring: Ring, length: usize, first: u8) -> Frame {
        let mut bytes = vec![0; length.max(1)];
        bytes[0] = first;
        Frame::Gossip { ring, bytes: Bytes::from(bytes) }
    }

    #[test]
    fn what_steers_goes_first_then_the_beat_then_the_rings_by_turns() {
        let mut outbox = Outbox::default();
        for n in 0..2 {
            outbox.put(gossip(Ring::Region, 1, n));
            outbox.put(gossip(Ring::World, 1, n));
        }
        outbox.beat();
        outbox.beat();
        outbox.put(Frame::Leave);
        let mut order = Vec::new();
        loop {
            match outbox.next() {
                Next::Nothing => break,
                next => order.push(next),
            }
        }
        let said = |ring, n| Next::Frame(gossip(ring, 1, n));
        assert_eq!(
            order,
            [
                Next::Frame(Frame::Leave),
                Next::Beat,
                said(Ring::World, 0),
                said(Ring::Region, 0),
                said(Ring::World, 1),
                said(Ring::Region, 1)
            ]
        );
    }

    #[test]
    fn newer_gossip_overtakes_the_oldest_of_its_ring_only() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.put(gossip(Ring::World, 1, 99)), Put::Kept);
        for n in 0..GOSSIP_MAX {
            assert_eq!(outbox.put(gossip(Ring::Region, 1, n as u8)), Put::Kept);
        }
        assert_eq!(outbox.put(gossip(Ring::Region, 1, 50)), Put::Overtook(1));
        assert_eq!(outbox.next(), Next::Frame(gossip(Ring::World, 1, 99)));
        assert_eq!(outbox.next(), Next::Frame(gossip(Ring::Region, 1, 1)));

        let mut outbox = Outbox::default();
        for (n, put) in [(0, Put::Kept), (1, Put::Kept), (2, Put::Overtook(1)), (3, Put::Overtook(1))] {
            assert_eq!(outbox.put(gossip(Ring::Region, 250_000, n)), put);
        }
        assert_eq!(outbox.put(gossip(Ring::Region, frame::BYTES_MAX, 4)), Put::Full, "nobody would take it");
        assert_eq!(outbox.next(), Next::Frame(gossip(Ring::Region, 250_000, 2)));
    }

    #[test]
    fn after_the_end_what_steers_is_sent_and_nothing_else() {
        let mut outbox = Outbox::default();
        outbox.put(gossip(Ring::World, 1, 1));
        outbox.beat();
        outbox.put(Frame::Leave);
        outbox.end();
        outbox.beat();
        assert_eq!(outbox.put(Frame::Leave), Put::Full);
        assert_eq!((outbox.next(), outbox.next(), outbox.next()), (Next::Frame(Frame::Leave), Next::End, Next::End));
    }

    proptest! {
        #[test]
        fn it_never_holds_more_than_it_may(
            puts in proptest::collection::vec(
                prop_oneof![
                    (any::<bool>(), 0..300_000_usize).prop_map(|(world, n)| Some(gossip(if world { Ring::World } else { Ring::Region }, n, 0))),
                    any::<bool>().prop_map(|_| Some(Frame::Leave)),
                    any::<bool>().prop_map(|_| None),
                ],
                1..200,
            )
        ) {
            let mut outbox = Outbox::default();
            for put in puts {
                match put {
                    Some(frame) => {
                        outbox.put(frame);
                    }
                    None => {
                        let waited = outbox.waits();
                        prop_assert_eq!(waited, outbox.next() != Next::Nothing);
                    }
                }
                prop_assert!(outbox.control.len() <= CONTROL_MAX);
                for gossip in &outbox.gossip {
                    prop_assert!(gossip.waiting.len() <= GOSSIP_MAX && gossip.bytes <= GOSSIP_BYTES_MAX);
                    prop_assert_eq!(gossip.bytes, gossip.waiting.iter().map(Frame::size).sum::<usize>());
                }
            }
        }
    }
}
