//! Tables of the last image sizes on GPUs.

use burn::tensor::Device;
use mrcnn_kernels::has_selection_kernels;
use std::sync::{Arc, Mutex, PoisonError};

/// Tables that depend on the size of the images and the configuration alone, such as the anchors. On GPUs computing
/// them takes many small launches per step, or an upload of megabytes. A key `K` has everything that a table `T`
/// depends on but its device.
#[derive(Clone, Debug)]
pub(crate) struct SizeCache<K, T>(Arc<Mutex<Vec<(Device, K, T)>>>);

/// Maximum number of cached sizes: portrait and landscape of a few buckets.
const MAX_SIZES: usize = 8;

impl<K, T> Default for SizeCache<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: PartialEq, T: Clone> SizeCache<K, T> {
    /// The result of `make`, from the cache if possible.
    pub(crate) fn get(&self, device: &Device, key: K, make: impl FnOnce() -> T) -> T {
        // Devices are compared without their autodiff setting.
        if device.is_autodiff() || !has_selection_kernels(device) {
            return make();
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |(on, of, _): &&(Device, K, T)| on == device && *of == key;
        if let Some((.., table)) = kept.iter().find(is_same) {
            return table.clone();
        }
        let table = make();
        if kept.len() == MAX_SIZES {
            kept.remove(0);
        }
        kept.push((device.clone(), key, table.clone()));
        table
    }
}
