//! Who is at the other end of a connection between peers, and how that is known.
//!
//! A link believes no name that the connection does not carry: with certificates, which the node's own trust reads, or as
//! a mere claim where everybody who can connect is believed anyway, on loopback and in a simulation.

use crate::{BoxFuture, BoxStream};
use std::{io, sync::Arc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What a certificate says about a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub node: Arc<str>,
    /// Not every certificate that was made elsewhere says it.
    pub region: Option<Arc<str>>,
}

/// Secures connections.
///
/// An error of kind `InvalidData` says that the other side cannot be trusted, and why; one of kind `InvalidInput` that it does
/// not trust us. Both sides tell it to their operators. Any other kind is a connection that broke.
pub trait Trust: Send + Sync + 'static {
    /// Secures a connection that came in. None: the other side showed no certificate and may only enrol.
    fn accept(&self, stream: BoxStream) -> BoxFuture<'_, io::Result<(BoxStream, Option<Identity>)>>;

    /// Secures a connection that we opened.
    fn connect(&self, stream: BoxStream) -> BoxFuture<'_, io::Result<(BoxStream, Identity)>>;
}

/// Whether it is we who do not trust the other side, where an error is about trust.
pub(crate) fn is_doubted_by_us(error: &io::Error) -> Option<bool> {
    match error.kind() {
        io::ErrorKind::InvalidData => Some(true),
        io::ErrorKind::InvalidInput => Some(false),
        _ => None,
    }
}

/// Plain bytes behind one line that says who is there. It proves nothing.
pub struct Claimed(Option<Identity>);

/// Two names and what is around them.
const CLAIM_MAX: usize = 192;

impl Claimed {
    pub fn new(node: impl Into<Arc<str>>, region: Option<Arc<str>>) -> Self {
        Self(Some(Identity { node: node.into(), region }))
    }

    /// As one without a certificate: it may only enrol.
    pub fn anonymous() -> Self {
        Self(None)
    }
}

impl Trust for Claimed {
    fn accept(&self, mut stream: BoxStream) -> BoxFuture<'_, io::Result<(BoxStream, Option<Identity>)>> {
        Box::pin(async move {
            let theirs = hear(&mut stream).await?;
            stream.write_all(claim(self.0.as_ref()).as_bytes()).await?;
            stream.flush().await?;
            Ok((stream, theirs))
        })
    }

    fn connect(&self, mut stream: BoxStream) -> BoxFuture<'_, io::Result<(BoxStream, Identity)>> {
        Box::pin(async move {
            stream.write_all(claim(self.0.as_ref()).as_bytes()).await?;
            stream.flush().await?;
            let theirs = hear(&mut stream).await?;
            Ok((stream, theirs.ok_or_else(|| no("who was called does not say its name"))?))
        })
    }
}

/// One byte at a time: what follows the line belongs to somebody else.
async fn hear(stream: &mut BoxStream) -> io::Result<Option<Identity>> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return understand(&line).ok_or_else(|| no("the first line is not `shoal NODE [REGION]`")),
            _ if line.len() == CLAIM_MAX => return Err(no("the first line does not end")),
            byte => line.push(byte),
        }
    }
}

fn claim(who: Option<&Identity>) -> String {
    match who {
        Some(Identity { node, region: Some(region) }) => format!("shoal {node} {region}\n"),
        Some(Identity { node, region: None }) => format!("shoal {node}\n"),
        None => "shoal\n".to_owned(),
    }
}

/// The outer None is a line that claims nothing that makes sense.
fn understand(line: &[u8]) -> Option<Option<Identity>> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    if words.next() != Some("shoal") {
        return None;
    }
    let (node, region, more) = (words.next(), words.next(), words.next());
    if more.is_some() || node == Some("") || region == Some("") {
        return None;
    }
    Some(node.map(|node| Identity { node: node.into(), region: region.map(Arc::from) }))
}

fn no(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_understood_as_it_was_made() {
        let named = |region: Option<&str>| Some(Identity { node: "a".into(), region: region.map(Arc::from) });
        for who in [None, named(None), named(Some("eu"))] {
            let line = claim(who.as_ref());
            assert_eq!(understand(line.trim_end().as_bytes()), Some(who), "{line}");
        }
        for line in ["", "shoal ", "shoal a ", "shoal a b c", "other a", "shoal  a", "GET / HTTP/1.1"] {
            assert_eq!(understand(line.as_bytes()), None, "{line:?}");
        }
        assert_eq!(understand(b"shoal \xff"), None);
    }

    #[tokio::test]
    async fn both_sides_hear_who_the_other_is_and_nothing_of_what_follows_is_lost() {
        let (near, far) = tokio::io::duplex(64);
        let (caller, called) = (Claimed::new("a", Some("eu".into())), Claimed::new("b", None));
        let (connected, accepted) = tokio::join!(caller.connect(Box::new(near)), called.accept(Box::new(far)));
        let ((mut near, theirs), (mut far, ours)) = (connected.expect("a line came"), accepted.expect("a line came"));
        assert_eq!(theirs, Identity { node: "b".into(), region: None });
        assert_eq!(ours, Some(Identity { node: "a".into(), region: Some("eu".into()) }));
        near.write_all(b"then").await.expect("the pipe is open");
        let mut then = [0; 4];
        far.read_exact(&mut then).await.expect("the pipe is open");
        assert_eq!(&then, b"then");
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_not_read_for_ever() {
        let (mut near, far) = tokio::io::duplex(4096);
        near.write_all(&[b'x'; 1024]).await.expect("the pipe is open");
        let refused = Claimed::anonymous().accept(Box::new(far)).await.map(|_| ()).expect_err("it is too long");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    }
}
