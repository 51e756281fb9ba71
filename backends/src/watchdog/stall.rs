//! The thread that detects stalls.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time without progress after which a device counts as stalled.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(600);

/// A device that does not respond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The operation that waits for it.
    pub operation: String,
    /// Time since its last progress.
    pub idle: Duration,
}

/// Operations in progress.
struct Work {
    active: usize,
    /// The name of the operation that started or progressed last.
    name: String,
    /// Time of that start or progress.
    at: Option<Instant>,
}

static WORK: Mutex<Work> = Mutex::new(Work {
    active: 0,
    name: String::new(),
    at: None,
});

fn work() -> MutexGuard<'static, Work> {
    WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn begin(name: String) {
    work().active += 1;
    progress(Some(name));
}

pub(super) fn progress(name: Option<String>) {
    let mut work = work();
    work.at = Some(Instant::now());
    if let Some(name) = name {
        work.name = name;
    }
}

pub(super) fn end() {
    let mut work = work();
    work.active = work.active.saturating_sub(1);
    work.at = Some(Instant::now());
}

/// Time of the last progress of an operation in progress; `None` without operations.
fn last_progress() -> Option<Instant> {
    let work = work();
    work.at.filter(|_| work.active > 0)
}

/// The limit from `MRCNN_WATCHDOG_S` (seconds, 0 for none), by default [`DEFAULT_LIMIT`].
///
/// # Errors
/// A message if the variable is not a whole number.
pub fn limit_from_env() -> Result<Option<Duration>, String> {
    let text = match std::env::var("MRCNN_WATCHDOG_S") {
        Err(_) => return Ok(Some(DEFAULT_LIMIT)),
        Ok(text) => text,
    };
    match text.trim().parse() {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds))),
        Err(_) => Err(format!(
            "MRCNN_WATCHDOG_S is `{text}`; set it to the seconds without progress after which a device \
             counts as stalled, or 0 for no limit"
        )),
    }
}

/// Starts a thread that calls `on_stall` if an operation makes no progress for `limit`.
///
/// A kernel of a software renderer (`is_software`) may take minutes: there, a stall also needs an idle CPU.
pub fn watch(limit: Duration, is_software: bool, on_stall: impl FnOnce(Stall) + Send + 'static) {
    let body = move || {
        let stall = wait_for_stall(limit, is_software);
        on_stall(stall);
    };
    let thread = std::thread::Builder::new().name("watchdog".into());
    if let Err(error) = thread.spawn(body) {
        log::warn!("the watchdog does not run: {error}");
    }
}

fn wait_for_stall(limit: Duration, is_software: bool) -> Stall {
    let interval = (limit / 20).clamp(Duration::from_millis(20), Duration::from_secs(5));
    // Start of the time without progress, the progress before it, CPU time at its start.
    let mut window: Option<(Instant, Instant, Duration)> = None;
    loop {
        std::thread::sleep(interval);
        let Some(at) = last_progress() else {
            window = None;
            continue;
        };
        let (start, _, cpu) = match window {
            Some(window) if window.1 == at => window,
            _ => (Instant::now(), at, cpu_time()),
        };
        window = Some((start, at, cpu));
        let idle = start.elapsed();
        if idle < limit {
            continue;
        }
        if is_software && is_working(idle, cpu_time().saturating_sub(cpu)) {
            // The next window may still be a stall.
            window = Some((Instant::now(), at, cpu_time()));
            continue;
        }
        return Stall {
            operation: work().name.clone(),
            idle: at.elapsed(),
        };
    }
}

/// Whether a software renderer is working: it then uses a core or more, while the waiting threads of a stalled
/// runtime only poll.
fn is_working(idle: Duration, cpu_time: Duration) -> bool {
    cpu_time > idle.mul_f64(0.3)
}

/// CPU time of all threads of this process.
#[cfg(unix)]
fn cpu_time() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeVal;
    let duration = |time: TimeVal| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
        Duration::from_secs(seconds) + Duration::from_micros(micros)
    };
    getrusage(UsageWho::RUSAGE_SELF).map_or(Duration::ZERO, |usage| {
        duration(usage.user_time()) + duration(usage.system_time())
    })
}

/// Zero, because the CPU time is unknown on this system: only the time without progress counts.
#[cfg(not(unix))]
fn cpu_time() -> Duration {
    Duration::ZERO
}

/// Ends the process immediately: no destructor runs, which could wait for the device again.
pub fn exit_now(code: i32) -> ! {
    #[cfg(unix)]
    // SAFETY: `_exit` takes no pointers and does not return.
    unsafe {
        nix::libc::_exit(code)
    }
    #[cfg(not(unix))]
    std::process::exit(code)
}

#[cfg(test)]
mod tests {
    use super::super::operation;
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn waiting_threads_are_not_work() {
        let idle = Duration::from_secs(600);
        assert!(
            is_working(idle, Duration::from_secs(900)),
            "two cores render"
        );
        assert!(!is_working(idle, Duration::from_secs(60)), "threads poll");
    }

    #[cfg(unix)]
    #[test]
    fn the_cpu_time_of_the_process_is_known() {
        let start = cpu_time();
        let end = Instant::now() + Duration::from_secs(2);
        while cpu_time() == start {
            assert!(Instant::now() < end, "no CPU time in two seconds of work");
            std::hint::black_box((0..100_000).sum::<u64>());
        }
    }

    /// One test, because operations are global to the process.
    #[test]
    fn a_stall_is_found_and_progress_is_not() {
        let limit = Duration::from_millis(1500);
        let (sender, stalled) = mpsc::channel();
        watch(limit, false, move |stall| sender.send(stall).unwrap());
        let first = operation("the first operation");
        for step in 0..8 {
            std::thread::sleep(limit / 5);
            first.progress(format!("step {step}"));
        }
        drop(first);
        let nothing = stalled.recv_timeout(limit * 2);
        assert!(nothing.is_err(), "nothing is awaited: {nothing:?}");
        let _second = operation("the second operation");
        let stall = stalled.recv_timeout(limit * 10).expect("no progress");
        assert_eq!(stall.operation, "the second operation");
        assert!(stall.idle >= limit);
    }
}
