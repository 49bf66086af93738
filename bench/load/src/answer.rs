//! Knows when one answer has arrived whole. Only answers with a `Content-Length` are understood: every answer that
//! the benchmark asks for has one, and another one means that something else is being measured.

/// An answer on its way.
#[derive(Default)]
pub struct Answer {
    head: Vec<u8>,
    body: Option<Body>,
}

struct Body {
    status: u16,
    closes: bool,
    left: usize,
}

/// What is known of an answer at its end.
#[derive(Debug, PartialEq)]
pub struct End {
    pub status: u16,
    pub closes: bool,
}

impl Answer {
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<End>, &'static str> {
        if let Some(body) = &mut self.body {
            body.left = body.left.checked_sub(bytes.len()).ok_or("more bytes than the answer has")?;
        } else {
            self.head.extend_from_slice(bytes);
            let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
            let after = self.head.len() - end - 4;
            let mut body = read_head(&self.head[..end])?;
            body.left = body.left.checked_sub(after).ok_or("more bytes than the answer has")?;
            self.body = Some(body);
        }
        Ok(self.body.as_ref().filter(|body| body.left == 0).map(|body| End { status: body.status, closes: body.closes }))
    }
}

fn read_head(head: &[u8]) -> Result<Body, &'static str> {
    let head = std::str::from_utf8(head).map_err(|_| "a head that is no text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()).ok_or("no status line")?;
    let mut length = None;
    let mut closes = false;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    Ok(Body { status, closes, left: length.ok_or("an answer without Content-Length")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], expected: Result<Option<End>, &'static str>) {
        let mut answer = Answer::default();
        let (last, first) = pieces.split_last().expect("there is a piece");
        for piece in first {
            assert_eq!(answer.take(piece.as_bytes()), Ok(None), "{piece:?} of {pieces:?}");
        }
        assert_eq!(answer.take(last.as_bytes()), expected, "{pieces:?}");
    }

    #[test]
    fn an_answer_ends_with_its_last_byte() {
        let whole = |status, closes| Ok(Some(End { status, closes }));
        check(&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"], whole(200, false));
        check(&["HTTP/1.1 200 OK\r\ncontent-le", "ngth: 4\r\n\r", "\nab", "cd"], whole(200, false));
        check(&["HTTP/1.1 429 \r\nConnection: close\r\nContent-Length: 0\r\n\r\n"], whole(429, true));
        check(&["HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"], Err("more bytes than the answer has"));
        check(&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"], Err("an answer without Content-Length"));
        check(&["ssh\r\n\r\n"], Err("no status line"));
    }
}
