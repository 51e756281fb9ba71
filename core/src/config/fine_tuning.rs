//! A training recipe by the size of the dataset, for models that start from weights of another training.

use super::Config;

/// A setting that [`Config::for_fine_tuning`] has chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// `train.steps`.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// The reason for the value.
    pub reason: String,
}

/// Below this number of images the second stage of the backbone is frozen too.
const FEW: usize = 200;

/// Up to this number of images the batch is small, so that there are enough steps in an epoch.
const SMALL: usize = 500;

impl Config {
    /// Chooses batch size, steps, warm-up, milestones, evaluation interval and frozen layers for a training set of
    /// `images` images and a model that starts from the weights of another training. `given` are the overrides
    /// (`train.steps=500`) that this configuration has already: these settings are not chosen, and others follow them.
    ///
    /// The learning rate per image stays: `train.lr_batch` scales it to the batch.
    pub fn for_fine_tuning(&mut self, images: usize, given: &[String]) -> Vec<Choice> {
        let config = self;
        let mut chooser = Chooser {
            given,
            choices: Vec::new(),
        };
        let batch = if images <= SMALL { 2 } else { 4 };
        let reason = "small batches give more steps per epoch".into();
        chooser.choose(
            "train.batch_size",
            &mut config.train.batch_size,
            batch,
            reason,
        );

        let epochs = epochs(images);
        let steps = epochs * images as f64 / config.train.batch_size as f64;
        let reason = format!("{epochs:.0} epochs of {images} images");
        let steps = (steps.ceil() as usize).max(1);
        chooser.choose("train.steps", &mut config.train.steps, steps, reason);

        let steps = config.train.steps;
        let warmup = (steps / 10).min(1000);
        let reason = "a tenth of the steps, at most 1000".into();
        chooser.choose(
            "train.warmup_steps",
            &mut config.train.warmup_steps,
            warmup,
            reason,
        );
        let milestones = vec![steps * 2 / 3, steps * 8 / 9];
        let reason = "at 2/3 and 8/9 of the steps".into();
        chooser.choose(
            "train.milestones",
            &mut config.train.milestones,
            milestones,
            reason,
        );
        let every = steps.div_ceil(10);
        let reason = "ten evaluations".into();
        chooser.choose(
            "train.eval_every",
            &mut config.train.eval_every,
            every,
            reason,
        );

        let frozen = if images < FEW { 3 } else { 2 };
        let frozen = frozen.max(config.model.freeze_at);
        let reason = match images < FEW {
            true => format!("{images} images are too few to retrain the first layers"),
            false => "the pretrained first layers suit all photos".into(),
        };
        chooser.choose(
            "model.freeze_at",
            &mut config.model.freeze_at,
            frozen,
            reason,
        );
        chooser.choices
    }
}

/// Number of epochs: 100 for 20 images, 45 for 100, 20 for 500, and 12, as in the 1x schedule, from 1,400 images on.
fn epochs(images: usize) -> f64 {
    (450.0 / (images.max(1) as f64).sqrt()).clamp(12.0, 100.0)
}

struct Chooser<'a> {
    given: &'a [String],
    choices: Vec<Choice>,
}

impl Chooser<'_> {
    fn choose<T: std::fmt::Debug>(
        &mut self,
        key: &'static str,
        setting: &mut T,
        value: T,
        reason: String,
    ) {
        let mut given = self.given.iter().filter_map(|text| text.split_once('='));
        if given.any(|(name, _)| name.trim() == key) {
            return;
        }
        self.choices.push(Choice {
            key,
            value: format!("{value:?}"),
            reason,
        });
        *setting = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(images: usize, given: &[&str]) -> (Config, Vec<&'static str>) {
        let given: Vec<String> = given.iter().map(|text| text.to_string()).collect();
        let mut config = Config::default().with(&given).expect("a configuration");
        let choices = config.for_fine_tuning(images, &given);
        config.check().expect("valid");
        (config, choices.iter().map(|choice| choice.key).collect())
    }

    #[test]
    fn the_schedule_follows_the_number_of_images() {
        for (images, steps) in [(20, 1000), (100, 2250), (500, 5032), (10_000, 30_000)] {
            let (config, _) = chosen(images, &[]);
            let train = &config.train;
            assert_eq!(train.steps, steps, "{images} images");
            assert!(train.warmup_steps < train.milestones[0]);
            assert!(train.milestones[1] < train.steps && train.eval_every * 10 >= train.steps);
            assert_eq!(config.model.freeze_at, if images < 200 { 3 } else { 2 });
            let rate = 0.02 * train.batch_size as f64 / 16.0;
            assert_eq!(train.scaled_learning_rate(), rate);
        }
        assert!(chosen(1, &[]).0.train.steps > 1);
    }

    #[test]
    fn given_settings_stay_and_others_follow_them() {
        let (config, keys) = chosen(100, &["train.steps=90", "model.freeze_at=0"]);
        assert_eq!((config.train.steps, config.model.freeze_at), (90, 0));
        assert_eq!(config.train.milestones, [60, 80]);
        assert_eq!((config.train.warmup_steps, config.train.eval_every), (9, 9));
        assert!(!keys.contains(&"train.steps") && keys.contains(&"train.milestones"));
    }
}
