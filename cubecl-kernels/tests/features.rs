//! Operations on feature maps on the CPU compared with Burn's own operations, with their gradients.

mod random;

use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor, TensorData, module};
use mrcnn_kernels::{max_pool3x3, pack_pyramid, upsample_add};
use random::Random;

fn device() -> Device {
    Device::flex().autodiff()
}

fn tensor<const D: usize>(random: &mut Random, shape: [usize; D]) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| random.whole(9))
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &device()).require_grad()
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

/// Output and the gradients of `inputs`, for a random gradient of the output.
fn results<const D: usize>(output: Tensor<D>, inputs: &[&Tensor<4>], seed: u64) -> Vec<Vec<f32>> {
    let grad = tensor(&mut Random(seed), output.dims()).detach();
    let gradients = (output.clone() * grad).sum().backward();
    let of = |input: &&Tensor<4>| floats(input.grad(&gradients).expect("inputs are tracked"));
    std::iter::once(floats(output))
        .chain(inputs.iter().map(of))
        .collect()
}

fn sizes(random: &mut Random) -> [usize; 4] {
    let [n, c] = [1 + random.below(3), random.pick(&[1, 2, 5, 16, 33])];
    [n, c, 1 + random.below(40), 1 + random.below(40)]
}

/// Ties are frequent: the gradient goes to the first maximum, as in Burn's and torch's pool.
#[test]
fn max_pool_is_burns() {
    let mut random = Random(1);
    for seed in 0..100 {
        let x = tensor(&mut random, sizes(&mut Random(seed + 1000)));
        let pool = MaxPoolOptions::new([3, 3])
            .with_stride([2, 2])
            .with_padding([1, 1]);
        let want = results(module::max_pool2d(x.clone(), pool), &[&x], seed);
        let got = results(max_pool3x3(x.clone()), &[&x], seed);
        assert_eq!(got, want, "{:?}", x.dims());
    }
}

#[test]
fn nan_is_the_maximum() {
    for at in 0..9 {
        let mut values = vec![1.0f32; 9];
        values[at] = f32::NAN;
        let x = Tensor::<4>::from_data(TensorData::new(values, [1, 1, 3, 3]), &Device::flex());
        let pooled = floats(max_pool3x3(x));
        let reached = [(0..2, 0..2), (0..2, 1..3), (1..3, 0..2), (1..3, 1..3)];
        for (cell, (rows, columns)) in reached.into_iter().enumerate() {
            let inside = rows.contains(&(at / 3)) && columns.contains(&(at % 3));
            assert_eq!(pooled[cell].is_nan(), inside, "NaN at {at}, cell {cell}");
        }
    }
}

#[test]
fn upsampling_adds_every_cell_to_four() {
    let mut random = Random(2);
    for seed in 0..100 {
        let [n, c, h, w] = sizes(&mut random);
        let lateral = tensor(&mut random, [n, c, h, w]);
        let top = tensor(&mut random, [n, c, h.div_ceil(2), w.div_ceil(2)]);
        let doubled = top
            .clone()
            .repeat_dim(2, 2)
            .reshape([n, c, 2, h.div_ceil(2), w.div_ceil(2)])
            .permute([0, 1, 3, 2, 4])
            .reshape([n, c, 2 * h.div_ceil(2), w.div_ceil(2)])
            .slice([0..n, 0..c, 0..h, 0..w.div_ceil(2)]);
        let doubled = doubled
            .reshape([n, c, h, w.div_ceil(2), 1])
            .expand([n, c, h, w.div_ceil(2), 2])
            .reshape([n, c, h, 2 * w.div_ceil(2)])
            .slice([0..n, 0..c, 0..h, 0..w]);
        let want = results(lateral.clone() + doubled, &[&lateral, &top], seed);
        let got = results(
            upsample_add(lateral.clone(), top.clone()),
            &[&lateral, &top],
            seed,
        );
        assert_eq!(got, want, "{:?}", lateral.dims());
    }
}

#[test]
fn packing_moves_channels_last() {
    let mut random = Random(3);
    for seed in 0..60 {
        let [n, c, _, _] = sizes(&mut random);
        let levels: Vec<_> = (0..1 + random.below(4))
            .map(|_| {
                let [_, _, h, w] = sizes(&mut random);
                tensor(&mut random, [n, c, h, w])
            })
            .collect();
        let inputs: Vec<_> = levels.iter().collect();
        let cells = levels.iter().map(|level| {
            let [n, c, h, w] = level.dims();
            level.clone().permute([0, 2, 3, 1]).reshape([n * h * w, c])
        });
        let want = results(Tensor::cat(cells.collect(), 0), &inputs, seed);
        let (packed, table) = pack_pyramid(&levels, &vec![1.0; levels.len()]);
        assert_eq!(table.len(), levels.len());
        assert_eq!(results(packed, &inputs, seed), want, "{c} channels");
    }
}

#[test]
#[should_panic(expected = "with the same n and c")]
fn levels_of_a_pyramid_have_the_same_channels() {
    let level = |channels: usize| Tensor::<4>::zeros([1, channels, 4, 4], &device());
    pack_pyramid(&[level(2), level(3)], &[0.25, 0.125]);
}
