//! The server as a process of its own.

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
        let address = address.unwrap_or_else(|| panic!("the server said {line:?}"));
        Self {
            address: address.parse().expect("an address"),
            process,
            output,
        }
    }

    /// Largest size of the process in memory so far, in bytes, where the system says.
    pub fn peak(&self) -> Option<u64> {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kilobytes * 1024)
    }

    /// Tells it to stop, as a service manager does.
    pub fn terminate(&self) {
        let told = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        assert!(told.expect("kill runs").success());
    }

    /// What it says after it was told to stop, once it has ended well.
    pub fn end(mut self) -> String {
        let mut said = String::new();
        self.output.read_to_string(&mut said).expect("text");
        let status = self.process.wait().expect("an end");
        assert!(status.success(), "{status}: {said}");
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that fails leaves no server behind; one that ended is not there any more.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
