use super::*;

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn meeting(rank: usize, world: usize, address: SocketAddr, token: &Token) -> Meeting {
    Meeting {
        rank,
        world,
        address,
        token: token.clone(),
        limit: Duration::from_secs(20),
    }
}

fn id() -> [u8; 128] {
    std::array::from_fn(|i| i as u8 ^ 0x5a)
}

/// Ranks 1 to 3 get the id, each on its own thread.
fn others(address: SocketAddr, token: &Token) -> Vec<thread::JoinHandle<[u8; 128]>> {
    (1..4)
        .map(|rank| {
            let meeting = meeting(rank, 4, address, token);
            thread::spawn(move || exchange_id::<128>(&meeting, None, None).unwrap())
        })
        .collect()
}

#[test]
fn every_rank_gets_rank_0s_id() {
    let ((listener, address), token) = (listener(), Token::random().unwrap());
    let others = others(address, &token);
    let rank_0 = meeting(0, 4, address, &token);
    assert_eq!(
        exchange_id(&rank_0, Some(listener), Some(id())).unwrap(),
        id()
    );
    for other in others {
        assert_eq!(other.join().unwrap(), id());
    }
}

/// Strangers that send nothing, send slowly, send the right hello without the token, or claim
/// to be a rank. None of them gets the id, delays the job, or takes a rank's place.
#[test]
fn strangers_get_nothing_and_delay_nobody() {
    let ((listener, address), token) = (listener(), Token::random().unwrap());
    let silent: Vec<_> = (0..32)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let mut slow = TcpStream::connect(address).unwrap();
    slow.write_all(&HELLO).unwrap();
    let stranger = Token::random().unwrap();
    let impostors: Vec<_> = (1..4)
        .map(|rank| {
            let meeting = meeting(rank, 4, address, &stranger);
            thread::spawn(move || request_id::<128>(&meeting).unwrap_err())
        })
        .collect();
    let started = Instant::now();
    let others = others(address, &token);
    let rank_0 = meeting(0, 4, address, &token);
    let answered = exchange_id(&rank_0, Some(listener), Some(id())).unwrap();
    assert_eq!(answered, id());
    for other in others {
        assert_eq!(other.join().unwrap(), id());
    }
    for impostor in impostors {
        impostor.join().unwrap();
    }
    // No silent connection was waited for.
    assert!(started.elapsed() < HELLO_LIMIT, "{:?}", started.elapsed());
    drop((silent, slow));
}

/// A client with a wrong answer to the challenge does not get the id, whatever rank it claims.
#[test]
fn a_hello_without_the_token_is_not_answered_with_the_id() {
    let ((listener, address), token) = (listener(), Token::random().unwrap());
    let mut rank_0 = meeting(0, 2, address, &token);
    rank_0.limit = Duration::from_millis(500);
    let other = meeting(1, 2, address, &Token::random().unwrap());
    let stranger = thread::spawn(move || {
        let reason = request_id::<128>(&other).unwrap_err().to_string();
        assert!(reason.contains("another MRCNN_TOKEN"), "{reason}");
        let mut line = Line::new(TcpStream::connect(address).unwrap());
        let numbers = [1u64, 2].map(u64::to_le_bytes).concat();
        line.write(&[&HELLO, &numbers, &[7; PROOF_BYTES]]).unwrap();
        line.read::<{ 2 * PROOF_BYTES }>().unwrap();
        line.write(&[&[9; PROOF_BYTES]]).unwrap();
        line.read::<1>().unwrap_err().kind()
    });
    let error = exchange_id(&rank_0, Some(listener), Some(id())).unwrap_err();
    assert!(error.to_string().contains("ranks [1]"), "{error}");
    let kind = stranger.join().unwrap();
    assert!(
        matches!(
            kind,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
        ),
        "{kind:?}"
    );
}

/// Bytes that arrive slowly do not prolong a connection.
#[test]
fn a_conversation_has_one_deadline() {
    let (listener, address) = listener();
    let mut slow = TcpStream::connect(address).unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_nonblocking(false).unwrap();
    let mut line = Line::new(server);
    line.deadline = Instant::now() + Duration::from_millis(300);
    let sender = thread::spawn(move || {
        for _ in 0..20 {
            if slow.write_all(&[0]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert!(line.read::<64>().is_err());
    assert!(Instant::now() < line.deadline + Duration::from_millis(300));
    drop(line);
    sender.join().unwrap();
}

#[test]
fn the_master_is_where_torchrun_sets_it() {
    let on = |host: &'static str| {
        move |name: &str| match name {
            "MASTER_ADDR" => Some(host.to_string()),
            "MASTER_PORT" => Some("1234".to_string()),
            _ => None,
        }
    };
    let address = |rank, host| master(rank, &on(host)).unwrap().to_string();
    assert_eq!(address(1, "127.0.0.1"), "127.0.0.1:1234");
    assert_eq!(address(0, "127.0.0.1"), "127.0.0.1:1234", "only loopback");
    assert_eq!(address(1, "192.0.2.7"), "192.0.2.7:1234");
    assert_eq!(address(0, "192.0.2.7"), "0.0.0.0:1234");
    let error = master(1, &|_| Some("x".into())).unwrap_err().to_string();
    assert!(error.contains("MASTER_PORT=x"), "{error}");
    let error = token(&|_| None).unwrap_err().to_string();
    assert!(error.contains("MRCNN_TOKEN"), "{error}");
}

#[test]
fn missing_ranks_are_named() {
    let ((listener, address), token) = (listener(), Token::random().unwrap());
    let with_limit = |rank| Meeting {
        limit: Duration::from_millis(300),
        ..meeting(rank, 3, address, &token)
    };
    let error = exchange_id(&with_limit(0), Some(listener), Some([1; 4])).unwrap_err();
    assert!(error.to_string().contains("ranks [1, 2]"), "{error}");
    let error = exchange_id::<4>(&with_limit(1), None, None).unwrap_err();
    assert!(
        error.to_string().contains("rank 0 does not answer"),
        "{error}"
    );
}
