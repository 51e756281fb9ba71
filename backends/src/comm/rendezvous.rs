//! Exchange of NCCL's unique id over TCP, for builds without MPI: rank 0 sends it to every other rank.
//!
//! Both sides prove that they know the job's [`Token`] before anything else is sent:
//!
//! ```text
//! rank   -> rank 0   "mrcnn-2\n", rank, number of ranks, nonce A
//! rank 0 -> rank     nonce B, HMAC(token, "rank 0", A, B, rank, number of ranks)
//! rank   -> rank 0   HMAC(token, "rank", A, B, rank, number of ranks)
//! rank 0 -> rank     id, HMAC(token, "id", A, B, id)
//! rank   -> rank 0   1
//! ```
//!
//! Each connection has its own thread and [`HELLO_LIMIT`] for the whole exchange, so that a silent client does not
//! delay the others. A rank that connects again is answered again: no other client can take its place.

use super::CommError;
use super::token::{PROOF_BYTES, Token, nonce};
use std::io::{self, Read, Write};
#[cfg(any(feature = "cuda", test))]
use std::net::{Ipv4Addr, ToSocketAddrs};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The environment variable with the location of rank 0's listening socket.
pub(super) const LISTENER: &str = "MRCNN_LISTENER";

/// The only value of [`LISTENER`]: the process was started with the socket as its standard input.
pub(super) const LISTENER_IS_STDIN: &str = "stdin";

const HELLO: [u8; 8] = *b"mrcnn-2\n";

/// Time limit for a connection.
const HELLO_LIMIT: Duration = Duration::from_secs(5);

/// Maximum number of concurrent connections; further ones are closed and may try again.
const MAX_CONVERSATIONS: usize = 512;

const PAUSE: Duration = Duration::from_millis(50);

/// Parameters of the exchange, which each rank has before it connects.
#[derive(Debug)]
pub struct Meeting {
    /// The rank of this process.
    pub rank: usize,
    /// Number of processes.
    pub world: usize,
    /// The address where rank 0 listens.
    pub address: SocketAddr,
    /// The job's secret.
    pub token: Token,
    /// Maximum wait for the other ranks.
    pub limit: Duration,
}

/// The address of rank 0, from `MASTER_ADDR` (by default 127.0.0.1) and `MASTER_PORT` (by default 29500, as in
/// torchrun).
///
/// Rank 0 itself listens on the loopback interface if `MASTER_ADDR` is on it, otherwise on every address of its
/// host: `MASTER_ADDR` may be that of a service in front of it.
#[cfg(any(feature = "cuda", test))]
pub(super) fn master(
    rank: usize,
    get: &dyn Fn(&str) -> Option<String>,
) -> Result<SocketAddr, CommError> {
    let port = get("MASTER_PORT").unwrap_or_else(|| "29500".into());
    let Ok(port) = port.parse::<u16>() else {
        return Err(CommError::Launcher {
            name: "MASTER_PORT",
            value: port,
            reason: "it must be a port from 1 to 65535",
        });
    };
    let host = get("MASTER_ADDR").unwrap_or_else(|| "127.0.0.1".into());
    let found = (host.as_str(), port).to_socket_addrs();
    let first = found.and_then(|mut all| {
        all.next()
            .ok_or_else(|| io::Error::other("the name has no address"))
    });
    match first {
        Ok(address) if rank > 0 || address.ip().is_loopback() => Ok(address),
        // A service's name may not resolve on the host behind it.
        _ if rank == 0 => Ok((Ipv4Addr::UNSPECIFIED, port).into()),
        Ok(address) => Ok(address),
        Err(source) => Err(CommError::Host { host, source }),
    }
}

/// The job's token, from `MRCNN_TOKEN`.
#[cfg(any(feature = "cuda", test))]
pub(super) fn token(get: &dyn Fn(&str) -> Option<String>) -> Result<Token, CommError> {
    let secret = get(super::token::TOKEN).unwrap_or_default();
    Token::new(&secret).ok_or(CommError::NoToken)
}

/// The listening socket that this process was started with.
#[cfg(feature = "cuda")]
pub(super) fn inherited_listener(
    get: &dyn Fn(&str) -> Option<String>,
) -> Option<io::Result<TcpListener>> {
    (get(LISTENER)? == LISTENER_IS_STDIN).then(listener_from_stdin)
}

#[cfg(all(unix, feature = "cuda"))]
fn listener_from_stdin() -> io::Result<TcpListener> {
    use std::os::fd::AsFd;
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(socket.into())
}

#[cfg(all(not(unix), feature = "cuda"))]
fn listener_from_stdin() -> io::Result<TcpListener> {
    Err(io::Error::other(
        "a socket cannot be the standard input on this system",
    ))
}

/// Distributes rank 0's `id`: rank 0 answers on `listener` (or listens at the address), the others connect
/// to it.
///
/// Returns after all ranks have it (on rank 0) or this rank has it; fails with [`CommError::Absent`] after the
/// meeting's limit.
pub fn exchange_id<const N: usize>(
    meeting: &Meeting,
    listener: Option<TcpListener>,
    id: Option<[u8; N]>,
) -> Result<[u8; N], CommError> {
    let (rank, address) = (meeting.rank, meeting.address);
    let deadline = Instant::now() + meeting.limit;
    let result = match id {
        Some(id) => serve(meeting, listener, &id, deadline).map(|missing| match missing {
            missing if missing.is_empty() => Ok(id),
            missing => Err(format!("ranks {missing:?} have not connected")),
        }),
        None => Ok(fetch(meeting, deadline)),
    };
    let found = result.map_err(|source| CommError::Rendezvous {
        rank,
        address,
        source,
    })?;
    found.map_err(|missing| CommError::Absent {
        rank,
        address,
        waited: meeting.limit,
        missing,
    })
}

/// State shared by the connections of rank 0.
struct Host {
    world: usize,
    token: Token,
    id: Vec<u8>,
    conversations: AtomicUsize,
}

/// Answers every other rank; returns those that have not connected.
fn serve(
    meeting: &Meeting,
    listener: Option<TcpListener>,
    id: &[u8],
    deadline: Instant,
) -> io::Result<Vec<usize>> {
    let listener = match listener {
        Some(listener) => listener,
        None => TcpListener::bind(meeting.address)?,
    };
    listener.set_nonblocking(true)?;
    let mut missing: Vec<usize> = (1..meeting.world).collect();
    let host = Arc::new(Host {
        world: meeting.world,
        token: meeting.token.clone(),
        id: id.to_vec(),
        conversations: AtomicUsize::new(0),
    });
    let (served, ranks) = channel();
    while !missing.is_empty() && Instant::now() < deadline {
        let pause = match listener.accept() {
            Ok((client, _)) => {
                serve_client(client, &host, served.clone());
                Duration::ZERO
            }
            Err(error) if is_transient(&error) => Duration::from_millis(5),
            Err(error) => return Err(error),
        };
        while let Ok(rank) = ranks.recv_timeout(pause) {
            missing.retain(|&other| other != rank);
        }
    }
    Ok(missing)
}

/// Handles a connection, unless there are too many: then it is closed, and the rank tries again.
fn serve_client(client: TcpStream, host: &Arc<Host>, served: Sender<usize>) {
    if host.conversations.fetch_add(1, Ordering::SeqCst) >= MAX_CONVERSATIONS {
        host.conversations.fetch_sub(1, Ordering::SeqCst);
        return;
    }
    let talking = host.clone();
    let conversation = move || {
        // An unrelated or broken connection must not end the job; a rank tries again.
        if let Ok(rank) = answer(client, &talking) {
            let _ = served.send(rank);
        }
        talking.conversations.fetch_sub(1, Ordering::SeqCst);
    };
    // Not scoped: a silent client must not delay a meeting that is complete.
    if thread::Builder::new().spawn(conversation).is_err() {
        host.conversations.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether no connection is waiting, or a single connection failed.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(
        error.kind(),
        WouldBlock | ConnectionAborted | ConnectionReset | Interrupted
    )
}

fn answer(client: TcpStream, host: &Host) -> io::Result<usize> {
    client.set_nonblocking(false)?;
    answer_on(&mut Line::new(client), host, nonce()?)
}

/// Rank 0's side of the exchange with a rank, whose number is returned; `ours` is the nonce of rank 0.
fn answer_on<S: Socket>(
    line: &mut Line<S>,
    host: &Host,
    ours: [u8; PROOF_BYTES],
) -> io::Result<usize> {
    let hello: [u8; HELLO.len() + 16 + PROOF_BYTES] = line.read()?;
    let (start, theirs) = hello.split_at(HELLO.len() + 16);
    let (version, numbers) = start.split_at(HELLO.len());
    let rank = number(&numbers[..8]);
    let is_ours = (1..host.world).contains(&rank) && number(&numbers[8..]) == host.world;
    if version != HELLO || !is_ours {
        return Err(io::Error::other("not a rank of this job"));
    }
    let proof = host.token.proof(&[b"rank 0", theirs, &ours, numbers]);
    line.write(&[&ours, &proof])?;
    let proof: [u8; PROOF_BYTES] = line.read()?;
    let parts: [&[u8]; 4] = [b"rank", theirs, &ours, numbers];
    if !host.token.verifies(&parts, &proof) {
        return Err(io::Error::other("it has another token"));
    }
    let proof = host.token.proof(&[b"id", theirs, &ours, &host.id]);
    line.write(&[&host.id, &proof])?;
    // The rank confirms that it has the id.
    let [_] = line.read::<1>()?;
    Ok(rank)
}

fn number(bytes: &[u8]) -> usize {
    let bytes: [u8; 8] = std::array::from_fn(|i| bytes[i]);
    u64::from_le_bytes(bytes) as usize
}

/// Gets the id, or the reason for the failure at the deadline.
fn fetch<const N: usize>(meeting: &Meeting, deadline: Instant) -> Result<[u8; N], String> {
    let mut reason = io::Error::from(io::ErrorKind::TimedOut);
    while Instant::now() < deadline {
        match request_id(meeting) {
            Ok(id) => return Ok(id),
            // Rank 0 may not have started yet.
            Err(error) => reason = error,
        }
        thread::sleep(PAUSE);
    }
    Err(format!("rank 0 does not answer ({reason})"))
}

fn request_id<const N: usize>(meeting: &Meeting) -> io::Result<[u8; N]> {
    let server = TcpStream::connect_timeout(&meeting.address, HELLO_LIMIT)?;
    let mut line = Line::new(server);
    let numbers = [meeting.rank, meeting.world].map(|n| (n as u64).to_le_bytes());
    let numbers = numbers.concat();
    let ours = nonce()?;
    line.write(&[&HELLO, &numbers, &ours])?;
    let theirs: [u8; PROOF_BYTES] = line.read()?;
    let proof: [u8; PROOF_BYTES] = line.read()?;
    let stranger = || io::Error::other("the program that listens there has another MRCNN_TOKEN");
    if !(meeting.token).verifies(&[b"rank 0", &ours, &theirs, &numbers], &proof) {
        return Err(stranger());
    }
    let proof = meeting.token.proof(&[b"rank", &ours, &theirs, &numbers]);
    line.write(&[&proof])?;
    let id: [u8; N] = line.read()?;
    let proof: [u8; PROOF_BYTES] = line.read()?;
    if !(meeting.token).verifies(&[b"id", &ours, &theirs, &id], &proof) {
        return Err(stranger());
    }
    line.write(&[&[1]])?;
    Ok(id)
}

/// A stream with a time limit for reads and writes.
trait Socket: Read + Write {
    fn limit(&self, left: Duration) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn limit(&self, left: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(left))?;
        self.set_write_timeout(Some(left))
    }
}

/// A connection with one deadline for the whole exchange: with a limit per read, a client that
/// sends a byte now and then could stay forever.
struct Line<S> {
    stream: S,
    deadline: Instant,
}

impl<S: Socket> Line<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            deadline: Instant::now() + HELLO_LIMIT,
        }
    }

    /// Limits the next read or write to the remaining time.
    fn limit(&self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => self.stream.limit(left),
        }
    }

    fn read<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (mut bytes, mut read) = ([0; N], 0);
        while read < N {
            self.limit()?;
            match self.stream.read(&mut bytes[read..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    /// Writes `parts`, which are far smaller than a socket's buffer, so the call does not block for longer than one
    /// timeout.
    fn write(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.limit()?;
        self.stream.write_all(&parts.concat())
    }
}

#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod tests;
