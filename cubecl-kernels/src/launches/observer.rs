//! CubeCL's observer of launches.

use super::record::{Launch, LaunchTime};
use cubecl::future::block_on;
use cubecl::profile::Instant;
use cubecl_runtime::logging::{
    Duration, LaunchObservation, LaunchObserver, ProfileDuration, TimingMethod, TimingRequest,
};
use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

/// Whether a recording runs, so that problems are described.
static IS_RECORDING: AtomicBool = AtomicBool::new(false);

/// CubeCL returns this duration for events of CUDA that cannot be read.
const UNREADABLE: Duration = Duration::from_secs(3600);

thread_local! {
    /// The problems that this thread computes, the innermost last.
    static PROBLEMS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Names the problem of the launches of this thread until it is dropped.
pub(crate) struct Problem {
    is_named: bool,
}

/// Assigns the launches of this thread to the problem that `describe` returns, which is called only while a recording
/// runs.
pub(crate) fn problem(describe: impl FnOnce() -> String) -> Problem {
    let is_named = IS_RECORDING.load(Ordering::Relaxed);
    if is_named {
        let name = describe();
        PROBLEMS.with_borrow_mut(|problems| problems.push(name));
    }
    Problem { is_named }
}

impl Drop for Problem {
    fn drop(&mut self) {
        if self.is_named {
            PROBLEMS.with_borrow_mut(|problems| problems.pop());
        }
    }
}

/// A launch whose measurement may be pending on the device.
struct Observed {
    kernel: &'static str,
    thread: ThreadId,
    problem: Option<String>,
    profile: Option<ProfileDuration>,
}

#[derive(Default)]
struct Observer {
    launches: Mutex<Vec<Observed>>,
}

impl Observer {
    fn launches(&self) -> MutexGuard<'_, Vec<Observed>> {
        self.launches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LaunchObserver for Observer {
    fn launched(&self, kernel: &'static str) {
        let problem = PROBLEMS.with_borrow(|problems| problems.last().cloned());
        self.launches().push(Observed {
            kernel,
            thread: std::thread::current().id(),
            problem,
            profile: None,
        });
    }

    fn timing(&self) -> TimingRequest {
        TimingRequest::Deferred
    }

    fn profiled(&self, kernel: &'static str, profile: ProfileDuration) {
        // Times by the host's clock cannot be compared with those by the device's.
        if profile.timing_method() != TimingMethod::Device {
            return;
        }
        // It arrives after the launch, on the same thread.
        let thread = std::thread::current().id();
        let mut launches = self.launches();
        let last = (launches.iter_mut().rev()).find(|launch| launch.thread == thread);
        if let Some(launch) = last.filter(|launch| launch.kernel == kernel) {
            launch.profile = Some(profile);
        }
    }

    // CubeCL's log of profiles reads the measurement, which leaves a duration without start and end.
    fn timed(&self, _kernel: &'static str, _duration: Duration, _method: TimingMethod) {}
}

/// The flag of a recording, cleared when it is dropped.
struct Running;

impl Running {
    fn start() -> Self {
        let was_recording = IS_RECORDING.swap(true, Ordering::SeqCst);
        assert!(!was_recording, "launches are recorded already");
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        IS_RECORDING.store(false, Ordering::SeqCst);
    }
}

/// An installed observer. Fields are dropped in this order: the flag last.
pub(super) struct Observation {
    observer: Arc<Observer>,
    /// Launches whose measurements were read, with times from `start`.
    read: Vec<Launch>,
    start: Instant,
    guard: Option<LaunchObservation>,
    _running: Running,
}

impl Observation {
    pub(super) fn start() -> Self {
        let running = Running::start();
        let observer = Arc::<Observer>::default();
        Self {
            guard: Some(LaunchObservation::new(observer.clone())),
            observer,
            read: Vec::new(),
            start: Instant::now(),
            _running: running,
        }
    }

    /// Reads the measurements of the launches so far.
    pub(super) fn read(&mut self) {
        // Not under the lock: a launch of another thread must not wait for the device.
        let observed = std::mem::take(&mut *self.observer.launches());
        let start = self.start;
        let launch = |observed: Observed| Launch {
            kernel: short(observed.kernel),
            problem: observed.problem,
            time: observed.profile.and_then(|profile| {
                let ticks = block_on(profile.resolve())?;
                (ticks.duration() < UNREADABLE).then(|| LaunchTime {
                    start: ticks.start_duration_since(start),
                    end: ticks.end_duration_since(start),
                })
            }),
        };
        self.read.extend(observed.into_iter().map(launch));
    }

    /// Stops, and returns the launches with times from the start of the first of them: the clocks of some devices count
    /// from the start of the device.
    pub(super) fn finish(mut self) -> Vec<Launch> {
        self.guard = None;
        self.read();
        let mut launches = std::mem::take(&mut self.read);
        let times = || launches.iter().filter_map(|launch| launch.time);
        let first = times().map(|time| time.start).min().unwrap_or_default();
        for time in launches
            .iter_mut()
            .filter_map(|launch| launch.time.as_mut())
        {
            time.start -= first;
            time.end = time.end.saturating_sub(first).max(time.start);
        }
        launches
    }
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.read.len() + self.observer.launches().len();
        write!(f, "Observation({count} launches)")
    }
}

/// `SelectBest` for `mrcnn_kernels::top_k::kernel::SelectBest<f32>`.
fn short(kernel: &str) -> String {
    let path = kernel.split('<').next().unwrap_or(kernel);
    path.rsplit("::").next().unwrap_or(path).into()
}
