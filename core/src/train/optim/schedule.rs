//! The learning rate of a step.

use crate::config::{Schedule, TrainConfig};

/// Learning rate at `step` (from 0): linear warm-up, then the schedule; scaled to the batch.
pub fn learning_rate(step: usize, config: &TrainConfig) -> f64 {
    let warmup = if step < config.warmup_steps {
        let progress = step as f64 / config.warmup_steps as f64;
        config.warmup_factor * (1.0 - progress) + progress
    } else {
        1.0
    };
    let decay = match config.schedule {
        Schedule::Multistep => {
            let passed = config
                .milestones
                .iter()
                .filter(|&&milestone| step >= milestone)
                .count();
            config.gamma.powi(passed as i32)
        }
        Schedule::Cosine => {
            let progress = step as f64 / config.steps.max(1) as f64;
            0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
        }
    };
    config.scaled_learning_rate() * warmup * decay
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_then_falls() {
        let config = TrainConfig {
            learning_rate: 1.0,
            warmup_steps: 10,
            warmup_factor: 0.1,
            milestones: vec![20, 30],
            ..TrainConfig::default()
        };
        let rate = |step| learning_rate(step, &config);
        assert!((rate(0) - 0.1).abs() < 1e-12 && (rate(5) - 0.55).abs() < 1e-12);
        assert_eq!([rate(10), rate(19)], [1.0, 1.0]);
        assert!((rate(20) - 0.1).abs() < 1e-12 && (rate(30) - 0.01).abs() < 1e-12);
        let cosine = TrainConfig {
            schedule: Schedule::Cosine,
            warmup_steps: 0,
            steps: 100,
            ..config
        };
        assert!((learning_rate(50, &cosine) - 0.5).abs() < 1e-12);
        assert!(learning_rate(100, &cosine) < 1e-12);
    }
}
