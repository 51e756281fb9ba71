//! Tables of the last image sizes on GPUs.

use crate::config::RpnConfig;
use burn::tensor::Device;
use mrcnn_kernels::has_selection_kernels;
use std::sync::{Arc, Mutex, PoisonError};

/// Tables that depend on the size of the images alone, such as the anchors. On GPUs computing them takes fifty small
/// launches per step, or an upload of megabytes.
#[derive(Clone, Debug)]
pub(crate) struct SizeCache<T>(Arc<Mutex<Vec<(SizeKey, T)>>>);

/// Everything that a table depends on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SizeKey {
    /// Height and width of the padded images in pixels.
    pub padded: (usize, usize),
    /// Rows and columns of each level.
    pub grids: Vec<(usize, usize)>,
    pub config: RpnConfig,
    pub device: Device,
}

/// Maximum number of cached sizes: portrait and landscape of a few buckets.
const KEPT: usize = 8;

impl<T> Default for SizeCache<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> SizeCache<T> {
    /// The result of `make`, from the cache if possible.
    pub(crate) fn get(&self, key: SizeKey, make: impl FnOnce(&SizeKey) -> T) -> T {
        // Devices are compared without their autodiff setting.
        if key.device.is_autodiff() || !has_selection_kernels(&key.device) {
            return make(&key);
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, table)) = kept.iter().find(|(other, _)| *other == key) {
            return table.clone();
        }
        let table = make(&key);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push((key, table.clone()));
        table
    }
}
