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

/// Whether a recording runs, so that problems are described.
static IS_RECORDING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The problems that this thread computes, the innermost last.
    static PROBLEMS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Names the problem of the launches of this thread until it is dropped.
pub(crate) struct Problem {
    is_named: bool,
}

/// The launches of this thread belong to the problem that `describe` returns, which is called if they are recorded.
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
            problem,
            profile: None,
        });
    }

    fn timing(&self) -> TimingRequest {
        TimingRequest::Deferred
    }

    fn profiled(&self, kernel: &'static str, profile: ProfileDuration) {
        // A time of the host has no place on the device's clock.
        if profile.timing_method() != TimingMethod::Device {
            return;
        }
        let mut launches = self.launches();
        let mut pending = launches.iter_mut().rev();
        let launch = pending.find(|launch| launch.kernel == kernel && launch.profile.is_none());
        if let Some(launch) = launch {
            launch.profile = Some(profile);
        }
    }

    // CubeCL's log of profiles reads the measurement, which leaves a duration without a place in time.
    fn timed(&self, _kernel: &'static str, _duration: Duration, _method: TimingMethod) {}
}

/// An installed observer.
pub(super) struct Observation {
    observer: Arc<Observer>,
    guard: LaunchObservation,
    start: Instant,
}

impl Observation {
    pub(super) fn start() -> Self {
        let observer = Arc::<Observer>::default();
        let guard = LaunchObservation::new(observer.clone());
        IS_RECORDING.store(true, Ordering::Relaxed);
        Self {
            observer,
            guard,
            start: Instant::now(),
        }
    }

    /// Stops and reads the measurements.
    pub(super) fn finish(self) -> Vec<Launch> {
        drop(self.guard);
        IS_RECORDING.store(false, Ordering::Relaxed);
        let observed = std::mem::take(&mut *self.observer.launches());
        let launch = |observed: Observed| Launch {
            kernel: short(observed.kernel),
            problem: observed.problem,
            time: observed.profile.and_then(|profile| {
                let ticks = block_on(profile.resolve())?;
                Some(LaunchTime {
                    start: ticks.start_duration_since(self.start),
                    end: ticks.end_duration_since(self.start),
                })
            }),
        };
        observed.into_iter().map(launch).collect()
    }
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Observation({} launches)",
            self.observer.launches().len()
        )
    }
}

/// `SelectBest` for `mrcnn_kernels::top_k::kernel::SelectBest<f32>`.
fn short(kernel: &str) -> String {
    let path = kernel.split('<').next().unwrap_or(kernel);
    path.rsplit("::").next().unwrap_or(path).into()
}
