//! HTTP client that can send invalid requests.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Status, `Retry-After`, body.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub retry_after: Option<u64>,
    pub body: String,
}

/// Ways of sending a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Completely, without delay.
    Normal,
    /// Half of the body, then the end of the stream.
    Truncated,
    /// Byte by byte with delays.
    Slow,
}

/// Longer than any response takes, so that a missing response fails the test and does not block it.
const TIMEOUT: Duration = Duration::from_secs(120);

pub fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("the server listens");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    stream.set_write_timeout(Some(TIMEOUT)).expect("a timeout");
    stream
}

/// Posts a body to `/predict`; `None` if the server closed the connection without a response.
pub fn post(
    server: SocketAddr,
    image_id: usize,
    body: &[u8],
    sending: Sending,
) -> Option<Response> {
    let mut stream = connect(server);
    stream
        .write_all(head(image_id, body.len(), "").as_bytes())
        .expect("a head");
    match sending {
        // A server that refuses a body may close the connection before all of it is sent.
        Sending::Normal => drop(stream.write_all(body)),
        Sending::Truncated => {
            stream.write_all(&body[..body.len() / 2]).expect("a half");
            stream.shutdown(Shutdown::Write).expect("the end");
        }
        Sending::Slow => send_slowly(&mut stream, body),
    }
    read_response(&mut stream)
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
        let has_response = match stream.peek(&mut [0]) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        if has_response || stream.write_all(&[*byte]).is_err() {
            break;
        }
    }
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
}

/// Reads one response to the end of the stream.
pub fn read_response(stream: &mut TcpStream) -> Option<Response> {
    let mut bytes = Vec::new();
    // The connection may be reset after the response, because the server did not read the refused body.
    let read = stream.read_to_end(&mut bytes);
    if let Err(error) = read {
        assert_ne!(
            error.kind(),
            ErrorKind::WouldBlock,
            "no response in {TIMEOUT:?}"
        );
    }
    let text = String::from_utf8(bytes).expect("text");
    // The interim response for clients that expect it.
    let text = text.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let retry_after = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("retry-after")
            .then(|| value.parse().ok())?
    });
    Some(Response {
        status,
        retry_after,
        body: body.into(),
    })
}
