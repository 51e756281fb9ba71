//! `--gpus N`: one worker process a card on this machine, ended together.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;
use thiserror::Error;

/// Why the workers did not finish.
#[derive(Debug, Error)]
pub enum WorkersError {
    /// A worker cannot be started.
    #[error("worker {rank} cannot be started: {source}")]
    Start {
        /// Its rank.
        rank: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A worker failed; the others were stopped.
    #[error("worker {rank} ended with {status}; the others were stopped. {said}")]
    Died {
        /// Its rank.
        rank: usize,
        /// How it ended.
        status: ExitStatus,
        /// Where its output is, and the last lines of it.
        said: String,
    },
    /// A worker cannot be watched.
    #[error("worker {rank}: {source}")]
    Wait {
        /// Its rank.
        rank: usize,
        /// What the system said.
        source: io::Error,
    },
}

/// The commands of `count` workers that run this program with `arguments`, one rank each, as torchrun
/// would start them on this machine.
pub fn worker_commands(count: usize, arguments: &[String]) -> io::Result<Vec<Command>> {
    let program = std::env::current_exe()?;
    // Free now; NCCL's exchange happens within seconds.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let command = |rank: usize| {
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .env("RANK", rank.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .env("WORLD_SIZE", count.to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string());
        command
    };
    Ok((0..count).map(command).collect())
}

/// Runs the workers to their end. Worker 0 prints here; what the others print is in `logs/rank-N.log`.
/// Where one fails, the others are killed. Once `stop` is raised, they are asked to end (SIGTERM; where
/// there is none, the system's own way has to reach them).
pub fn supervise(
    commands: Vec<Command>,
    logs: &Path,
    stop: &AtomicBool,
) -> Result<(), WorkersError> {
    let mut workers = Workers(Vec::with_capacity(commands.len()));
    for (rank, command) in commands.into_iter().enumerate() {
        let worker = start(rank, command, logs);
        let worker = worker.map_err(|source| WorkersError::Start { rank, source })?;
        workers.0.push(worker);
    }
    let mut asked = false;
    loop {
        if !asked && stop.load(Ordering::SeqCst) {
            asked = true;
            workers.0.iter_mut().for_each(Worker::ask_to_end);
        }
        let mut running = false;
        for (rank, worker) in workers.0.iter_mut().enumerate() {
            match worker.child.try_wait() {
                Ok(None) => running = true,
                Ok(Some(status)) if status.success() => {}
                Ok(Some(status)) => {
                    return Err(WorkersError::Died {
                        rank,
                        status,
                        said: said(worker.log.as_deref()),
                    });
                }
                Err(source) => return Err(WorkersError::Wait { rank, source }),
            }
        }
        if !running {
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
}

struct Worker {
    child: Child,
    /// None for worker 0, which prints here.
    log: Option<PathBuf>,
}

impl Worker {
    fn ask_to_end(&mut self) {
        #[cfg(unix)]
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), i32::try_from(self.child.id())) {
            use nix::sys::signal::{Signal, kill};
            // It may have ended by itself.
            let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

/// Killed when dropped: no way out leaves one behind.
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
    command.stdin(Stdio::null());
    let log = (rank > 0).then(|| logs.join(format!("rank-{rank}.log")));
    if let Some(log) = &log {
        std::fs::create_dir_all(logs)?;
        let file = File::create(log)?;
        command.stdout(file.try_clone()?).stderr(file);
    }
    Ok(Worker {
        child: command.spawn()?,
        log,
    })
}

/// The end of what a worker said.
fn said(log: Option<&Path>) -> String {
    let Some(log) = log else {
        return "What it said is above".into();
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
            shell("echo first; echo the card fell off >&2; exit 3"),
            shell("exec sleep 60"),
        ];
        let error = supervise(commands, &logs, &AtomicBool::new(false))
            .unwrap_err()
            .to_string();
        assert!(started.elapsed() < Duration::from_secs(30));
        for wanted in [
            "worker 1",
            "exit status: 3",
            "rank-1.log",
            "the card fell off",
        ] {
            assert!(error.contains(wanted), "{error}");
        }
        std::fs::remove_dir_all(logs).unwrap();
    }

    #[test]
    fn all_that_finish_are_waited_for() {
        let logs = folder("finish");
        let commands = vec![shell("true"), shell("sleep 0.3; echo done")];
        supervise(commands, &logs, &AtomicBool::new(false)).unwrap();
        let log = std::fs::read_to_string(logs.join("rank-1.log")).unwrap();
        assert_eq!(log, "done\n");
        std::fs::remove_dir_all(logs).unwrap();
    }

    #[test]
    fn all_are_asked_to_end() {
        let logs = folder("stop");
        let script = "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.05; done";
        let commands = vec![
            shell("trap 'exit 0' TERM; while :; do sleep 0.05; done"),
            shell(script),
        ];
        let stop = AtomicBool::new(false);
        let log = logs.join("rank-1.log");
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !said().contains("up") {
                    sleep(Duration::from_millis(5));
                }
                // The other shell has had as long to set its trap.
                sleep(Duration::from_millis(200));
                stop.store(true, Ordering::SeqCst);
            });
            supervise(commands, &logs, &stop).unwrap();
        });
        assert_eq!(said(), "up\nsaved\n");
        std::fs::remove_dir_all(logs).unwrap();
    }

    #[test]
    fn workers_know_who_they_are() {
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
