//! An HTTP server on this machine, so that downloads are tested without a network.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A request without body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `CONNECT`.
    pub method: String,
    /// The path, or host and port of `CONNECT`.
    pub target: String,
    /// The headers, with names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            reader
                .read_line(&mut line)
                .ok()
                .filter(|length| *length > 0)?;
            Some(line.trim_end().to_string())
        };
        let first = line()?;
        let mut words = first.split(' ');
        let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
        let mut headers = Vec::new();
        loop {
            match line()?.split_once(": ") {
                Some((name, value)) => headers.push((name.to_lowercase(), value.to_string())),
                None => {
                    return Some(Self {
                        method,
                        target,
                        headers,
                    });
                }
            }
        }
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        Some(&headers.find(|(known, _)| known == name)?.1)
    }

    /// The first byte that is requested.
    pub fn start(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// A server that answers each request with a function; it runs until the process ends.
pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts a server. `answer` gets the number of earlier requests, the request, and the connection.
    pub fn start(answer: impl Fn(usize, &Request, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (requests.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Self { address, requests }
    }

    /// A server of one file, which can send parts of it.
    pub fn of_file(bytes: Vec<u8>) -> Self {
        Self::start(move |_, request, stream| send_file(request, stream, &bytes))
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn serve(
    mut stream: TcpStream,
    log: &Mutex<Vec<Request>>,
    answer: &dyn Fn(usize, &Request, &mut TcpStream),
) {
    // After `CONNECT` a second request follows on the same connection.
    while let Some(request) = Request::read(&stream) {
        let index = {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push(request.clone());
            log.len() - 1
        };
        answer(index, &request, &mut stream);
        if request.method != "CONNECT" {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// Sends an answer; a client that is gone is no failure.
pub fn send(stream: &mut TcpStream, status: &str, headers: &[String], body: &[u8]) {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for header in headers {
        head += &format!("{header}\r\n");
    }
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(body);
}

/// Sends a file, or the part that is requested.
pub fn send_file(request: &Request, stream: &mut TcpStream, bytes: &[u8]) {
    let length = |part: &[u8]| format!("Content-Length: {}", part.len());
    match request.start() {
        None => send(stream, "200 OK", &[length(bytes)], bytes),
        Some(start) if start >= bytes.len() => {
            let range = format!("Content-Range: bytes */{}", bytes.len());
            send(
                stream,
                "416 Range Not Satisfiable",
                &[range, length(&[])],
                &[],
            );
        }
        Some(start) => {
            let part = &bytes[start..];
            let range = format!(
                "Content-Range: bytes {start}-{}/{}",
                bytes.len() - 1,
                bytes.len()
            );
            send(stream, "206 Partial Content", &[range, length(part)], part);
        }
    }
}
