//! Timeout for collective calls: without it, MPI and NCCL wait forever for ranks that do not come.

use std::fmt::Arguments;
use std::io::Write;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// The exit status of a process that has waited too long (`EX_TEMPFAIL`).
const GAVE_UP: i32 = 75;

/// Time between a rank's report and the end of its process, in which the other ranks can report too.
const EXIT_DELAY: Duration = Duration::from_secs(3);

/// Ends the process after it has waited too long for the other ranks, and reports where.
#[derive(Debug)]
pub struct Watch(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// `rank 1 of 4 (host, pid 12)`.
    process_name: String,
    place: String,
    /// The collective call in progress; `None` while the rank computes.
    call: Option<&'static str>,
    since: Instant,
    /// Time spent in completed calls.
    waited: Duration,
    /// Whether this rank has been reported as computing for long.
    is_reported: bool,
}

/// A collective call in progress; it ends when dropped.
#[derive(Debug)]
pub struct Waiting<'a>(&'a Watch);

impl Watch {
    /// Watches this process, `rank` of `world`, for waits longer than `limit`.
    pub fn start(rank: usize, world: usize, limit: Duration) -> Self {
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        let host = match host.trim() {
            "" => "unknown host",
            host => host,
        };
        let state = Arc::new(Mutex::new(State {
            process_name: format!("rank {rank} of {world} ({host}, pid {})", process::id()),
            place: "start".into(),
            call: None,
            since: Instant::now(),
            waited: Duration::ZERO,
            is_reported: false,
        }));
        let watched = Arc::downgrade(&state);
        thread::spawn(move || watch(&watched, limit));
        Self(state)
    }

    /// Records the position in the run.
    pub fn mark(&self, place: &str) {
        self.state().place = place.into();
    }

    /// Starts a collective call.
    pub fn waiting(&self, call: &'static str) -> Waiting<'_> {
        self.enter(Some(call));
        Waiting(self)
    }

    /// Time spent in collective calls so far.
    pub fn waited(&self) -> Duration {
        self.state().waited
    }

    fn enter(&self, call: Option<&'static str>) {
        let mut state = self.state();
        if state.call.is_some() {
            let waited = state.since.elapsed();
            state.waited += waited;
        }
        (state.call, state.since, state.is_reported) = (call, Instant::now(), false);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.enter(None);
    }
}

fn watch(state: &Weak<Mutex<State>>, limit: Duration) {
    let pause = (limit / 20).clamp(Duration::from_millis(10), Duration::from_secs(5));
    loop {
        thread::sleep(pause);
        let Some(state) = state.upgrade() else { return };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let since = state.since.elapsed();
        if since < limit {
            continue;
        }
        let (process_name, place, seconds) = (&state.process_name, &state.place, since.as_secs());
        match state.call {
            Some(call) => {
                warn(format_args!(
                    "error: {process_name} has waited {seconds} s in {call} for the other ranks, at {place}; \
                     ranks that do not report this are dead, stopped or slow (--comm-timeout)"
                ));
                drop(state);
                thread::sleep(EXIT_DELAY);
                process::exit(GAVE_UP);
            }
            None if !state.is_reported => {
                warn(format_args!(
                    "warning: {process_name} has computed for {seconds} s since its last exchange, at \
                     {place}; the others wait for it"
                ));
                state.is_reported = true;
            }
            None => {}
        }
    }
}

/// Writes a line to standard error, if possible: `eprintln!` would end the watch with a panic.
fn warn(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
