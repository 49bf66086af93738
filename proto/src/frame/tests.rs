use super::*;
use crate::Reason;
use proptest::{
    collection::vec,
    prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof},
    proptest,
};

fn hello() -> Hello {
    Hello {
        cluster: "shop".into(),
        node: "a1.eu".into(),
        generation: 1_763_990_000_000,
        protocol_min: 1,
        protocol_max: 1,
        region: "eu".into(),
        zone: "eu-1".into(),
        address: "192.0.2.1:7946".into(),
        build: "0.1.0".into(),
        secrets: 0x0102_0304_0506_0708,
        dial: 1,
        introduced: "192.0.2.2:7946".into(),
    }
}

/// What everything that a frame holds on the heap takes.
fn held(frame: &Frame) -> usize {
    match frame {
        Frame::Hello(hello) => {
            [&hello.cluster, &hello.node, &hello.region, &hello.zone, &hello.address, &hello.build].map(|text| text.capacity()).iter().sum()
        }
        Frame::Refusal(refusal) => refusal.message.capacity(),
        Frame::Gossip { bytes, .. } => bytes.len(),
        Frame::Beat(_) | Frame::Leave | Frame::Unknown { .. } => 0,
    }
}

#[test]
fn frames_have_these_bytes_in_every_release() {
    let beat = Beat { sent: 0x0102, echo: 0x0304, held: 0x05, wall: 0x0607_0809_0a0b };
    for (frame, bytes) in [
        (
            Frame::Beat(beat),
            &[1, 0, 4, 0, 0x02, 0x01, 0, 0, 0, 0, 0, 0, 0x04, 0x03, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0x0b, 0x0a, 9, 8, 7, 6, 0, 0]
                [..],
        ),
        (Frame::Leave, &[1, 0, 5, 0]),
        (Frame::Gossip { ring: Ring::Region, bytes: Bytes::from_static(b"ab") }, &[1, 0, 3, 0, 1, b'a', b'b']),
        (Frame::Gossip { ring: Ring::World, bytes: Bytes::new() }, &[1, 0, 3, 0, 2]),
        (Frame::Refusal(Refusal { reason: Reason::Secrets.into(), message: "no".into() }), &[1, 0, 2, 0, 0x08, 6, 0x12, 2, b'n', b'o']),
        (
            Frame::Hello(Hello { node: "a".into(), generation: 3, secrets: 1, ..Hello::default() }),
            &[1, 0, 1, 0, 0x12, 1, b'a', 0x18, 3, 0x51, 1, 0, 0, 0, 0, 0, 0, 0],
        ),
    ] {
        assert_eq!(frame.encode().as_deref(), Ok(bytes), "{frame:?}");
        assert_eq!(decode(bytes), Ok(frame));
    }
}

#[test]
fn what_is_no_frame_is_refused_with_its_reason() {
    let body = |kind, why: &str| FrameError::Body { kind, why: why.into() };
    let long = vec![1; BYTES_MAX + 1];
    let mut long_hello = vec![1, 0, 1, 0];
    long_hello.resize(4 + 1025, 0);
    let mut long_beat = vec![1, 0, 4, 0];
    long_beat.resize(4 + 33, 0);
    for (bytes, error) in [
        (&[][..], FrameError::TooShort { length: 0 }),
        (&[1, 0, 5], FrameError::TooShort { length: 3 }),
        (&[0, 0, 5, 0], FrameError::Layout(0)),
        (&[2, 0, 5, 0], FrameError::Layout(2)),
        (&long, FrameError::TooLong { length: BYTES_MAX + 1, max: BYTES_MAX }),
        (&long_hello, FrameError::TooLong { length: 1025, max: 1024 }),
        (&long_beat, FrameError::TooLong { length: 33, max: 32 }),
        (&[1, 0, 4, 0, 9], FrameError::TooShort { length: 1 }),
        (&[1, 0, 3, 0], FrameError::TooShort { length: 0 }),
        (&[1, 0, 3, 0, 9], body(Kind::Gossip, "there is no ring 9")),
    ] {
        assert_eq!(decode(bytes), Err(error));
    }
    for protobuf in [&[1, 0, 1, 0, 0x0a, 0xff][..], &[1, 0, 1, 0, 0x0a, 2, 0xff, 0xff], &[1, 0, 2, 0, 0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
        assert!(matches!(decode(protobuf), Err(FrameError::Body { .. })), "{protobuf:?}");
    }
}

#[test]
fn a_kind_of_a_later_release_is_skipped_and_no_error() {
    for kind in [0, 6, 7, 255, 256, u16::MAX] {
        let frame = Frame::Unknown { kind, size: 12 };
        let bytes = frame.encode().expect("twelve bytes fit");
        assert_eq!(decode(&bytes), Ok(frame));
    }
    let mut flagged = Frame::Leave.encode().expect("it fits").to_vec();
    flagged[1] = 0x80;
    assert_eq!(decode(&flagged), Ok(Frame::Leave), "the second byte belongs to later releases");
    let mut with_a_field_more = Frame::Hello(hello()).encode().expect("it fits").to_vec();
    with_a_field_more.extend([0x7a, 1, b'x']);
    assert_eq!(decode(&with_a_field_more), Ok(Frame::Hello(hello())));
}

#[test]
fn nothing_is_encoded_that_a_peer_would_not_take() {
    let gossip = |length| Frame::Gossip { ring: Ring::World, bytes: vec![7; length].into() };
    let largest = gossip(Ring::BYTES_MAX);
    assert_eq!(decode(&largest.encode().expect("the largest fits")), Ok(largest));
    assert_eq!(gossip(Ring::BYTES_MAX + 1).encode(), Err(FrameError::TooLong { length: BYTES_MAX + 1, max: BYTES_MAX }));
    let wordy = Frame::Refusal(Refusal { reason: 0, message: "x".repeat(1100) });
    assert!(matches!(wordy.encode(), Err(FrameError::TooLong { max: 1024, .. })));
}

fn frames() -> impl Strategy<Value = Frame> {
    let text = || "[ -~]{0,80}";
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    let hellos = (text(), text(), text(), text(), numbers).prop_map(|(cluster, node, address, zone, (a, b, c, d))| {
        Frame::Hello(Hello {
            cluster,
            node,
            address,
            zone,
            generation: a,
            protocol_min: b as u32,
            protocol_max: c as u32,
            secrets: d,
            ..Hello::default()
        })
    });
    prop_oneof![
        hellos,
        (0..40_i32, text()).prop_map(|(reason, message)| Frame::Refusal(Refusal { reason, message })),
        (any::<bool>(), vec(any::<u8>(), 0..600))
            .prop_map(|(world, bytes)| Frame::Gossip { ring: if world { Ring::World } else { Ring::Region }, bytes: bytes.into() }),
        numbers.prop_map(|(sent, echo, held, wall)| Frame::Beat(Beat { sent, echo, held, wall })),
        Just(Frame::Leave),
        (6..=u16::MAX, 0..600_usize).prop_map(|(kind, size)| Frame::Unknown { kind, size }),
    ]
}

/// What may become of bytes on their way, by fault or by intent.
#[derive(Clone, Debug)]
enum Harm {
    Flip(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Repeat(usize),
}

impl Harm {
    fn strategy() -> impl Strategy<Value = Self> {
        prop_oneof![
            (any::<usize>(), any::<u8>()).prop_map(|(at, with)| Self::Flip(at, with)),
            any::<usize>().prop_map(Self::Cut),
            (any::<usize>(), vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Self::Insert(at, bytes)),
            any::<usize>().prop_map(Self::Repeat),
        ]
    }

    fn done_to(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Flip(at, with) => {
                let at = at % bytes.len();
                bytes[at] ^= with;
            }
            Self::Cut(at) => bytes.truncate(at % bytes.len()),
            Self::Insert(at, more) => {
                let at = at % bytes.len();
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Repeat(at) => bytes.extend_from_within(at % bytes.len()..),
        }
    }
}

/// For hours of it: `PROPTEST_CASES=100000000 cargo test --release -p shoal-proto frame`.
mod fuzz {
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_frame_comes_out_as_it_went_in(frame in frames()) {
            let bytes = frame.encode().expect("what is drawn here fits");
            prop_assert_eq!(bytes.len(), frame.size());
            prop_assert_eq!(decode(&bytes), Ok(frame));
        }

        #[test]
        fn whatever_comes_in_makes_nothing_larger_than_itself(bytes in vec(any::<u8>(), 0..2048)) {
            if let Ok(frame) = decode(&bytes) {
                prop_assert!(held(&frame) <= 2 * bytes.len(), "{} bytes became {}", bytes.len(), held(&frame));
            }
        }

        #[test]
        fn a_body_of_any_bytes_makes_nothing_larger_than_itself(kind in 0..8_u16, body in vec(any::<u8>(), 0..1100)) {
            let mut bytes = vec![LAYOUT, 0];
            bytes.extend(kind.to_le_bytes());
            bytes.extend(body);
            match decode(&bytes) {
                Ok(frame) => prop_assert!(held(&frame) <= 2 * bytes.len(), "{} bytes became {}", bytes.len(), held(&frame)),
                Err(error) => prop_assert!(error.to_string().len() < 300, "an error is one line: {error}"),
            }
        }

        #[test]
        fn a_frame_that_was_harmed_is_a_frame_or_an_error(frame in frames(), harms in vec(Harm::strategy(), 1..6)) {
            let mut bytes = frame.encode().expect("what is drawn here fits").to_vec();
            for harm in &harms {
                harm.done_to(&mut bytes);
            }
            if let Ok(frame) = decode(&bytes) {
                prop_assert!(held(&frame) <= 2 * bytes.len(), "{} bytes became {}", bytes.len(), held(&frame));
            }
        }
    }
}
