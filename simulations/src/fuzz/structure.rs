//! How an input is made of parts, so that one of them can be changed and the lengths around it stay true.

use cluster::gossip::fuzzing::{apart, blocks};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Structure {
    /// One text of bytes.
    Plain,
    /// Fields of protobuf.
    Fields,
    /// A byte, and fields of protobuf.
    Tagged,
    /// The envelope of a frame, and fields of protobuf.
    Framed,
    /// Words with a byte between them.
    Split(u8),
    /// Pieces with their lengths in two bytes before each.
    Pieces,
    /// A message of gossip: what is before the delta, and what is packed in it.
    Message,
    /// A delta alone.
    Delta,
    /// [`Structure::Pieces`], each a byte and a message.
    Messages,
}

#[derive(Clone, Debug)]
pub(super) struct Part {
    head: Vec<u8>,
    pub(super) body: Vec<u8>,
}

impl Structure {
    /// Whether there may be any number of parts, in any order.
    pub(super) fn is_list(self) -> bool {
        !matches!(self, Self::Plain | Self::Message | Self::Delta)
    }

    /// What a part may be made of in turn.
    pub(super) fn inner(self) -> Option<Self> {
        match self {
            Self::Messages => Some(Self::Message),
            Self::Fields | Self::Tagged | Self::Framed => Some(Self::Fields),
            _ => None,
        }
    }

    pub(super) fn apart(self, input: &[u8]) -> Option<Vec<Part>> {
        let part = |head: &[u8], body: &[u8]| Part { head: head.to_vec(), body: body.to_vec() };
        match self {
            Self::Plain => None,
            Self::Fields => fields(input, Vec::new()),
            Self::Tagged => fields(input.get(1..)?, input[..1].to_vec()),
            Self::Framed => fields(input.get(4..)?, input[..4].to_vec()),
            Self::Split(at) => Some(input.split(|byte| *byte == at).map(|word| part(&[], word)).collect()),
            Self::Pieces => Some(pieces(input).into_iter().map(|piece| part(&[], piece)).collect()),
            Self::Messages => Some(
                pieces(input)
                    .into_iter()
                    .map(|piece| {
                        let (head, body) = piece.split_at(piece.len().min(1));
                        part(head, body)
                    })
                    .collect(),
            ),
            Self::Message => {
                let (head, operations) = apart(input)?;
                Some(vec![part(&[], &head), part(&[], &operations)])
            }
            Self::Delta => Some(vec![part(&[], &cluster::gossip::fuzzing::operations(input)?)]),
        }
    }

    pub(super) fn together(self, parts: &[Part]) -> Vec<u8> {
        match self {
            Self::Plain => parts.iter().flat_map(|part| part.body.clone()).collect(),
            Self::Fields | Self::Tagged | Self::Framed => {
                let mut input = Vec::new();
                for Part { head, body } in parts {
                    input.extend(head);
                    if is_delimited(head) {
                        put_varint(&mut input, body.len());
                    }
                    input.extend(body);
                }
                input
            }
            Self::Split(at) => parts.iter().map(|part| &part.body[..]).collect::<Vec<&[u8]>>().join(&at),
            Self::Pieces | Self::Messages => pieced(parts.iter().map(|part| [&part.head[..], &part.body[..]].concat())),
            Self::Message => match parts {
                [head, operations] => [&head.body[..], &blocks(&operations.body)[..]].concat(),
                _ => Vec::new(),
            },
            Self::Delta => parts.iter().flat_map(|part| blocks(&part.body)).collect(),
        }
    }
}

/// Fields, each with its number in the head, and for those with a length only what the length counts in the body.
/// `before` comes before the first.
fn fields(mut rest: &[u8], before: Vec<u8>) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    if !before.is_empty() {
        parts.push(Part { head: Vec::new(), body: before });
    }
    while !rest.is_empty() {
        let (tag, after) = varint(rest)?;
        let head = rest[..rest.len() - after.len()].to_vec();
        let (body, after) = match tag & 7 {
            0 => {
                let (_, beyond) = varint(after)?;
                after.split_at(after.len() - beyond.len())
            }
            1 => after.split_at_checked(8)?,
            5 => after.split_at_checked(4)?,
            2 => {
                let (length, content) = varint(after)?;
                content.split_at_checked(usize::try_from(length).ok()?)?
            }
            _ => return None,
        };
        parts.push(Part { head, body: body.to_vec() });
        rest = after;
    }
    Some(parts)
}

/// Whether a field's head says that its length follows.
fn is_delimited(head: &[u8]) -> bool {
    head.first().is_some_and(|tag| tag & 7 == 2)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}

fn put_varint(bytes: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Cuts an input into pieces; the last may be shorter than it says.
pub(super) fn pieces(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let (piece, after) = after.split_at(usize::from(u16::from_le_bytes(*length)).min(after.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// The input that is cut into these. What is longer than a length can say is cut.
pub(super) fn pieced(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<u8> {
    let mut input = Vec::new();
    for piece in pieces {
        let piece = piece.as_ref();
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        input.extend(length.to_le_bytes());
        input.extend(&piece[..usize::from(length)]);
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_apart_is_put_together_as_it_was() {
        let inputs: [(Structure, &[u8], usize); 9] = [
            (Structure::Fields, &[0x0a, 1, b'a', 0x10, 0x96, 1, 0x51, 1, 2, 3, 4, 5, 6, 7, 8, 0x5d, 1, 2, 3, 4], 4),
            (Structure::Fields, &[], 0),
            (Structure::Tagged, &[9, 0x0a, 0], 2),
            (Structure::Framed, &[1, 0, 1, 0, 0x0a, 1, b'a'], 2),
            (Structure::Split(b' '), b"a b  c", 4),
            (Structure::Pieces, &[1, 0, 7, 0, 0, 2, 0, 8, 9], 3),
            (Structure::Messages, &[3, 0, 1, 2, 3], 1),
            (Structure::Delta, &[2, 2, 0, 1, 2, 0], 1),
            (Structure::Message, &[1, 1, 9, 9, 9, 9, 0, 0, 2, 2, 0, 1, 2, 0], 2),
        ];
        for (structure, input, count) in inputs {
            let parts = structure.apart(input).unwrap_or_else(|| panic!("{structure:?} of {input:?}"));
            assert_eq!((parts.len(), structure.together(&parts)), (count, input.to_vec()), "{structure:?}");
        }
    }

    #[test]
    fn what_has_no_structure_is_not_taken_apart() {
        for (structure, input) in [
            (Structure::Plain, &b"a"[..]),
            (Structure::Fields, &[0x0a, 9]),
            (Structure::Fields, &[0x0b]),
            (Structure::Framed, &[1]),
            (Structure::Delta, &[7]),
        ] {
            assert!(structure.apart(input).is_none(), "{structure:?} of {input:?}");
        }
    }
}
