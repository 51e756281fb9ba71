//! Durations of steps, their percentiles, and the size of their batches.

use super::Profile;
use mrcnn_kernels::LaunchRecording;
use serde::Serialize;
use std::time::Duration;

/// Durations of steps after the warm-up.
#[derive(Debug)]
pub struct Timing {
    skip: usize,
    steps: Vec<f64>,
    waited: f64,
    padded: (usize, usize),
    records_launches: bool,
    recording: Option<LaunchRecording>,
}

/// Percentiles of durations in milliseconds, by nearest rank: each percentile is one of the durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Mean.
    pub mean: f64,
    /// Minimum.
    pub min: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile; with fewer than 100 steps, the maximum.
    pub p99: f64,
    /// Maximum.
    pub max: f64,
}

impl Timing {
    /// Ignores the first `skip` steps.
    pub fn new(skip: usize) -> Self {
        Self {
            skip,
            steps: Vec::new(),
            waited: 0.0,
            padded: (0, 0),
            records_launches: false,
            recording: None,
        }
    }

    /// As [`Self::new`]; the launches of GPU kernels after the first `skip` steps are recorded.
    ///
    /// # Panics
    ///
    /// If another recording is in progress when this one starts: here, or in [`Self::add`] if `skip` is not 0.
    pub fn with_launches(skip: usize) -> Self {
        let mut timing = Self::new(skip);
        timing.records_launches = true;
        timing.start_recording();
        timing
    }

    fn start_recording(&mut self) {
        if self.records_launches && self.skip == 0 {
            self.recording = Some(LaunchRecording::start());
        }
    }

    /// The recorded launches, once the device has finished them; `None` if there are none.
    pub fn profile(&mut self) -> Option<Profile> {
        let launches = self.recording.take()?.finish();
        Profile::of(&launches, self.steps.len())
    }

    /// Records that a batch is padded to `height` and `width` pixels.
    pub fn record_size(&mut self, height: usize, width: usize) {
        if height * width > self.padded.0 * self.padded.1 {
            self.padded = (height, width);
        }
    }

    /// Height and width in pixels of the padded batch with the most pixels, of all steps.
    pub fn padded(&self) -> (usize, usize) {
        self.padded
    }

    /// Adds a step that the device has finished, with duration `step`, of which `waited` was spent waiting for data.
    pub fn add(&mut self, step: Duration, waited: Duration) {
        if self.skip > 0 {
            self.skip -= 1;
            self.start_recording();
            return;
        }
        if let Some(recording) = &mut self.recording {
            recording.read();
        }
        self.steps.push(step.as_secs_f64());
        self.waited += waited.as_secs_f64();
    }

    fn total(&self) -> f64 {
        self.steps.iter().sum()
    }

    /// Images per second over all steps.
    pub fn per_second(&self, batch_size: usize) -> f64 {
        (self.steps.len() * batch_size) as f64 / self.total().max(f64::MIN_POSITIVE)
    }

    /// Fraction of the time spent waiting.
    pub fn data_wait(&self) -> f64 {
        self.waited / self.total().max(f64::MIN_POSITIVE)
    }

    /// Percentiles of the milliseconds per step.
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
    fn percentiles_are_nearest_ranks() {
        let mut timing = Timing::new(3);
        // Three warm-up steps, then 200, 199, ..., 1 ms.
        let warmup = [9000; 3].into_iter();
        for milliseconds in warmup.chain((1..=200).rev()) {
            let step = Duration::from_millis(milliseconds);
            timing.add(step, step / 4);
        }
        let percentiles = timing.percentiles();
        let ranks = [
            percentiles.min,
            percentiles.p50,
            percentiles.p90,
            percentiles.p95,
            percentiles.p99,
            percentiles.max,
        ];
        let expected = [1.0, 100.0, 180.0, 190.0, 198.0, 200.0];
        for (rank, expected) in ranks.into_iter().zip(expected) {
            assert!(
                (rank - expected).abs() < 1e-9,
                "{rank}, expected {expected}"
            );
        }
        assert!((percentiles.mean - 100.5).abs() < 1e-9);
        assert!((timing.data_wait() - 0.25).abs() < 1e-6);
        // 200 steps of 2 images in 20.1 seconds.
        assert!((timing.per_second(2) - 400.0 / 20.1).abs() < 1e-6);
        assert_eq!(Timing::new(0).percentiles(), Percentiles::default());
        for (height, width) in [(800, 1088), (800, 1344), (1344, 768)] {
            timing.record_size(height, width);
        }
        assert_eq!(timing.padded(), (800, 1344));
    }
}
