//! Mask targets on the wgpu adapter compared with the CPU.

mod adapter;
mod random;

use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_kernels::{BitMasks, MaskWindow, mask_target, mask_targets};
use random::Random;

/// Tolerance: the weights of the samples of a target add up to one, each rounded, with 30 samples per axis and
/// positions up to 2,000 pixels rounded to 1e-4 pixels.
const TOLERANCE: f32 = 1e-3;

struct Mask {
    window: MaskWindow,
    cells: Vec<u8>,
}

impl Mask {
    fn sample(random: &mut Random, image: (usize, usize)) -> Self {
        let within = |random: &mut Random, limit: usize| {
            let from = random.below(limit);
            let side = random.below(limit - from + 1);
            (
                from,
                if random.below(4) == 0 {
                    limit - from
                } else {
                    side
                },
            )
        };
        let (x, width) = within(random, image.0);
        let (y, height) = within(random, image.1);
        let density = random.pick(&[0, 1, 5, 9, 10]);
        let cells = (0..width * height).map(|_| u8::from(random.below(10) < density));
        Self {
            cells: cells.collect(),
            window: MaskWindow {
                origin: (x, y),
                size: (width, height),
                image,
            },
        }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        let MaskWindow { origin, size, .. } = self.window;
        let (x, y) = (column.wrapping_sub(origin.0), row.wrapping_sub(origin.1));
        if x < size.0 && y < size.1 {
            f32::from(self.cells[y * size.0 + x])
        } else {
            0.0
        }
    }
}

/// Boxes inside, across and far outside an image, and without area. Corners are multiples of a quarter pixel, so that
/// no sample is within rounding of the edge of the image, where its weight is discontinuous.
fn roi(random: &mut Random, (width, height): (usize, usize)) -> [f32; 4] {
    let mut at = |limit: usize| random.below(4 * limit + 80) as f32 / 4.0 - 10.0 + 0.125;
    let (x, y, w, h) = (at(width), at(height), at(width), at(height));
    match random.below(10) {
        0 => [x, y, x, y],
        1 => [x + 1e6, y, x + 1e6 + w.abs(), y + h.abs()],
        2 => [x, y, x - w.abs(), y - h.abs()],
        3 if random.below(30) == 0 => [x - 400.0, y - 300.0, x + 400.0, y + 300.0],
        _ => [x, y, x + w.abs(), y + h.abs()],
    }
}

/// Images, RoIs per image, masks per image, cells per side.
const SIZES: [(usize, usize, usize, usize); 8] = [
    (40, 64, 3, 7),
    (30, 100, 7, 14),
    (1, 255, 1, 28),
    (1, 256, 1, 28),
    (1, 257, 1, 28),
    (25, 200, 2, 3),
    (1, 1, 1, 28),
    (1, 65_536, 2, 1),
];

#[test]
fn the_adapter_equals_the_cpu() {
    let Some(adapter) = adapter::adapter() else {
        return;
    };
    let mut partial = 0;
    let done = random::cases("mask targets", SIZES.len(), |random, round| {
        let (n, slots, masks, side) = SIZES[round % SIZES.len()];
        let sizes: Vec<(usize, usize)> = (0..n)
            .map(|_| {
                (
                    random.pick(&[1, 31, 32, 33, if slots > 1000 { 2 } else { 90 }]),
                    random.pick(&[1, 2, 40, if slots > 1000 { 2 } else { 77 }]),
                )
            })
            .collect();
        let drawn: Vec<Mask> = (0..n * masks)
            .map(|mask| Mask::sample(random, sizes[mask / masks]))
            .collect();
        let mut table = BitMasks::default();
        drawn
            .iter()
            .for_each(|mask| table.push(mask.window, &mask.cells));
        let rois: Vec<[f32; 4]> = (0..n * slots)
            .map(|index| roi(random, sizes[index / slots]))
            .collect();
        let matched: Vec<i32> = (0..n * slots)
            .map(|_| random.below(masks + 2) as i32 - 2)
            .collect();
        let targets = |device: &Device| -> Vec<f32> {
            let rois = TensorData::new(rois.as_flattened().to_vec(), [n, slots, 4]);
            let matched = TensorData::new(matched.clone(), [n, slots]);
            let found = mask_targets(
                Tensor::from_data(rois, device),
                Tensor::from_data(matched, device),
                table.upload(n, device),
                side,
            );
            found.into_data().iter::<f32>().collect()
        };
        let (found, flex) = (targets(&adapter.device), targets(&Device::flex()));
        for index in 0..n * slots {
            let wanted = match usize::try_from(matched[index]) {
                Err(_) => vec![0.0; side * side],
                Ok(matched) => {
                    let mask = &drawn[index / slots * masks + matched];
                    let image = mask.window.image;
                    mask_target(&rois[index], side, image, |y, x| mask.at(y, x))
                }
            };
            let cells = index * side * side..(index + 1) * side * side;
            assert_eq!(flex[cells.clone()], wanted, "RoI {index} on flex");
            for (found, wanted) in found[cells].iter().zip(&wanted) {
                partial += usize::from((0.1..0.9).contains(wanted));
                assert!(
                    (found - wanted).abs() < TOLERANCE,
                    "{found}, not {wanted}: {:?} of {:?}",
                    rois[index],
                    sizes[index / slots]
                );
            }
        }
        n * slots
    });
    println!("{partial} partial cells");
    assert!(done < random::CASES || partial > 1000);
}

#[test]
fn images_without_masks_give_zeros() {
    let device = Device::flex();
    let table = BitMasks::default().upload(2, &device);
    assert_eq!(table.0.dims(), [2, 0, 7]);
    let rois = Tensor::<3>::ones([2, 3, 4], &device);
    let matched = Tensor::from_data([[-1; 3]; 2], &device);
    let found = mask_targets(rois, matched, table, 2).into_data();
    assert_eq!(found.iter::<f32>().collect::<Vec<_>>(), [0.0; 24]);
}

#[test]
fn a_full_mask_gives_ones_and_none_gives_zeros() {
    let device = Device::flex();
    let mut table = BitMasks::default();
    let window = MaskWindow {
        origin: (10, 10),
        size: (20, 20),
        image: (50, 50),
    };
    table.push(window, &[1; 400]);
    table.pad(4);
    let rois = Tensor::<3>::from_data(
        [[
            [12.0f32, 12., 27., 27.],
            [31., 31., 40., 40.],
            [12., 12., 27., 27.],
        ]],
        &device,
    );
    let matched = Tensor::from_data([[0, 0, -1]], &device);
    let found = mask_targets(rois, matched, table.upload(1, &device), 2).into_data();
    let found: Vec<f32> = found.iter().collect();
    for (found, wanted) in found
        .iter()
        .zip([1., 1., 1., 1., 0., 0., 0., 0., 0., 0., 0., 0.])
    {
        assert!((found - wanted).abs() < 1e-6, "{found}, not {wanted}");
    }
}
