use super::{super::native::put_varint, *};
use proptest::prelude::*;
use std::sync::Arc;

fn id(name: &str, incarnation: u64, address: &str) -> Id {
    Id { name: name.into(), incarnation, address: address.parse().expect("the case has an address") }
}

fn entry(id: Id, heartbeat: u64, collected: u64, version: u64) -> Entry {
    Entry { id, heartbeat, collected, version }
}

#[test]
fn a_message_is_these_bytes() {
    let packed = Packed {
        kind: Kind::SynAck,
        mark: 0x0403_0201,
        full: vec![entry(id("n1", 300, "10.0.0.1:7400"), 5, 0, 2)],
        short: vec![Short { hash: 0x0d0c_0b0a, heartbeat: 128, collected: 1, version: 3 }],
        delta: &[0],
    };
    let bytes = packed.bytes();
    let expected = [
        &[1u8, 1, 1, 2, 3, 4][..],
        &[1, 2, b'n', b'1', 0xac, 0x02, 4, 10, 0, 0, 1, 0xe8, 0x1c, 5, 0, 2],
        &[1, 0x0a, 0x0b, 0x0c, 0x0d, 0x80, 0x01, 1, 3],
        &[0],
    ];
    assert_eq!(bytes, expected.concat());
    assert_eq!(unpack(&bytes, 2), Ok(packed));
}

#[test]
fn short_names_and_marks_are_the_same_on_every_node_and_in_every_release() {
    assert_eq!(short(&id("n1", 7, "10.0.0.1:7400")), 0xc211_c5ff);
    assert_eq!(short(&id("n1", 7, "[2001:db8::1]:7400")), 0xedf5_1c42);
    assert_eq!(mark("shoal/eu"), 0x9ac0_8285);
}

#[test]
fn a_message_is_not_longer_than_a_datagram() {
    let message = |length: usize| {
        let delta = vec![0; length - 8];
        Packed { kind: Kind::Ack, mark: 7, full: Vec::new(), short: Vec::new(), delta: &delta }.bytes()
    };
    assert!(unpack(&message(BYTES_MAX), 0).is_ok());
    assert_eq!(unpack(&message(BYTES_MAX + 1), 0), Err(Unpackable::Length));
    assert!(message(8 + 65_507).len() <= BYTES_MAX, "chitchat's longest delta");
}

/// A head, then a count, then these bytes.
fn counted(count: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, 0, 0, 0, 0, 0];
    put_varint(&mut bytes, count);
    bytes.extend(rest);
    bytes
}

#[test]
fn a_count_is_checked_before_anything_is_made_room_for() {
    assert_eq!(unpack(&counted(u64::MAX, &[0; 64]), 1_000), Err(Unpackable::Count));
    assert_eq!(unpack(&counted(100, &[0; 64]), 1_000), Err(Unpackable::Count), "there are not enough bytes");
    let entries = [[4u8, 3, 2, 1, 0, 0, 0]; 11].concat();
    let shorts = |count: u64| {
        let mut bytes = counted(0, &[]);
        put_varint(&mut bytes, count);
        bytes.extend(&entries);
        bytes
    };
    assert_eq!(unpack(&shorts(11), 10), Err(Unpackable::Count), "there are more than there may be");
    assert!(unpack(&shorts(11), 11).is_ok());
}

#[test]
fn a_name_that_no_node_has_is_no_entry() {
    for name in ["", "a b", "ä", "-"] {
        let mut rest = Vec::new();
        put_varint(&mut rest, name.len() as u64);
        rest.extend(name.as_bytes());
        rest.extend([7, 4, 10, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(unpack(&counted(1, &rest), 10), Err(Unpackable::Entry), "{name:?}");
    }
}

#[test]
fn numbers_have_one_form() {
    for bytes in [&[0x80u8, 0][..], &[0xff; 11], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], &[0x80]] {
        assert_eq!(Reader(bytes).varint(), None, "{bytes:?}");
    }
    for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, number);
        assert_eq!(Reader(&bytes).varint(), Some(number));
    }
}

fn entries() -> impl Strategy<Value = Entry> {
    let address = prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port))),
        (any::<[u8; 16]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port))),
    ];
    ("[a-z0-9]{1,63}", any::<u64>(), address, any::<u64>(), any::<u64>(), any::<u64>()).prop_map(
        |(name, incarnation, address, heartbeat, collected, version)| {
            entry(Id { name: Arc::from(name), incarnation, address }, heartbeat, collected, version)
        },
    )
}

proptest! {
    #[test]
    fn what_is_packed_is_what_is_unpacked(
        full in proptest::collection::vec(entries(), 0..20),
        short in proptest::collection::vec((any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>()), 0..20),
        delta in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let short = short.into_iter().map(|(hash, heartbeat, collected, version)| Short { hash, heartbeat, collected, version }).collect();
        let packed = Packed { kind: Kind::SynAck, mark: 5, full, short, delta: &delta };
        let bytes = packed.bytes();
        prop_assert_eq!(unpack(&bytes, 40), Ok(packed));
    }

    #[test]
    fn unpacking_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), entries_max in 0usize..100) {
        let _ = unpack(&bytes, entries_max);
        let mut framed = vec![1, 0, 0, 0, 0, 0];
        framed.extend(&bytes);
        if let Ok(packed) = unpack(&framed, entries_max) {
            prop_assert!(packed.full.len() + packed.short.len() <= entries_max);
        }
    }
}
