//! Options of `train` for the most common settings.

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct RecipeArgs {
    /// Source of the schedule; by default `auto` with weights of another system and without --config
    #[arg(long, value_enum, conflicts_with = "resume")]
    recipe: Option<Recipe>,
    /// Passes over the training set: the schedule is scaled to them (train.epochs)
    #[arg(long, value_name = "N")]
    epochs: Option<f64>,
    /// Micro-batches per step: the update of the whole batch with the memory of a micro-batch (train.accumulate)
    #[arg(long, value_name = "N")]
    accumulate: Option<usize>,
    /// Steps between evaluations; 0 evaluates only at the end (train.eval_every)
    #[arg(long, value_name = "STEPS")]
    eval_every: Option<usize>,
    /// End the run after this number of evaluations without a better mask AP (train.patience)
    #[arg(long, value_name = "EVALUATIONS")]
    patience: Option<usize>,
    /// Number of frozen parts: 0 none, 1 the stem, 2 the stem and the first stage, up to 5 (model.freeze_at)
    #[arg(long, value_name = "PARTS")]
    freeze_at: Option<usize>,
    /// Train batch norm in the parts that are not frozen (model.norm = "batch_norm")
    #[arg(long)]
    finetune_bn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Recipe {
    /// Chosen by the number of training images, for pretrained weights; options and --set take precedence
    Auto,
    /// The configuration, or the settings of the weights
    Config,
}

impl RecipeArgs {
    /// Whether the schedule is chosen by the number of images; `is_foreign` are weights of another system without a
    /// configuration beside them.
    pub fn is_auto(&self, is_foreign: bool) -> bool {
        self.recipe
            .map_or(is_foreign, |recipe| recipe == Recipe::Auto)
    }

    /// The same settings as overrides of the configuration.
    pub fn overrides(&self) -> Vec<String> {
        let number = |key: &str, value: Option<usize>| Some(format!("{key}={}", value?));
        let given = [
            self.epochs.map(|epochs| format!("train.epochs={epochs}")),
            number("train.accumulate", self.accumulate),
            number("train.eval_every", self.eval_every),
            number("train.patience", self.patience),
            number("model.freeze_at", self.freeze_at),
            self.finetune_bn.then(|| "model.norm=batch_norm".into()),
        ];
        given.into_iter().flatten().collect()
    }
}
