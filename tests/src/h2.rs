//! HTTP/2 without HTTP: frames as a caller of ill will would send them, and as they come back.
//!
//! Header blocks are written without compression (RFC 7541, literals that are not indexed), and not read at all:
//! what is to be known of an answer's content is asked through hyper.

use crate::{
    h1::{Io, Wire},
    wait::within,
};
use std::{io, net::SocketAddr};
use tokio::net::TcpStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const ENHANCE_YOUR_CALM: u32 = 11;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// A request, ended if there is no body.
    pub fn request(stream: u32, method: &str, path: &str, body: bool) -> Self {
        let fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "shop.test")];
        let end = if body { 0 } else { END_STREAM };
        Self::new(HEADERS, END_HEADERS | end, stream, block(&fields))
    }

    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a frame of a test is small").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], self.kind, self.flags];
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// Why a GOAWAY or a RST_STREAM was sent.
    pub fn reason(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("a code of four bytes"))
    }
}

/// A header block.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal that is not indexed, under a name that is a literal too.
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// A length of seven bits, or 127 and what is beyond it in groups of seven, and the bytes (RFC 7541 5.1, 5.2).
fn text(block: &mut Vec<u8>, text: &str) {
    if text.len() < 127 {
        block.push(text.len() as u8);
    } else {
        block.push(127);
        let mut left = text.len() - 127;
        while left >= 128 {
            block.push((left % 128) as u8 | 128);
            left /= 128;
        }
        block.push(left as u8);
    }
    block.extend(text.as_bytes());
}

/// A connection that speaks frames.
pub struct Framed {
    wire: Wire,
}

impl Framed {
    /// Connects and exchanges settings, without waiting for theirs.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[]).await
    }

    /// The same with settings of one's own.
    pub async fn connect_with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.expect("the gateway listens");
        stream.set_nodelay(true).expect("a socket of TCP");
        Self::over(Box::new(stream), settings).await
    }

    pub async fn over(io: Box<dyn Io>, settings: &[(u16, u32)]) -> Self {
        let mut framed = Self { wire: Wire::new(io) };
        let payload: Vec<u8> =
            settings.iter().flat_map(|(name, value)| [name.to_be_bytes().to_vec(), value.to_be_bytes().to_vec()].concat()).collect();
        let mut hello = PREFACE.to_vec();
        hello.extend(Frame::new(SETTINGS, 0, 0, payload).bytes());
        framed.send_bytes(hello).await.expect("the gateway reads");
        framed
    }

    pub async fn send_bytes(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within("room to send", self.wire.send(bytes)).await
    }

    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.send_bytes(frame.bytes()).await
    }

    /// The next frame; `None` where the connection ended.
    pub async fn next(&mut self) -> Option<Frame> {
        within("a frame", async {
            loop {
                if let Some(frame) = self.take() {
                    return Some(frame);
                }
                if !matches!(self.wire.fill().await, Ok(1..)) {
                    return None;
                }
            }
        })
        .await
    }

    /// A frame that has come already.
    fn take(&mut self) -> Option<Frame> {
        let buffer = &mut self.wire.buffer;
        let head: [u8; 9] = buffer.get(..9)?.try_into().ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if buffer.len() < 9 + length {
            return None;
        }
        let payload = buffer.drain(..9 + length).skip(9).collect();
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of a kind. Panics where the connection ends before.
    pub async fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.unwrap_or_else(|| panic!("the connection ended before a frame of kind {kind}"));
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads to the end, and returns why the connection was ended, where that was said.
    pub async fn end(&mut self) -> Option<u32> {
        let mut reason = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                reason = Some(frame.reason());
            }
        }
        reason
    }
}
