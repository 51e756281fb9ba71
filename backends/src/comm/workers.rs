//! Worker processes of `--gpus N`: one per GPU of this machine, ended together.

use super::rendezvous::{LISTENER, LISTENER_IS_STDIN};
use super::token::{TOKEN, Token};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;
use thiserror::Error;

/// A failure of the workers.
#[derive(Debug, Error)]
pub enum WorkersError {
    /// A worker cannot be started.
    #[error("worker {rank} cannot be started: {source}")]
    Start {
        /// Its rank.
        rank: usize,
        /// The operating system's error.
        source: io::Error,
    },
    /// A worker failed; the others were stopped.
    #[error("worker {rank} ended with {status}; the others were stopped. {output}")]
    Failed {
        /// Its rank.
        rank: usize,
        /// Its exit status.
        status: ExitStatus,
        /// The path of its log, and the last lines of it.
        output: String,
    },
    /// Waiting for a worker failed.
    #[error("worker {rank}: {source}")]
    Wait {
        /// Its rank.
        rank: usize,
        /// The operating system's error.
        source: io::Error,
    },
}

/// The commands of `count` workers that run this program with `arguments`, one rank each, with the environment that
/// torchrun would set on this machine.
///
/// They connect over the loopback interface and share a random token. Rank 0 inherits the listening socket as its
/// standard input, so that no other program can take the port in between.
pub fn worker_commands(count: usize, arguments: &[String]) -> io::Result<Vec<Command>> {
    let program = std::env::current_exe()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let token = Token::random()?;
    let command = |rank: usize| {
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .env("RANK", rank.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .env("WORLD_SIZE", count.to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string())
            .env(TOKEN, token.secret())
            .stdin(Stdio::null());
        command
    };
    let mut commands: Vec<Command> = (0..count).map(command).collect();
    #[cfg(unix)]
    if let Some(first) = commands.first_mut() {
        first
            .stdin(std::os::fd::OwnedFd::from(listener))
            .env(LISTENER, LISTENER_IS_STDIN);
    }
    Ok(commands)
}

/// Runs the workers to their end. Worker 0 prints here; the output of the others is in `logs/rank-N.log`.
/// If one fails, the others are killed. Each signal from `next_signal` is sent to all of them; a worker
/// that a signal ended after saving (exit status 129, 130 or 143) has not failed. Returns the exit
/// status of the run.
pub fn supervise(
    commands: Vec<Command>,
    logs: &Path,
    next_signal: &mut dyn FnMut() -> Option<i32>,
) -> Result<u8, WorkersError> {
    let mut workers = Workers(Vec::with_capacity(commands.len()));
    for (rank, command) in commands.into_iter().enumerate() {
        let worker = start(rank, command, logs);
        let worker = worker.map_err(|source| WorkersError::Start { rank, source })?;
        workers.0.push(worker);
    }
    let mut code = 0;
    loop {
        while let Some(signal) = next_signal() {
            workers.0.iter_mut().for_each(|worker| worker.send(signal));
        }
        let mut running = false;
        for (rank, worker) in workers.0.iter_mut().enumerate() {
            match worker.child.try_wait() {
                Ok(None) => running = true,
                Ok(Some(status)) if status.success() => {}
                Ok(Some(status)) if saved_and_ended(status).is_some() => {
                    code = saved_and_ended(status).unwrap_or(code);
                }
                Ok(Some(status)) => {
                    return Err(WorkersError::Failed {
                        rank,
                        status,
                        output: last_output(worker.log.as_deref()),
                    });
                }
                Err(source) => return Err(WorkersError::Wait { rank, source }),
            }
        }
        if !running {
            return Ok(code);
        }
        sleep(Duration::from_millis(50));
    }
}

/// The exit status of a run that saved a checkpoint because of SIGHUP, SIGINT or SIGTERM.
fn saved_and_ended(status: ExitStatus) -> Option<u8> {
    const BY_SIGNAL: [i32; 3] = [129, 130, 143];
    let code = status.code().filter(|code| BY_SIGNAL.contains(code))?;
    u8::try_from(code).ok()
}

struct Worker {
    child: Child,
    /// `None` for worker 0, which prints here.
    log: Option<PathBuf>,
}

impl Worker {
    #[cfg(unix)]
    fn send(&mut self, signal: i32) {
        use nix::sys::signal::{Signal, kill};
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), i32::try_from(self.child.id()))
            && let Ok(signal) = Signal::try_from(signal)
        {
            // It may have ended in the meantime.
            let _ = kill(nix::unistd::Pid::from_raw(pid), signal);
        }
    }

    /// Console events reach all processes anyway.
    #[cfg(not(unix))]
    fn send(&mut self, _signal: i32) {}
}

/// Workers that are killed when dropped, so that none is left behind.
struct Workers(Vec<Worker>);

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.0 {
            // It may have ended by itself.
            let _ = worker.child.kill();
            let _ = worker.child.wait();
        }
    }
}

fn start(rank: usize, mut command: Command, logs: &Path) -> io::Result<Worker> {
    let log = (rank > 0).then(|| logs.join(format!("rank-{rank}.log")));
    if let Some(log) = &log {
        std::fs::create_dir_all(logs)?;
        // Appended, so that a resumed run keeps earlier output.
        let file = OpenOptions::new().create(true).append(true).open(log)?;
        command.stdout(file.try_clone()?).stderr(file);
    }
    Ok(Worker {
        child: command.spawn()?,
        log,
    })
}

/// The end of a worker's output.
fn last_output(log: Option<&Path>) -> String {
    let Some(log) = log else {
        return "Its output is above".into();
    };
    match tail(log) {
        Ok(tail) => format!("The end of {}:\n{tail}", log.display()),
        Err(error) => format!("{}: {error}", log.display()),
    }
}

/// The last lines of a file.
fn tail(path: &Path) -> io::Result<String> {
    const BYTES: u64 = 4096;
    const LINES: usize = 20;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LINES)..].join("\n"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("mrcnn-workers-{name}-{}", std::process::id()))
    }

    #[test]
    fn one_that_dies_stops_all() {
        let logs = folder("dies");
        let started = Instant::now();
        let commands = vec![
            shell("exec sleep 60"),
            shell("echo first; echo the GPU was lost >&2; exit 3"),
            shell("exec sleep 60"),
        ];
        let error = supervise(commands, &logs, &mut || None)
            .unwrap_err()
            .to_string();
        assert!(started.elapsed() < Duration::from_secs(30));
        for wanted in [
            "worker 1",
            "exit status: 3",
            "rank-1.log",
            "the GPU was lost",
        ] {
            assert!(error.contains(wanted), "{error}");
        }
        std::fs::remove_dir_all(logs).unwrap();
    }

    #[test]
    fn all_that_finish_are_waited_for() {
        let logs = folder("finish");
        let commands = vec![shell("true"), shell("sleep 0.3; echo done")];
        supervise(commands, &logs, &mut || None).unwrap();
        let log = std::fs::read_to_string(logs.join("rank-1.log")).unwrap();
        assert_eq!(log, "done\n");
        std::fs::remove_dir_all(logs).unwrap();
    }

    #[test]
    fn a_signal_reaches_all_workers_and_its_status_is_returned() {
        let logs = folder("stop");
        let script = "trap 'echo saved; exit 143' TERM; echo up; while :; do sleep 0.05; done";
        let commands = vec![
            shell("trap 'exit 143' TERM; while :; do sleep 0.05; done"),
            shell(script),
        ];
        let log = logs.join("rank-1.log");
        let printed = || std::fs::read_to_string(&log).unwrap_or_default();
        let mut up = None;
        let mut sent = false;
        // The other shell has 200 ms more to set its trap.
        let mut next = || {
            if up.is_none() && printed().contains("up") {
                up = Some(Instant::now());
            }
            let is_due = up.is_some_and(|up| up.elapsed() > Duration::from_millis(200));
            (is_due && !std::mem::replace(&mut sent, is_due)).then_some(15)
        };
        assert_eq!(supervise(commands, &logs, &mut next).unwrap(), 143);
        assert_eq!(printed(), "up\nsaved\n");
        std::fs::remove_dir_all(logs).unwrap();
    }

    #[test]
    fn rank_0_inherits_the_listening_socket_and_all_share_a_token() {
        let commands = worker_commands(3, &[]).unwrap();
        let value = |rank: usize, name: &str| {
            let mut all = commands[rank].get_envs();
            let found = all.find(|(key, _)| *key == name)?.1?;
            Some(found.to_string_lossy().into_owned())
        };
        let token = value(0, TOKEN).unwrap();
        assert_eq!(token.len(), 64);
        assert!((1..3).all(|rank| value(rank, TOKEN).as_deref() == Some(&token)));
        assert_ne!(value_of(&worker_commands(1, &[]).unwrap()[0], TOKEN), token);
        assert_eq!(value(0, LISTENER).as_deref(), Some(LISTENER_IS_STDIN));
        assert_eq!(value(1, LISTENER), None);
        // The port is taken: no other program can listen there.
        let port: u16 = value(1, "MASTER_PORT").unwrap().parse().unwrap();
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err());
    }

    fn value_of(command: &Command, name: &str) -> String {
        let mut all = command.get_envs();
        let found = all.find(|(key, _)| *key == name).unwrap().1.unwrap();
        found.to_string_lossy().into_owned()
    }

    #[test]
    fn workers_get_their_ranks() {
        let commands = worker_commands(2, &["train".into()]).unwrap();
        let second: Vec<_> = commands[1].get_envs().collect();
        let has = |name: &str, value: &str| {
            second
                .iter()
                .any(|(key, found)| *key == name && found.is_some_and(|found| found == value))
        };
        assert!(has("RANK", "1") && has("WORLD_SIZE", "2") && has("LOCAL_RANK", "1"));
        assert!(has("MASTER_ADDR", "127.0.0.1"));
    }
}
