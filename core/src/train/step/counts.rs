//! How many samples a step has, of which shares of it are told.

/// How many candidates took part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepCounts {
    /// Sampled anchors.
    pub anchors: usize,
    /// Sampled regions.
    pub regions: usize,
    /// Objects among the regions, which get a mask loss.
    pub objects: usize,
}

impl StepCounts {
    /// The samples of both.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            anchors: self.anchors + other.anchors,
            regions: self.regions + other.regions,
            objects: self.objects + other.objects,
        }
    }

    /// These samples' shares of all those of a step, in the order of [`Losses::NAMES`]: losses divided by
    /// their own samples count by them.
    pub(crate) fn shares(self, of: Self) -> [f64; 5] {
        let share = |mine: usize, all: usize| mine as f64 / all.max(1) as f64;
        let anchors = share(self.anchors, of.anchors);
        let regions = share(self.regions, of.regions);
        let objects = share(self.objects, of.objects);
        [regions, regions, objects, anchors, anchors]
    }
}
