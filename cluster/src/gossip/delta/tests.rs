use super::{super::native::put_id, *};
use proptest::prelude::*;

fn id(name: &str) -> Id {
    Id { name: name.into(), incarnation: 7, address: ([10, 0, 0, 1], 7400).into() }
}

/// Operations as a member's chitchat would write them, one word each: `@name` a member, `key=value#version` a change,
/// `#version` a version without changes.
fn raw(words: &str) -> Vec<u8> {
    let mut raw = Vec::new();
    let text = |raw: &mut Vec<u8>, text: &str| {
        raw.extend((text.len() as u16).to_le_bytes());
        raw.extend(text.as_bytes());
    };
    for word in words.split_whitespace() {
        let (what, version) = word.split_once('#').unwrap_or((word, "0"));
        let version: u64 = version.parse().expect("a case numbers its changes");
        if let Some(name) = what.strip_prefix('@') {
            raw.push(NODE);
            put_id(&mut raw, &id(name));
            raw.extend([0; 16]);
        } else if let Some((key, value)) = what.split_once('=') {
            raw.push(CHANGE);
            text(&mut raw, key);
            text(&mut raw, value);
            raw.extend(version.to_le_bytes());
            raw.push(0);
        } else {
            raw.push(VERSION);
            raw.extend(version.to_le_bytes());
        }
    }
    raw
}

fn compressed(raw: &[u8]) -> Vec<u8> {
    let block = zstd::bulk::compress(raw, 0).expect("memory is there");
    let mut blocks = vec![COMPRESSED];
    blocks.extend((block.len() as u16).to_le_bytes());
    blocks.extend(block);
    blocks.push(END);
    blocks
}

/// What is left of a delta, when nothing may be said of `me` and what is left out is counted.
fn check(words: &str, left: Option<&str>, left_out: u64) {
    for blocks in [compressed(&raw(words)), pack(&raw(words))] {
        let judged = judge(&blocks, |id| &*id.name != "me");
        let expected = left.map(|left| Judged { blocks: pack(&raw(left)), left_out }).ok_or(Unreadable);
        assert_eq!(judged, expected, "{words}");
    }
}

#[test]
fn what_members_write_passes() {
    check("@a f=x#1 s=j#2 @b #9", Some("@a f=x#1 s=j#2 @b #9"), 0);
    check("@a", Some("@a"), 0);
}

#[test]
fn nothing_is_said_of_this_node_itself() {
    check("@a f=x#1 @me f=x#1 s=j#2 @b #3", Some("@a f=x#1 @b #3"), 1);
}

#[test]
fn a_change_that_would_break_chitchat_or_that_is_too_long_is_left_out() {
    check("@a f=x#1 ä=x#2 s=j#3", Some("@a f=x#1 s=j#3"), 1);
    check("@a =x#1 s=j#3", Some("@a s=j#3"), 1);
    check("@a k=ü#1 s=j#3", Some("@a s=j#3"), 1);
    let long = format!("@a {}=x#1 s={}#2 l=0#3", "k".repeat(KEY_MAX + 1), "v".repeat(VALUE_MAX + 1));
    check(&long, Some("@a l=0#3"), 2);
    let longest = format!("@a {}={}#1", "k".repeat(KEY_MAX), "v".repeat(VALUE_MAX));
    check(&longest, Some(&longest), 0);
}

#[test]
fn a_member_whose_changes_are_all_left_out_is_still_brought_up_to_its_version() {
    check("@a ä=x#2 ö=x#5 @b l=0#1", Some("@a #5 @b l=0#1"), 2);
    check("@a l=0#1 ö=x#5", Some("@a l=0#1"), 1);
}

#[test]
fn there_are_no_more_blocks_than_chitchat_would_write() {
    let cut = |block: &[u8], blocks: usize| [&block.repeat(blocks)[..], &[END]].concat();
    for nothing in [&[COMPRESSED, 0, 0][..], &[PLAIN, 0, 0]] {
        assert!(judge(&cut(nothing, BLOCKS_MAX), |_| true).is_ok());
        assert_eq!(judge(&cut(nothing, BLOCKS_MAX + 1), |_| true), Err(Unreadable));
    }
    // What is read at once comes in whole blocks of 16 KiB.
    let change = raw(&format!("{}={}#1", "k".repeat(KEY_MAX), "v".repeat(VALUE_MAX)));
    assert!(16_384 * (BLOCKS_MAX - 1) > RAW_MAX + change.len());
}

#[test]
fn a_version_never_goes_back() {
    check("@a l=1#2 l=0#1", None, 0);
    check("@a l=1#2 l=0#2", None, 0);
    check("@a l=1#0", None, 0);
    check("@a l=1#10 #5", None, 0);
    check("@a #5 l=1#10", None, 0);
    check("@a #5 #6", None, 0);
}

#[test]
fn a_change_belongs_to_a_member_and_a_member_comes_once() {
    check("l=0#1", None, 0);
    check("#1", None, 0);
    check("@a l=0#1 @b @a l=0#2", None, 0);
}

#[test]
fn a_delta_that_unpacks_to_too_much_is_read_up_to_the_bound() {
    // One in ten thousand: 2,977 blocks of 65,535 bytes would fill a datagram and then 195 MB.
    let member = raw("@a");
    let change = raw(&format!("k={}#1", "v".repeat(4_000)));
    let mut bytes = member.clone();
    let mut version = 0u64;
    while bytes.len() < 4 * RAW_MAX {
        version += 1;
        let mut change = change.clone();
        let at = change.len() - 9;
        change[at..at + 8].copy_from_slice(&version.to_le_bytes());
        bytes.extend(change);
    }
    let mut blocks = Vec::new();
    for block in bytes.chunks(BLOCK_MAX) {
        let mut block = compressed(block);
        block.pop();
        blocks.extend(block);
    }
    blocks.push(END);
    assert!(blocks.len() < 40_000);
    let judged = judge(&blocks, |_| true).expect("what was read is sound");
    assert!(judged.blocks.len() <= RAW_MAX + 64);
    let whole = (judged.blocks.len() - member.len()) / change.len();
    assert!(whole > 50, "{whole} changes are there all the same");
}

#[test]
fn what_is_no_stream_of_blocks_is_unreadable() {
    for blocks in [&b""[..], &[1], &[3, 0, 0, 0], &[2, 5, 0, 1, 0], &[1, 4, 0, 1, 2, 3, 4, 0], &[0, 0], &[2, 1, 0, 9, 0]] {
        assert_eq!(judge(blocks, |_| true), Err(Unreadable), "{blocks:?}");
    }
    assert_eq!(judge(NOTHING, |_| true), Ok(Judged { blocks: NOTHING.to_vec(), left_out: 0 }));
}

proptest! {
    #[test]
    fn judging_never_panics_and_what_passes_passes_again(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for blocks in [bytes.clone(), pack(&bytes), compressed(&bytes)] {
            if let Ok(judged) = judge(&blocks, |_| true) {
                prop_assert_eq!(judge(&judged.blocks, |_| true), Ok(Judged { left_out: 0, ..judged }));
            }
        }
    }

    #[test]
    fn a_cut_or_changed_delta_never_panics(cut in 0usize..400, at in 0usize..400, to in any::<u8>()) {
        let mut blocks = pack(&raw("@a f=eu#1 s=j#2 m/b=xyz#3 @b #9 @c f=us#1 s=s#7"));
        let at = at % blocks.len();
        blocks[at] = to;
        let cut = cut % (blocks.len() + 1);
        let _ = judge(&blocks, |_| true);
        let _ = judge(&blocks[..cut], |_| true);
    }
}
