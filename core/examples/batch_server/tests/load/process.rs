//! The server as a separate process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

pub struct Server {
    pub address: SocketAddr,
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Server {
    /// Starts it on a free port of the loopback interface.
    pub fn start(weights: &Path, settings: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_batch_server"))
            .arg(weights)
            .args(["listen=127.0.0.1:0", "backend=cpu"])
            .args(settings)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut output = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.unwrap_or_else(|| panic!("the server printed {line:?}"));
        Self {
            address: address.parse().expect("an address"),
            process,
            output,
        }
    }

    /// Peak resident memory of the process in bytes, if the system provides it.
    pub fn peak(&self) -> Option<u64> {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kilobytes * 1024)
    }

    /// Sends SIGTERM, as a service manager does.
    pub fn terminate(&self) {
        let status = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits for the end of the server after SIGTERM, and returns its remaining output.
    pub fn end(mut self) -> String {
        let mut output = String::new();
        self.output.read_to_string(&mut output).expect("text");
        let status = self.process.wait().expect("an end");
        assert!(status.success(), "{status}: {output}");
        output
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A failed test must not leave a server behind. Both calls fail if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
