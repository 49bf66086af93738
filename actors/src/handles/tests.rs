use super::*;
use proptest::prelude::*;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Number(u32);

impl Message for Number {
    fn kind(&self) -> &'static str {
        "number"
    }
}

fn mailbox() -> Arc<Mailbox<Number>> {
    Mailbox::new(Id::root().child("counter"), "counter")
}

fn drain(mailbox: &Mailbox<Number>) -> Vec<u32> {
    std::iter::from_fn(|| mailbox.take()).map(|number| number.0).collect()
}

/// Sends 1 to 5 without anybody reading: what came of the last, and what waits.
fn check(full: Full, last: Result<Sent, Refused<Number>>, waiting: &[u32], counts: [u64; 4]) {
    let mailbox = mailbox();
    let lane = mailbox.lane(full);
    let answers: Vec<_> = (1..=5).map(|number| lane.send(Number(number))).collect();
    assert_eq!(answers.last(), Some(&last), "{full:?}");
    let view = mailbox.slot().view();
    assert_eq!([view.depth, view.refused, view.dropped, view.replaced], counts, "{full:?}");
    assert_eq!(view.bound, full.bound() as u64);
    assert_eq!(drain(&mailbox), waiting, "{full:?}");
    assert_eq!(mailbox.slot().view().depth, 0);
}

#[test]
fn a_full_mailbox_does_what_its_policy_says() {
    check(Full::Refuse { bound: 3 }, Err(Refused::Full(Number(5))), &[1, 2, 3], [3, 2, 0, 0]);
    check(Full::DropOldest { bound: 3 }, Ok(Sent::Dropped), &[3, 4, 5], [3, 0, 2, 0]);
    check(Full::KeepLatest, Ok(Sent::Replaced), &[5], [1, 0, 0, 4]);
    check(Full::Refuse { bound: 8 }, Ok(Sent::Queued), &[1, 2, 3, 4, 5], [5, 0, 0, 0]);
    check(Full::Refuse { bound: 0 }, Err(Refused::Full(Number(5))), &[1], [1, 4, 0, 0]);
}

#[test]
fn a_state_that_changes_all_the_time_keeps_its_turn() {
    let mailbox = mailbox();
    let (orders, state) = (mailbox.lane(Full::Refuse { bound: 4 }), mailbox.lane(Full::KeepLatest));
    for number in 0..3 {
        state.send(Number(100 + number)).expect("a state is always taken");
        orders.send(Number(number)).expect("there is room");
    }
    assert_eq!(drain(&mailbox), [102, 0, 1, 2]);
}

#[test]
fn who_is_gone_takes_nothing() {
    let mailbox = mailbox();
    let lane = mailbox.lane(Full::KeepLatest);
    lane.send(Number(1)).expect("a state is always taken");
    mailbox.close();
    assert_eq!(lane.send(Number(2)), Err(Refused::Gone(Number(2))));
    assert_eq!(mailbox.take(), None);
    assert_eq!((mailbox.slot().view().depth, mailbox.slot().view().dropped), (0, 1));
}

proptest! {
    /// Three lanes, one of each policy, against what each promises.
    #[test]
    fn bounds_hold_and_the_order_is_that_of_sending(steps in prop::collection::vec((0..4usize, 1..4usize), 0..200)) {
        let mailbox = mailbox();
        let lanes = [Full::Refuse { bound: 3 }, Full::DropOldest { bound: 2 }, Full::KeepLatest];
        let references = lanes.map(|full| mailbox.lane(full));
        let (mut number, mut taken, mut refused) = (0, Vec::new(), 0);
        for (lane, count) in steps {
            for _ in 0..count {
                match references.get(lane) {
                    Some(reference) => {
                        number += 1;
                        refused += u64::from(reference.send(Number(number)).is_err());
                    }
                    None => taken.extend(mailbox.take().map(|number| number.0)),
                }
                let view = mailbox.slot().view();
                prop_assert!(view.depth <= 6 && view.bound == 6);
            }
        }
        taken.extend(drain(&mailbox));
        let view = mailbox.slot().view();
        prop_assert_eq!(view.refused, refused);
        prop_assert_eq!(u64::from(number), taken.len() as u64 + view.refused + view.dropped + view.replaced);
    }

    #[test]
    fn one_lane_is_first_in_first_out(sent in 1..50u32, bound in 1..20usize) {
        for full in [Full::Refuse { bound }, Full::DropOldest { bound }] {
            let mailbox = mailbox();
            let lane = mailbox.lane(full);
            for number in 0..sent {
                let _ = lane.send(Number(number));
            }
            let taken = drain(&mailbox);
            prop_assert!(taken.windows(2).all(|pair| pair[0] + 1 == pair[1]));
            prop_assert_eq!(taken.len(), bound.min(sent as usize));
        }
    }
}
