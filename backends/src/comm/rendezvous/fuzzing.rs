//! Fuzzing entry points of rank 0's side of the rendezvous.

use super::*;
use std::io::Cursor;

const WORLD: usize = 4;

const ID: [u8; 128] = [0x5a; 128];

/// The nonce of rank 0, which is random otherwise.
const OURS: [u8; PROOF_BYTES] = [3; PROOF_BYTES];

/// A client: its bytes, and the answers to it.
struct Script {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Script {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.input.read(bytes)
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for Script {
    fn limit(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }
}

fn token() -> Token {
    Token::new("a secret of the fuzzer").expect("16 characters")
}

/// Answers a client that sends these bytes; returns whether it was accepted as a rank. Panics if the id is sent to a
/// client without a proof that it knows the token.
pub fn rendezvous_hello(bytes: &[u8]) -> bool {
    let host = Host {
        world: WORLD,
        id: ID.to_vec(),
        token: token(),
        conversations: AtomicUsize::new(0),
    };
    let mut line = Line::new(Script {
        input: Cursor::new(bytes.to_vec()),
        output: Vec::new(),
    });
    let rank = answer_on(&mut line, &host, OURS);
    let knows_token = proof_of(bytes).is_some();
    let output = line.stream.output;
    let has_id = output.windows(ID.len()).any(|part| part == ID);
    assert_eq!(has_id, knows_token, "who gets the id");
    assert!(rank.is_err() || knows_token, "rank {rank:?}");
    rank.is_ok_and(|rank| (1..WORLD).contains(&rank))
}

/// The position of a valid proof in a client's bytes.
fn proof_of(bytes: &[u8]) -> Option<usize> {
    let start = HELLO.len() + 16 + PROOF_BYTES;
    let (hello, proof) = bytes.split_at_checked(start)?;
    let (version, rest) = hello.split_at(HELLO.len());
    let (numbers, theirs) = rest.split_at(16);
    let is_rank = (1..WORLD).contains(&number(&numbers[..8])) && number(&numbers[8..]) == WORLD;
    let parts: [&[u8]; 4] = [b"rank", theirs, &OURS, numbers];
    let is_right = version == HELLO
        && is_rank
        && token().verifies(&parts, proof.get(..PROOF_BYTES).unwrap_or_default());
    is_right.then_some(start)
}

/// The bytes of a rank that receives the id.
pub fn hello() -> Vec<u8> {
    let numbers = [2, WORLD as u64].map(u64::to_le_bytes).concat();
    let theirs = [7; PROOF_BYTES];
    let parts: [&[u8]; 4] = [b"rank", &theirs, &OURS, &numbers];
    let proof = token().proof(&parts);
    [&HELLO[..], &numbers, &theirs, &proof, &[1]].concat()
}
