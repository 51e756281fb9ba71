//! Rank 0 hands every rank a few bytes (NCCL's unique id) over TCP, where there is no MPI to do it.

use super::CommError;
use std::io::{self, Read, Write};
#[cfg(any(feature = "cuda", test))]
use std::net::{Ipv4Addr, ToSocketAddrs};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a client says first, so that a stray connection is not taken for a rank.
const HELLO: [u8; 8] = *b"mrcnn-1\n";

const PAUSE: Duration = Duration::from_millis(50);

/// Where rank 0 listens, from `MASTER_ADDR` and `MASTER_PORT` (29500, as torchrun's).
///
/// Rank 0 itself listens on every address of its host: `MASTER_ADDR` may be that of a service before it.
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
            reason: "a port from 1 to 65535 is wanted",
        });
    };
    if rank == 0 {
        return Ok((Ipv4Addr::UNSPECIFIED, port).into());
    }
    let host = get("MASTER_ADDR").unwrap_or_else(|| "127.0.0.1".into());
    let found = (host.as_str(), port).to_socket_addrs();
    let first = found.and_then(|mut all| {
        all.next()
            .ok_or_else(|| io::Error::other("the name has no address"))
    });
    first.map_err(|source| CommError::Host { host, source })
}

/// Rank 0's `id` on every rank: rank 0 listens at `address`, the others fetch it there.
///
/// Returns once all `world` ranks have it (on rank 0) or this rank has it, within `limit`.
pub fn exchange_id<const N: usize>(
    rank: usize,
    world: usize,
    address: SocketAddr,
    id: Option<[u8; N]>,
    limit: Duration,
) -> Result<[u8; N], CommError> {
    let deadline = Instant::now() + limit;
    let result = match id {
        Some(id) => serve(world, address, &id, deadline).map(|missing| match missing {
            missing if missing.is_empty() => Ok(id),
            missing => Err(format!("ranks {missing:?} have not asked for the id")),
        }),
        None => fetch(rank, world, address, deadline)
            .map(|id| id.ok_or_else(|| "rank 0 does not answer".into())),
    };
    let found = result.map_err(|source| CommError::Rendezvous {
        rank,
        address,
        source,
    })?;
    found.map_err(|missing| CommError::Absent {
        rank,
        address,
        waited: limit,
        missing,
    })
}

/// Answers every other rank; returns those that have not come.
fn serve(
    world: usize,
    address: SocketAddr,
    id: &[u8],
    deadline: Instant,
) -> io::Result<Vec<usize>> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let mut missing: Vec<usize> = (1..world).collect();
    while !missing.is_empty() && Instant::now() < deadline {
        match listener.accept() {
            // A stray or broken connection is no reason to end the job: the rank will ask again.
            Ok((client, _)) => {
                if let Ok(rank) = answer(client, world, id) {
                    missing.retain(|&other| other != rank);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(missing)
}

fn answer(mut client: TcpStream, world: usize, id: &[u8]) -> io::Result<usize> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut hello = [0; 24];
    client.read_exact(&mut hello)?;
    let number = |at: usize| {
        let bytes: [u8; 8] = std::array::from_fn(|i| hello[at + i]);
        u64::from_le_bytes(bytes) as usize
    };
    if hello[..8] != HELLO || number(16) != world {
        return Err(io::Error::other("not a rank of this job"));
    }
    client.write_all(id)?;
    // The rank says that it has it.
    client.read_exact(&mut [0])?;
    Ok(number(8))
}

fn fetch<const N: usize>(
    rank: usize,
    world: usize,
    address: SocketAddr,
    deadline: Instant,
) -> io::Result<Option<[u8; N]>> {
    while Instant::now() < deadline {
        match ask(rank, world, address) {
            Ok(id) => return Ok(Some(id)),
            // Rank 0 may not be there yet.
            Err(_) => sleep(PAUSE),
        }
    }
    Ok(None)
}

fn ask<const N: usize>(rank: usize, world: usize, address: SocketAddr) -> io::Result<[u8; N]> {
    let mut server = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    server.set_read_timeout(Some(Duration::from_secs(5)))?;
    let numbers = [rank, world].map(|n| (n as u64).to_le_bytes());
    server.write_all(&[HELLO, numbers[0], numbers[1]].concat())?;
    let mut id = [0; N];
    server.read_exact(&mut id)?;
    server.write_all(&[1])?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn free_address() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    }

    #[test]
    fn every_rank_gets_rank_0s_id() {
        let (address, limit) = (free_address(), Duration::from_secs(20));
        let id: [u8; 128] = std::array::from_fn(|i| i as u8 ^ 0x5a);
        let others: Vec<_> = (1..4)
            .map(|rank| {
                thread::spawn(move || exchange_id::<128>(rank, 4, address, None, limit).unwrap())
            })
            .collect();
        // A stray connection first: it must not count as a rank.
        let stray = thread::spawn(move || {
            while TcpStream::connect(address).is_err() {
                sleep(Duration::from_millis(5));
            }
        });
        assert_eq!(exchange_id(0, 4, address, Some(id), limit).unwrap(), id);
        for other in others {
            assert_eq!(other.join().unwrap(), id);
        }
        stray.join().unwrap();
    }

    #[test]
    fn the_master_is_where_torchrun_says() {
        let get = |name: &str| match name {
            "MASTER_ADDR" => Some("127.0.0.1".to_string()),
            "MASTER_PORT" => Some("1234".to_string()),
            _ => None,
        };
        assert_eq!(master(1, &get).unwrap().to_string(), "127.0.0.1:1234");
        assert_eq!(master(0, &get).unwrap().to_string(), "0.0.0.0:1234");
        let error = master(1, &|_| Some("x".into())).unwrap_err().to_string();
        assert!(error.contains("MASTER_PORT=x"), "{error}");
    }

    #[test]
    fn who_does_not_come_is_named() {
        let (address, limit) = (free_address(), Duration::from_millis(300));
        let error = exchange_id(0, 3, address, Some([1; 4]), limit).unwrap_err();
        assert!(error.to_string().contains("ranks [1, 2]"), "{error}");
        let error = exchange_id::<4>(1, 3, address, None, limit).unwrap_err();
        assert!(
            error.to_string().contains("rank 0 does not answer"),
            "{error}"
        );
    }
}
