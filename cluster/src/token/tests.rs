use super::*;
use crate::keyring::Key;
use proptest::prelude::*;

const AUTHORITY: AuthorityHash = AuthorityHash([5; 32]);

fn keyring(token: u8) -> Keyring {
    Keyring::new([Key::new([1; 32]), Key::new([2; 32]), Key::new([token; 32])])
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn grant() -> Grant {
    Grant { number: 7, authority: AUTHORITY, region: "westeurope".into(), role: Role::Member, expires: at(1000) }
}

#[test]
fn a_token_is_read_as_it_was_made_and_opens_until_it_expires() {
    let ring = keyring(3);
    for grant in [grant(), Grant { role: Role::Signer, region: "e".into(), ..grant() }] {
        let token: Token = Token::issue(grant.clone(), &ring).reveal().reveal().parse().expect("its own text");
        assert_eq!(token.claims(), &grant);
        assert_eq!(token.judge(&ring, AUTHORITY, at(999)), Ok(&grant));
        assert_eq!(token.judge(&ring, AUTHORITY, at(1060)), Err(TokenRefusal::Expired { ago: Duration::from_secs(60) }));
    }
}

#[test]
fn tokens_of_others_open_nothing() {
    let token = Token::issue(grant(), &keyring(3));
    let unknown = keyring(3).used_id(Purpose::Token);
    assert_eq!(token.judge(&keyring(4), AUTHORITY, at(0)), Err(TokenRefusal::UnknownKey(unknown)));
    assert_eq!(token.judge(&keyring(3), AuthorityHash([6; 32]), at(0)), Err(TokenRefusal::OtherAuthority));
}

#[test]
fn a_token_outlives_the_first_two_steps_of_a_rotation() {
    let mut ring = keyring(3);
    let token = Token::issue(grant(), &ring);
    let old = ring.used_id(Purpose::Token);
    let new = ring.add(Purpose::Token, Key::new([9; 32])).expect("there is room");
    ring.use_key(Purpose::Token, new).expect("it is held");
    assert!(token.judge(&ring, AUTHORITY, at(0)).is_ok());
    ring.remove(Purpose::Token, old).expect("it is not used");
    assert_eq!(token.judge(&ring, AUTHORITY, at(0)), Err(TokenRefusal::UnknownKey(old)));
}

#[test]
fn what_is_no_token_says_what_it_is() {
    let whole = Token::issue(grant(), &keyring(3)).reveal().reveal().to_string();
    for (text, expected) in [
        ("hello".to_string(), TokenError::NotAToken),
        (whole[1..].to_string(), TokenError::NotAToken),
        (whole[..whole.len() - 4].to_string(), TokenError::Torn),
        (format!("{whole}AAAA"), TokenError::Torn),
        (format!("{whole}!"), TokenError::Torn),
        (PREFIX.to_string(), TokenError::Torn),
        (format!("{PREFIX}Ag"), TokenError::OtherVersion(2)),
        (format!("{PREFIX}{}", "A".repeat(LENGTH_MAX + 1)), TokenError::NotAToken),
    ] {
        assert_eq!(text.parse::<Token>(), Err(expected), "{text}");
    }
    assert!(format!(" {whole}\n").parse::<Token>().is_ok(), "white space around it is not part of it");
}

#[test]
fn a_token_is_not_shown() {
    let token = Token::issue(grant(), &keyring(3));
    let shown = format!("{token:?} {:?}", token.reveal());
    let word = token.reveal().reveal().to_string();
    assert!(!shown.contains(&word[word.len() - 20..]), "{shown}");
}

proptest! {
    #[test]
    fn a_token_with_one_bit_changed_opens_nothing(bit in 0usize..8 * 97) {
        let mut signed = Token::issue(grant(), &keyring(3)).signed.to_vec();
        prop_assume!(bit / 8 < signed.len());
        signed[bit / 8] ^= 1 << (bit % 8);
        let text = format!("{PREFIX}{}", BASE64.encode(&signed));
        if let Ok(token) = text.parse::<Token>() {
            prop_assert!(token.judge(&keyring(3), AUTHORITY, at(0)).is_err());
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = text.parse::<Token>();
        let _ = format!("{PREFIX}{}", BASE64.encode([vec![VERSION], bytes].concat())).parse::<Token>();
    }
}
