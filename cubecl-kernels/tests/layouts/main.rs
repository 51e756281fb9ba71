//! Every operator with its inputs in every memory layout: padded rows, views into a buffer, permuted and
//! expanded tensors give the same bits as dense ones. The results of dense ones are compared with the CPU
//! versions in the other tests.
//!
//! Row lengths are not multiples of the alignment of rows, so that outputs are padded if the
//! device pads (CUDA).

#[path = "../adapter/mod.rs"]
mod adapter;
mod layers;
#[path = "../layout/mod.rs"]
mod layout;
#[path = "../random/mod.rs"]
mod random;
mod selection;
mod targets;

use burn::tensor::{Device, Int, Tensor};
use layout::Layout;
use random::Random;

/// Runs `run` on the CPU and the adapter, with each layout, and compares it with dense inputs.
fn check(run: impl Fn(Layout, &Device) -> Vec<u32>) {
    let adapter = adapter::adapter();
    let gpu = adapter.iter().map(|adapter| adapter.device.clone());
    for device in std::iter::once(Device::flex()).chain(gpu) {
        let wanted = run(Layout::Dense, &device);
        assert!(!wanted.is_empty());
        for layout in Layout::ALL {
            let found = run(layout, &device);
            let wrong = (0..wanted.len()).find(|&i| found[i] != wanted[i]);
            if let Some(i) = wrong {
                panic!(
                    "{layout:?} on {device:?}: value {i} of {} is {} (bits {:#x}), not {} ({:#x})",
                    wanted.len(),
                    f32::from_bits(found[i]),
                    found[i],
                    f32::from_bits(wanted[i]),
                    wanted[i]
                );
            }
        }
    }
}

fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u32> {
    tensor.into_data().iter::<f32>().map(f32::to_bits).collect()
}

fn words<const D: usize>(tensor: Tensor<D, Int>) -> Vec<u32> {
    let data = tensor.into_data();
    data.iter::<i32>().map(|value| value as u32).collect()
}

/// Boxes within 200 pixels, of whole numbers.
fn boxes(random: &mut Random, count: usize) -> Vec<f32> {
    let mut draw = || {
        let [x, y, w, h] = [0; 4].map(|_| random.below(100) as f32);
        [x, y, x + w, y + h]
    };
    (0..count).flat_map(|_| draw()).collect()
}
