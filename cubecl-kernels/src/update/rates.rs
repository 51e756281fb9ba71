//! Parameters of an optimizer update.

/// Weight decay and gradient scale of one parameter.
#[derive(Clone, Copy, Debug)]
pub struct ParamFactors {
    /// Weight decay.
    pub decay: f64,
    /// Factor that the gradient is multiplied by first.
    pub scale: f64,
}

/// An update of SGD with momentum.
#[derive(Clone, Copy, Debug)]
pub struct SgdUpdate {
    /// Learning rate.
    pub rate: f64,
    /// Fraction of the velocity that is kept.
    pub momentum: f64,
}

/// An update of AdamW (Loshchilov and Hutter, 2017).
#[derive(Clone, Copy, Debug)]
pub struct AdamwUpdate {
    /// Learning rate.
    pub rate: f64,
    /// Fractions of the means of the gradient and of its square that are kept.
    pub betas: [f64; 2],
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// The number of this update, from 1.
    pub step: i32,
}

impl AdamwUpdate {
    /// The divisors `1 - beta^step` of the means, because they start at 0.
    pub(super) fn corrections(&self) -> [f64; 2] {
        self.betas.map(|beta| 1.0 - beta.powi(self.step))
    }
}
