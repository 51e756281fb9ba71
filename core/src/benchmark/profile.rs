//! Times of the kernels of a step.

use mrcnn_kernels::{Launch, LaunchTime};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Kernels of the timed steps, per step. Launching them takes the host longer than without a profile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// Number of launches per step.
    pub launches: f64,
    /// Milliseconds per step in which at least one kernel ran; `None` if the device has no clock that kernels can read.
    /// An upper bound on CUDA: where the GPU waits for the host, it includes the time in which the host launches a
    /// kernel.
    pub busy_ms: Option<f64>,
    /// Milliseconds between the start of the first kernel and the end of the last one of all steps, per step.
    pub span_ms: Option<f64>,
    /// The kernels, those with the longest times first. Launches of one kernel for one problem are added.
    pub kernels: Vec<KernelTime>,
}

/// A kernel that computes a part of one problem.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelTime {
    /// Name of the kernel.
    pub kernel: String,
    /// The problem, for this project's convolutions and matrix products.
    pub problem: Option<String>,
    /// Launches per step.
    pub launches: f64,
    /// Milliseconds per step; `None` if the device has no clock that kernels can read.
    pub ms: Option<f64>,
}

impl Profile {
    /// The profile of `launches` in `steps` steps; `None` if there are no launches.
    pub(super) fn of(launches: &[Launch], steps: usize) -> Option<Self> {
        if launches.is_empty() {
            return None;
        }
        let per_step = |number: f64| number / steps.max(1) as f64;
        let ms = |time: Duration| per_step(time.as_secs_f64() * 1e3);
        let mut groups: BTreeMap<_, (usize, Option<Duration>)> = BTreeMap::new();
        for Launch {
            kernel,
            problem,
            time,
        } in launches
        {
            let (count, sum) = groups.entry((kernel, problem)).or_default();
            *count += 1;
            if let Some(time) = time {
                *sum.get_or_insert_default() += time.end.saturating_sub(time.start);
            }
        }
        let kernel =
            |((kernel, problem), (count, sum)): ((&String, &Option<String>), _)| KernelTime {
                kernel: kernel.clone(),
                problem: problem.clone(),
                launches: per_step(count as f64),
                ms: Option::map(sum, ms),
            };
        let mut kernels: Vec<KernelTime> = groups.into_iter().map(kernel).collect();
        kernels.sort_by(|one, other| {
            other
                .ms
                .partial_cmp(&one.ms)
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        let times: Vec<LaunchTime> = launches.iter().filter_map(|launch| launch.time).collect();
        let covered = busy_and_span(times);
        Some(Self {
            launches: per_step(launches.len() as f64),
            busy_ms: covered.map(|(busy, _)| ms(busy)),
            span_ms: covered.map(|(_, span)| ms(span)),
            kernels,
        })
    }
}

/// The time in which at least one of `times` runs, and the time from the first start to the last end.
fn busy_and_span(mut times: Vec<LaunchTime>) -> Option<(Duration, Duration)> {
    times.sort_by_key(|time| time.start);
    let first = times.first()?.start;
    let (mut busy, mut end) = (Duration::ZERO, first);
    for time in times {
        busy += time.end.saturating_sub(time.start.max(end));
        end = end.max(time.end);
    }
    Some((busy, end - first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(kernel: &str, problem: Option<&str>, time: Option<[u64; 2]>) -> Launch {
        Launch {
            kernel: kernel.into(),
            problem: problem.map(Into::into),
            time: time.map(|[start, end]| LaunchTime {
                start: Duration::from_millis(start),
                end: Duration::from_millis(end),
            }),
        }
    }

    #[test]
    fn kernels_are_added_per_problem_and_step() {
        let launches = [
            launch("Product", Some("2x3"), Some([10, 14])),
            launch("Product", Some("4x5"), Some([14, 22])),
            launch("Sum", None, Some([30, 31])),
            // Runs beside the one before, and ends later.
            launch("Product", Some("2x3"), Some([30, 34])),
        ];
        let profile = Profile::of(&launches, 2).expect("there are launches");
        let time = |kernel: &str, problem: Option<&str>, launches, ms| KernelTime {
            kernel: kernel.into(),
            problem: problem.map(Into::into),
            launches,
            ms: Some(ms),
        };
        assert_eq!(profile.launches, 2.0);
        assert_eq!((profile.busy_ms, profile.span_ms), (Some(8.0), Some(12.0)));
        assert_eq!(profile.kernels.len(), 3);
        assert!(
            profile
                .kernels
                .contains(&time("Product", Some("2x3"), 1.0, 4.0))
        );
        assert!(
            profile
                .kernels
                .contains(&time("Product", Some("4x5"), 0.5, 4.0))
        );
        assert_eq!(profile.kernels[2], time("Sum", None, 0.5, 0.5));
    }

    #[test]
    fn launches_without_times_are_counted() {
        let profile = Profile::of(&[launch("Sum", None, None)], 1).expect("there is a launch");
        assert_eq!((profile.launches, profile.busy_ms), (1.0, None));
        assert_eq!(profile.kernels[0].ms, None);
        assert_eq!(Profile::of(&[], 1), None);
    }
}
