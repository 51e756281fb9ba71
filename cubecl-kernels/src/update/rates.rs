//! The numbers of an update.

/// How far a parameter moves in an update.
#[derive(Clone, Copy, Debug)]
pub struct UpdateRates {
    /// Learning rate.
    pub rate: f64,
    /// Weight decay.
    pub decay: f64,
    /// Multiplies the gradient.
    pub scale: f64,
}

/// An update of SGD with momentum.
#[derive(Clone, Copy, Debug)]
pub struct SgdUpdate {
    /// How far the parameter moves.
    pub rates: UpdateRates,
    /// Share of the velocity that is kept.
    pub momentum: f64,
}

/// An update of AdamW (Loshchilov and Hutter, 2017).
#[derive(Clone, Copy, Debug)]
pub struct AdamwUpdate {
    /// How far the parameter moves.
    pub rates: UpdateRates,
    /// Share of the mean of the gradient, and of its square, that is kept.
    pub betas: [f64; 2],
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// The number of this update, from 1.
    pub step: i32,
}

impl AdamwUpdate {
    /// What the means are divided by, because they start at 0: `1 - beta^step`.
    pub(super) fn corrections(&self) -> [f64; 2] {
        self.betas.map(|beta| 1.0 - beta.powi(self.step))
    }
}
