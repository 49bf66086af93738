use super::*;
use proptest::prelude::*;

/// Data, trailers, and what is left over.
type Read = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

/// What a body is read as when it comes in the given pieces, or what is wrong with it.
fn read(mut remaining: Remaining, pieces: &[&[u8]]) -> Result<Read, String> {
    let (mut data, mut trailers, mut left_over) = (Vec::new(), None, Vec::new());
    for piece in pieces {
        let mut bytes = Bytes::copy_from_slice(piece);
        while let Some(frame) = remaining.take(&mut bytes).map_err(|error| error.to_string())? {
            match frame.into_data() {
                Ok(piece) => data.extend_from_slice(&piece),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        left_over.extend_from_slice(&bytes);
    }
    remaining.closed().map_err(|error| error.to_string())?;
    Ok((data, trailers, left_over))
}

#[test]
fn chunks_are_read_by_the_letter() {
    for (body, expected) in [
        ("5\r\nhello\r\n0\r\n\r\n", Ok("hello")),
        ("005\r\nhello\r\n000\r\n\r\n", Ok("hello")),
        ("A\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n", Ok("0123456789x")),
        ("5;name=value\r\nhello\r\n0 ;last\r\n\r\n", Ok("hello")),
        ("0\r\n\r\n", Ok("")),
        ("5\r\nhello\r\n", Err("the connection ended before the body did")),
        ("5\r\nhel", Err("the connection ended before the body did")),
        ("0\r\n", Err("the connection ended before the body did")),
        ("\r\nhello\r\n0\r\n\r\n", Err("bad chunked encoding: a chunk without a size")),
        (";x\r\nhello\r\n0\r\n\r\n", Err("bad chunked encoding: a chunk without a size")),
        ("0x5\r\nhello\r\n0\r\n\r\n", Err("bad chunked encoding: a chunk's size is no number")),
        ("-5\r\nhello\r\n0\r\n\r\n", Err("bad chunked encoding: a chunk's size is no number")),
        ("5\nhello\r\n0\r\n\r\n", Err("bad chunked encoding: a chunk's size is no number")),
        ("00000000000000005\r\nhello\r\n0\r\n\r\n", Err("bad chunked encoding: a chunk's size is too long")),
        ("5\r\nhelloXX0\r\n\r\n", Err("bad chunked encoding: a chunk does not end where it should")),
        ("5\r\nhello\n0\r\n\r\n", Err("bad chunked encoding: a chunk does not end where it should")),
        ("5\rXhello\r\n0\r\n\r\n", Err("bad chunked encoding: a chunk does not end where it should")),
        ("5;a\nhello\r\n0\r\n\r\n", Err("bad chunked encoding: a chunk extension with a control character")),
        ("3 5\r\nhel\r\n0\r\n\r\n", Err("bad chunked encoding: a chunk's size is no number")),
        ("5;a=\0\r\nhello\r\n0\r\n\r\n", Err("bad chunked encoding: a chunk extension with a control character")),
        ("0\r\na: b\n\nHTTP/1.1 200 OK\r\n\r\n", Err("bad chunked encoding: bad trailers")),
        ("0\r\n\n", Err("bad chunked encoding: bad trailers")),
        ("0\r\nbad trailer\r\n\r\n", Err("bad chunked encoding: bad trailers")),
    ] {
        let read = read(Remaining::chunked(), &[body.as_bytes()]);
        let read = read.as_ref().map(|(data, _, _)| std::str::from_utf8(data).expect("it is ASCII")).map_err(String::as_str);
        assert_eq!(read, expected, "{body:?}");
    }
}

#[test]
fn what_never_ends_is_bounded() {
    let extensions = format!("1;{}\r\nx\r\n", "a".repeat(1000)).repeat(20);
    assert_eq!(
        read(Remaining::chunked(), &[extensions.as_bytes()]),
        Err("bad chunked encoding: chunk extensions that do not end".to_owned())
    );
    let trailers = format!("0\r\n{}", "x: y\r\n".repeat(4000));
    assert_eq!(read(Remaining::chunked(), &[trailers.as_bytes()]), Err("bad chunked encoding: trailers that do not end".to_owned()));
    let many = format!("0\r\n{}\r\n", "x: y\r\n".repeat(TRAILER_FIELDS_MAX + 1));
    assert_eq!(read(Remaining::chunked(), &[many.as_bytes()]), Err("bad chunked encoding: bad trailers".to_owned()));
}

#[test]
fn trailers_say_nothing_about_the_message() {
    let body = "0\r\ngrpc-status: 0\r\nContent-Length: 5\r\ntransfer-encoding: chunked\r\nhost: a\r\nconnection: close\r\n\r\n";
    let (_, trailers, _) = read(Remaining::chunked(), &[body.as_bytes()]).expect("it is whole");
    let trailers = trailers.expect("one of them is end to end");
    assert_eq!(trailers.len(), 1);
    assert_eq!(trailers["grpc-status"], "0");
}

#[test]
fn the_last_data_is_known_to_be_the_last() {
    let mut remaining = Remaining::chunked();
    let mut bytes = Bytes::from_static(b"5\r\nhello\r\n0\r\n\r\n");
    remaining.take(&mut bytes).expect("it is whole").expect("there is data");
    assert!(remaining.is_done());
    let mut remaining = Remaining::length(5);
    remaining.take(&mut Bytes::from_static(b"hello")).expect("it is whole").expect("there is data");
    assert!(remaining.is_done());
}

#[test]
fn what_follows_a_body_does_not_belong_to_it() {
    for (remaining, body) in [(Remaining::length(5), "helloHTTP/1.1"), (Remaining::chunked(), "5\r\nhello\r\n0\r\n\r\nHTTP/1.1")] {
        let (data, _, left_over) = read(remaining, &[body.as_bytes()]).expect("it is whole");
        assert_eq!((&*data, &*left_over), (&b"hello"[..], &b"HTTP/1.1"[..]));
    }
    assert_eq!(read(Remaining::length(5), &[b"hell"]), Err("the connection ended before the body did".to_owned()));
    assert_eq!(read(Remaining::UntilClose, &[b"he", b"llo"]), Ok((b"hello".to_vec(), None, Vec::new())));
}

/// `body` cut where `cuts` say.
fn cut<'a>(body: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).chain([0, body.len()]).collect();
    places.sort_unstable();
    places.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn it_does_not_matter_where_a_body_is_cut(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
        trailer in any::<bool>(),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend_from_slice(format!("{:X};e\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(if trailer { b"0\r\nx: y\r\n\r\n" } else { b"0\r\n\r\n" });
        let (data, trailers, left_over) = read(Remaining::chunked(), &cut(&body, &cuts)).expect("it is whole");
        prop_assert_eq!(data, chunks.concat());
        prop_assert_eq!(trailers.is_some(), trailer);
        prop_assert!(left_over.is_empty());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'5'), any::<u8>()], 0..100), cuts in proptest::collection::vec(any::<usize>(), 0..9)) {
        let _ = read(Remaining::chunked(), &cut(&bytes, &cuts));
    }
}
