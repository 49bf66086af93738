//! As much of RFC 6455 as two ends need to greet each other and to exchange short messages.

use crate::h1::Wire;
use std::io;

/// The key and the answer to it that RFC 6455 1.3 gives as an example.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What a caller asks with.
pub fn hello(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: shop.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
    )
}

/// What an endpoint answers.
pub fn welcome() -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n")
}

/// Sends a text of at most 125 bytes; callers mask theirs.
pub async fn send(wire: &mut Wire, text: &str, masked: bool) -> io::Result<()> {
    let mut frame = vec![0x81, u8::try_from(text.len()).expect("a short text")];
    if masked {
        let mask = [0x12, 0x34, 0x56, 0x78];
        frame[1] |= 0x80;
        frame.extend(mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        frame.extend(text.as_bytes());
    }
    wire.send(frame).await
}

/// The next text; `None` where the other end is gone.
pub async fn receive(wire: &mut Wire) -> io::Result<Option<String>> {
    loop {
        let buffer = &mut wire.buffer;
        if let [_, length, ..] = buffer[..] {
            let masked = length & 0x80 != 0;
            let (length, head) = (usize::from(length & 0x7f), if masked { 6 } else { 2 });
            if buffer.len() >= head + length {
                let frame: Vec<u8> = buffer.drain(..head + length).collect();
                let mask = if masked { [frame[2], frame[3], frame[4], frame[5]] } else { [0; 4] };
                let text = frame[head..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
                return String::from_utf8(text).map(Some).map_err(io::Error::other);
            }
        }
        if wire.fill().await? == 0 {
            return Ok(None);
        }
    }
}
