//! How a node is let in: tokens, petitions, certificates and keys; and what peers ask of a node's pages.

use super::{
    super::{
        meter::metered,
        structure::{pieced, pieces},
    },
    Bench, Structure, Target, Verdict, hold, is_one_line, membership, now_or_never,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use cluster::{
    World,
    keyring::Keyring,
    peers::fuzzing::admitted,
    token::{AuthorityHash, Token},
};
use node::cluster::fuzzing::{Shop, listen, page, tell};
use prost::Message;
use proto::{AskRequest, EnrolReply, EnrolRequest, codec::Crosses};
use std::fmt::Write;

/// What a chain of certificates is taken apart into, and what checking one takes.
const CHECKED: usize = 256 << 10;

fn shop() -> Shop {
    Shop::new(&*membership::world()).expect("the keys are good")
}

pub(super) const TOKEN: Target = Target {
    name: "token",
    reads: "a join token",
    structure: Structure::Plain,
    words: &[b"shoaljoin_", b" ", b"AA", b"_", b"-"],
    longest: 1 << 10,
    beside: 0,
    begin: || {
        let shop = shop();
        let token = shop.petitions()[0].token.clone();
        let seeds = vec![token.clone().into_bytes(), format!(" {token}\n").into_bytes()];
        Bench { seeds, read: Box::new(move |input| read_token(&shop, input)) }
    },
};

fn read_token(shop: &Shop, input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(false) };
    let token = match metered(|| text.parse::<Token>()) {
        Ok(token) => token,
        Err(error) => return hold(is_one_line(&error.to_string()), "what is wrong with a token is one line").map(|()| false),
    };
    hold(token.reveal().reveal().parse().as_ref() == Ok(&token), "a token that is written again reads the same")?;
    let authority: AuthorityHash = token.claims().authority;
    let wall = membership::world().wall();
    if token.judge(shop.keyring(), authority, wall).is_ok() {
        hold(Token::issue(token.claims().clone(), shop.keyring()) == token, "a token that is good was made here")?;
    }
    Ok(true)
}

pub(super) const KEYRING: Target = Target {
    name: "keyring",
    reads: "the secrets of a cluster",
    structure: Structure::Split(b'"'),
    words: &[
        b"version", b"hash", b"pepper", b"token", b"keys", b"use", b"{", b"}", b"[", b"]", b",", b":", b"1", b"null", b"\\u0000", b"\"\"",
    ],
    longest: 64 << 10,
    beside: 0,
    begin: || {
        let keyring = shop().keyring().reveal().reveal().to_string();
        Bench { seeds: vec![keyring.into_bytes()], read: Box::new(read_keyring) }
    },
};

fn read_keyring(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(false) };
    let Ok(keyring) = metered(|| text.parse::<Keyring>()) else { return Ok(false) };
    hold(keyring.reveal().reveal().parse().is_ok_and(|again: Keyring| again == keyring), "a keyring that is written again reads the same")?;
    hold(keyring.accepts(keyring.fingerprint()), "a keyring accepts itself")?;
    Ok(true)
}

pub(super) const PETITION: Target = Target {
    name: "petition",
    reads: "what a node asks for that wants to be let in",
    structure: Structure::Fields,
    words: &[b"shoaljoin_", b"west", b"a", b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"],
    longest: 64 << 10,
    beside: CHECKED,
    begin: || {
        let shop = shop();
        let seeds = shop.petitions().iter().map(Message::encode_to_vec).collect();
        Bench { seeds, read: Box::new(move |input| read_petition(&shop, input)) }
    },
};

fn read_petition(shop: &Shop, input: &[u8]) -> Verdict {
    let Ok(request) = EnrolRequest::take(Bytes::copy_from_slice(input)) else { return Ok(false) };
    if let Some(again) = Shop::written(&request) {
        // Beside a token, nothing else is looked at.
        let same = again.node == request.node && again.region == request.region && again.signing_request == request.signing_request;
        hold(same && again.token.trim() == request.token.trim(), "a petition that is passed on asks for the same")?;
    }
    match metered(|| shop.admit(&request)) {
        Ok(reply) => {
            let named = shop.trusted(&reply.chain).map_err(|why| format!("broken: who is let in is trusted: {why}"))?;
            hold(*named.node == *request.node && named.region.as_deref() == Some("west"), "a certificate names who asked for it")?;
            Ok(true)
        }
        Err(refusal) => hold(is_one_line(&refusal.message), "a refusal is one line").map(|()| false),
    }
}

pub(super) const ADMISSION: Target = Target {
    name: "admission",
    reads: "what a node is given that is let in",
    structure: Structure::Fields,
    words: &[b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n", b"\n", b"{", b"}"],
    longest: 256 << 10,
    beside: CHECKED,
    begin: || {
        let shop = shop();
        let admitted = shop.admit(&shop.petitions()[0]).expect("it is a good petition");
        Bench { seeds: vec![admitted.encode_to_vec()], read: Box::new(move |input| read_admission(&shop, input)) }
    },
};

fn read_admission(shop: &Shop, input: &[u8]) -> Verdict {
    let Ok(reply) = EnrolReply::take(Bytes::copy_from_slice(input)) else { return Ok(false) };
    let reply = match admitted(reply) {
        Ok(reply) => reply,
        Err(no) => return hold(is_one_line(&no.to_string()), "a refusal is one line").map(|()| false),
    };
    match metered(|| shop.accept(reply)) {
        Ok(admitted) => {
            let named = shop.trusted(&admitted.credentials.chain).map_err(|why| format!("broken: what was accepted is trusted: {why}"))?;
            hold(*named.node == *"a", "what was accepted is our own certificate")?;
            Ok(true)
        }
        Err(why) => hold(is_one_line(&why.to_string()), "what is wrong with an admission is one line").map(|()| false),
    }
}

pub(super) const CERTIFICATE: Target = Target {
    name: "certificate",
    reads: "a certificate, for the names in it",
    structure: Structure::Plain,
    words: &[b"spiffe://shop/west/a", b"a.west.shop", &[0x06, 0x03, 0x55, 0x1d, 0x11], &[0x86], &[0x82], &[0x30, 0x80], &[0x30, 0x84]],
    longest: 16 << 10,
    beside: 0,
    begin: || {
        let shop = shop();
        let seeds = shop.certificates().into_iter().take(1).collect();
        Bench { seeds, read: Box::new(move |input| read_certificate(&shop, input)) }
    },
};

fn read_certificate(shop: &Shop, input: &[u8]) -> Verdict {
    let named = metered(|| shop.named(input));
    for identity in named.iter().flatten() {
        hold(config::is_dns_name(&identity.node), "a certificate names a node, or nobody")?;
        hold(identity.region.as_deref().is_none_or(config::is_dns_label), "a region is a label")?;
    }
    for why in named.iter().filter_map(|identity| identity.as_ref().err()) {
        hold(is_one_line(&why.to_string()), "what is wrong with a certificate is one line")?;
    }
    Ok(named.iter().any(Result::is_ok))
}

pub(super) const CHAIN: Target = Target {
    name: "chain",
    reads: "a certificate with those that lead to the root",
    structure: Structure::Pieces,
    words: &[b"spiffe://shop/west/a", b"a.west.shop", &[0x30, 0x82], &[0x30, 0x80]],
    longest: 32 << 10,
    beside: CHECKED,
    begin: || {
        let shop = shop();
        let certificates = shop.certificates();
        let seeds = vec![pieced(&certificates), pieced(&certificates[..2])];
        Bench { seeds, read: Box::new(move |input| read_chain(&shop, input)) }
    },
};

fn read_chain(shop: &Shop, input: &[u8]) -> Verdict {
    let mut pem = String::new();
    for certificate in pieces(input) {
        // A string takes whatever is written.
        let _ = write!(pem, "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64.encode(certificate));
    }
    match metered(|| shop.trusted(&pem)) {
        Ok(identity) => hold(*identity.node == *"a", "nobody is trusted who was not let in").map(|()| true),
        Err(why) => hold(is_one_line(&why.to_string()), "why nobody is trusted is one line").map(|()| false),
    }
}

pub(super) const AUTHORITY: Target = Target {
    name: "authority",
    reads: "an authority with its key, as a signer is given it",
    structure: Structure::Split(b'-'),
    words: &[b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n", b"-----BEGIN PRIVATE KEY-----\n", b"\0"],
    longest: 32 << 10,
    beside: CHECKED,
    begin: || {
        let shop = shop();
        let signer = shop.admit(&shop.petitions()[0]).expect("it is a good petition").signer.expect("it is for a signer");
        let seed = format!("{}\0{}", signer.chain, signer.key).into_bytes();
        Bench { seeds: vec![seed], read: Box::new(move |input| read_authority(&shop, input)) }
    },
};

/// A zero byte between the chain and the key.
fn read_authority(shop: &Shop, input: &[u8]) -> Verdict {
    let Some((chain, key)) = std::str::from_utf8(input).ok().and_then(|text| text.split_once('\0')) else { return Ok(false) };
    Ok(metered(|| shop.opens(chain, key)))
}

pub(super) const VERDICT: Target = Target {
    name: "verdict",
    reads: "what the other side of a connection thinks of us",
    structure: Structure::Split(b' '),
    words: &[b"ok\n", b"no ", b"\n"],
    longest: 1 << 10,
    beside: 0,
    begin: || {
        let mut ok = Vec::new();
        now_or_never(tell(&mut ok, Ok(()))).expect("a vector never waits").expect("a vector takes everything");
        Bench { seeds: vec![ok, b"ok\nand what follows".to_vec()], read: Box::new(read_verdict) }
    },
};

fn read_verdict(input: &[u8]) -> Verdict {
    let mut rest = input;
    let heard = metered(|| now_or_never(listen(&mut rest))).ok_or("broken: a line that is there is read without waiting")?;
    match heard {
        Ok(()) => {
            hold(input.starts_with(b"ok\n") && rest.len() == input.len() - 3, "what follows is left to whom it is for")?;
            Ok(true)
        }
        Err(error) => hold(is_one_line(&error.to_string()), "a verdict is one line").map(|()| false),
    }
}

pub(super) const PAGE: Target = Target {
    name: "page",
    reads: "the question of a peer for a page of this node",
    structure: Structure::Fields,
    words: &[
        b"/v1/",
        b"/v1/members",
        b"/v1/actors/",
        b"/history",
        b"/drain",
        b"%2F",
        b"%ff",
        b"%",
        b"limit=",
        b"cursor=",
        b"depth=",
        b"under=",
        b"&",
    ],
    longest: 16 << 10,
    // The page itself.
    beside: 64 << 10,
    begin: || {
        let ask = |path: &str, query: &str| AskRequest { to: "a".into(), path: path.into(), query: query.into(), hops_left: 3 };
        let asked =
            [ask("/v1/actors", "depth=1&limit=5&kind=pool"), ask("/v1/routes/shop", ""), ask("/v1/routes", "limit=1"), ask("/metrics", "")];
        Bench { seeds: asked.iter().map(Message::encode_to_vec).collect(), read: Box::new(read_page) }
    },
};

fn read_page(input: &[u8]) -> Verdict {
    let Ok(ask) = AskRequest::take(Bytes::copy_from_slice(input)) else { return Ok(false) };
    let now = membership::world().now();
    let status = metered(|| page(&ask.path, &ask.query, now)).ok_or("broken: a peer is answered about this node alone")?;
    hold(status < 500, "a question never breaks a page")?;
    Ok(status == 200)
}
