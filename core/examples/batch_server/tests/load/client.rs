//! An HTTP client that can misbehave.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Status, `Retry-After`, body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<u64>,
    pub body: String,
}

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// At once and whole.
    Well,
    /// Half of it, then the end of the stream.
    Cut,
    /// A byte now and then.
    Slowly,
}

/// Longer than any answer takes; an answer that does not come fails the test in place of hanging it.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Posts a body to `/predict`; none where the server closed the connection without an answer.
pub fn post(server: SocketAddr, image_id: usize, body: &[u8], manner: Manner) -> Option<Answer> {
    let mut stream = connect(server);
    stream
        .write_all(head(image_id, body.len(), "").as_bytes())
        .expect("a head");
    match manner {
        // A server that refuses a body may close before all of it is sent.
        Manner::Well => drop(stream.write_all(body)),
        Manner::Cut => {
            stream.write_all(&body[..body.len() / 2]).expect("a half");
            stream.shutdown(Shutdown::Write).expect("the end");
        }
        Manner::Slowly => send_slowly(&mut stream, body),
    }
    answer(&mut stream)
}

/// The head of a request.
pub fn head(image_id: usize, length: usize, more: &str) -> String {
    format!(
        "POST /predict?image_id={image_id} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
         Content-Length: {length}\r\n{more}\r\n"
    )
}

fn send_slowly(stream: &mut TcpStream, body: &[u8]) {
    stream
        .set_read_timeout(Some(Duration::from_millis(20)))
        .expect("a timeout");
    for byte in body {
        let is_answered = match stream.peek(&mut [0]) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        if is_answered || stream.write_all(&[*byte]).is_err() {
            break;
        }
    }
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
}

/// Reads one answer to the end of the stream.
pub fn answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    // A reset after the answer: the server did not read what it refused.
    let read = stream.read_to_end(&mut bytes);
    if let Err(error) = read {
        assert_ne!(
            error.kind(),
            ErrorKind::WouldBlock,
            "no answer in {PATIENCE:?}"
        );
    }
    let text = String::from_utf8(bytes).expect("text");
    // What a client that waits for it is told first.
    let text = text.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let retry_after = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("retry-after")
            .then(|| value.parse().ok())?
    });
    Some(Answer {
        status,
        retry_after,
        body: body.into(),
    })
}
