use super::*;
use crate::member::{By, Facts, Member, Region, State};
use proptest::prelude::*;
use std::time::Instant;

/// One word a member: its name, with `-` behind it if it is gone, `l` if it has left. The first one looks.
fn view(words: &str) -> View {
    #[expect(clippy::disallowed_methods, reason = "any instant does")]
    let now = Instant::now();
    let one = |word: &str| {
        let (name, seen) = match (word.strip_suffix('-'), word.strip_suffix('!')) {
            (Some(name), _) => (name, Seen::Gone { since: now }),
            (_, Some(name)) => (name, Seen::Left),
            _ => (word, Seen::Alive),
        };
        let facts = Facts {
            region: "eu".into(),
            zone: "z".into(),
            address: ([127, 0, 0, 1], 1).into(),
            protocol: (1, 1),
            build: "1".into(),
            state: State::Serving,
            configuration: "c".into(),
            load: 0,
            health: BTreeMap::new(),
        };
        Member { name: name.into(), generation: 1, facts: Arc::new(facts), seen, by: By::Itself }
    };
    let members: Vec<Member> = words.split_whitespace().map(one).collect();
    View {
        version: 1,
        me: Arc::clone(&members[0].name),
        region: "eu".into(),
        members: members.into_iter().map(|member| (Arc::clone(&member.name), member)).collect(),
        regions: BTreeMap::from([("eu".into(), Region::default())]),
        rows: BTreeMap::new(),
    }
}

/// What a reader who knows `names` draws of the row of somebody with this view; one sign a name: `L` linked, `h` heard,
/// `-` gone, `?` unknown, `~` unsure.
fn check(told: &str, linked: Option<&str>, names: &str, expected: &str) {
    let told = view(told);
    let linked = linked.map(|linked| linked.split_whitespace().map(Arc::from).collect::<BTreeSet<Arc<str>>>());
    let row = Row::of(&told, linked.as_ref());
    let read = Row::read(&row.text());
    assert_eq!(read.as_ref(), Some(&row), "what is written is what is read");
    let names: Vec<Arc<str>> = names.split_whitespace().map(Arc::from).collect();
    let drawn: String = row.cells(&told.me, &names).iter().map(|cell| sign(*cell)).collect();
    assert_eq!(drawn, expected, "{told:?} {names:?}");
}

fn sign(cell: Cell) -> char {
    match cell {
        Cell::Linked => 'L',
        Cell::Heard => 'h',
        Cell::Gone => '-',
        Cell::Unknown => '?',
        Cell::Unsure => '~',
    }
}

#[test]
fn readers_who_know_the_same_members_draw_the_row_exactly() {
    check("a", None, "a", "L");
    check("a b c", None, "a b c", "LLL");
    check("a b- c", None, "a b c", "L-L");
    check("a b- c- d-", None, "a b c d", "L---");
    check("a b! c", None, "a c", "LL");
}

#[test]
fn a_member_without_a_link_is_heard_only() {
    check("a b c d-", Some("b"), "a b c d", "LLh-");
    check("a b", Some(""), "a b", "Lh");
}

#[test]
fn one_or_two_members_that_only_the_reader_knows_are_found() {
    check("a b", None, "a b c", "LL?");
    check("a b", None, "a b c d", "LL??");
    check("a b d-", None, "a b c d", "LL?-");
}

#[test]
fn a_row_that_the_reader_cannot_explain_is_unsure_and_what_it_lists_is_not() {
    check("a b c", None, "a b", "~~");
    check("a b x c-", None, "a b c", "~~-");
    check("a", None, "a b c d", "~~~~");
}

#[test]
fn rows_agree_when_all_see_the_same() {
    let mut seen = view("a b c-");
    let row = |words: &str| Row::of(&view(words), None);
    seen.rows = BTreeMap::from([("a".into(), row("a b c-")), ("b".into(), row("b a c-"))]);
    assert!(Matrix::of(&seen).agrees());
    assert_eq!(Matrix::of(&seen).rows["c"], None);
    seen.rows.insert("b".into(), row("b a c"));
    assert!(!Matrix::of(&seen).agrees());
}

#[test]
fn what_no_member_writes_is_no_row() {
    for text in ["", "1", "1 0 g : : :", "x 0 g : :", "1 0 q : :", "1 0 g AAAA :", "1 0 g :AAA :", "-1 0 g : :"] {
        assert_eq!(Row::read(text), None, "{text:?}");
    }
    let long = format!("1 0 g :{} :", "AAAA".repeat(400));
    assert!(long.len() < ROW_MAX);
    assert_eq!(Row::read(&long), None, "a list is at most as long as a member writes it");
}

proptest! {
    #[test]
    fn a_row_stays_short_whatever_the_size_of_the_region(alive in 1usize..700, gone in 0usize..700) {
        let words: Vec<String> = (0..alive).map(|n| format!("alive{n}")).chain((0..gone).map(|n| format!("gone{n}-"))).collect();
        let row = Row::of(&view(&words.join(" ")), Some(&BTreeSet::new()));
        prop_assert!(row.text().len() <= ROW_MAX);
        prop_assert_eq!(Row::read(&row.text()), Some(row));
    }

    #[test]
    fn reading_never_panics(text in "\\PC{0,80}") {
        let _ = Row::read(&text);
    }
}
