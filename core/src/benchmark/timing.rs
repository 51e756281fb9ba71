//! Times of steps and what they come to.

use serde::Serialize;
use std::time::Duration;

/// Durations of steps, the first few left out.
#[derive(Clone, Debug)]
pub struct Timing {
    skip: usize,
    steps: Vec<f64>,
    waited: f64,
}

/// Of a list of durations in milliseconds. A percentile is one of the durations: the smallest that
/// the wanted share does not exceed (nearest rank).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Mean.
    pub mean: f64,
    /// Smallest.
    pub min: f64,
    /// Half are not longer.
    pub p50: f64,
    /// 90 % are not longer.
    pub p90: f64,
    /// 95 % are not longer.
    pub p95: f64,
    /// 99 % are not longer; with fewer than 100 steps that is the longest.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

impl Timing {
    /// Leaves out the first `skip` steps.
    pub fn new(skip: usize) -> Self {
        Self {
            skip,
            steps: Vec::new(),
            waited: 0.0,
        }
    }

    /// Adds a step that took `step`, of which `waited` for data.
    pub fn add(&mut self, step: Duration, waited: Duration) {
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        self.steps.push(step.as_secs_f64());
        self.waited += waited.as_secs_f64();
    }

    fn total(&self) -> f64 {
        self.steps.iter().sum()
    }

    /// Pictures a second, over all steps.
    pub fn per_second(&self, batch_size: usize) -> f64 {
        (self.steps.len() * batch_size) as f64 / self.total().max(f64::MIN_POSITIVE)
    }

    /// Share of the time spent waiting.
    pub fn data_wait(&self) -> f64 {
        self.waited / self.total().max(f64::MIN_POSITIVE)
    }

    /// Milliseconds of a step.
    pub fn percentiles(&self) -> Percentiles {
        let mut sorted: Vec<f64> = self.steps.iter().map(|s| s * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        let Some(&max) = sorted.last() else {
            return Percentiles::default();
        };
        let rank = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
        Percentiles {
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
            min: sorted[0],
            p50: rank(50),
            p90: rank(90),
            p95: rank(95),
            p99: rank(99),
            max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let mut timing = Timing::new(3);
        // Three of warm-up, then 200, 199, ..., 1 ms.
        let warmup = [9000; 3].into_iter();
        for milliseconds in warmup.chain((1..=200).rev()) {
            let step = Duration::from_millis(milliseconds);
            timing.add(step, step / 4);
        }
        let found = timing.percentiles();
        let ranks = [
            found.min, found.p50, found.p90, found.p95, found.p99, found.max,
        ];
        let wanted = [1.0, 100.0, 180.0, 190.0, 198.0, 200.0];
        for (found, wanted) in ranks.into_iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-9, "{found}, wanted {wanted}");
        }
        assert!((found.mean - 100.5).abs() < 1e-9);
        assert!((timing.data_wait() - 0.25).abs() < 1e-6);
        // 200 steps of 2 pictures in 20.1 seconds.
        assert!((timing.per_second(2) - 400.0 / 20.1).abs() < 1e-6);
        assert_eq!(Timing::new(0).percentiles(), Percentiles::default());
    }
}
