//! Group norm on the CPU compared with Burn's own operations.

mod random;

use burn::tensor::{Device, Tensor, TensorData, activation};
use mrcnn_kernels::group_norm;
use random::Random;

const EPSILON: f64 = 1e-5;

struct Case {
    shape: [usize; 4],
    groups: usize,
    residual: bool,
    relu: bool,
    seed: u64,
}

fn case(random: &mut Random) -> Case {
    let groups = random.pick(&[1, 2, 4, 20]);
    let c = groups * random.pick(&[1, 2, 3]);
    Case {
        shape: [
            1 + random.below(3),
            c,
            1 + random.below(23),
            1 + random.below(40),
        ],
        groups,
        residual: random.below(2) == 0,
        relu: random.below(2) == 0,
        seed: random.bits(),
    }
}

/// Output, and the gradients of x, weight, bias and residual.
fn run(case: &Case, ours: bool) -> Vec<Vec<f32>> {
    let device = Device::flex().autodiff();
    let mut random = Random(case.seed);
    let mut draw = |len: usize, offset: f32| -> Vec<f32> {
        random
            .values(len)
            .into_iter()
            .map(|value| value + offset)
            .collect()
    };
    let len = case.shape.iter().product();
    let [n, c, h, w] = case.shape;
    // With a mean far from zero, sums cancel.
    let image = |values| Tensor::<4>::from_data(TensorData::new(values, case.shape), &device);
    let channel = |values| Tensor::<1>::from_data(TensorData::new(values, [c]), &device);
    let x = image(draw(len, 20.0)).require_grad();
    let (weight, bias) = (
        channel(draw(c, 0.0)).require_grad(),
        channel(draw(c, 0.0)).require_grad(),
    );
    let residual = image(draw(len, 0.0)).require_grad();
    let grad = image(draw(len, 0.0));
    let added = case.residual.then(|| residual.clone());
    let y = if ours {
        group_norm(
            x.clone(),
            weight.clone(),
            bias.clone(),
            case.groups,
            EPSILON,
            added,
            case.relu,
        )
    } else {
        let grouped = x.clone().reshape([n, case.groups, c / case.groups * h * w]);
        let centered = grouped.clone() - grouped.mean_dim(2);
        let variance = centered.clone().square().mean_dim(2);
        let normed = (centered / (variance + EPSILON).sqrt()).reshape(case.shape);
        let y = normed * weight.clone().reshape([1, c, 1, 1]) + bias.clone().reshape([1, c, 1, 1]);
        let y = match added {
            Some(residual) => y + residual,
            None => y,
        };
        if case.relu { activation::relu(y) } else { y }
    };
    let gradients = (y.clone() * grad).sum().backward();
    let floats = |data: TensorData| data.try_into_vec::<f32>().expect("f32");
    let mut found = vec![floats(y.into_data())];
    found.push(floats(
        x.grad(&gradients).expect("x is tracked").into_data(),
    ));
    for parameter in [weight, bias] {
        found.push(floats(
            parameter.grad(&gradients).expect("tracked").into_data(),
        ));
    }
    found.extend(
        residual
            .grad(&gradients)
            .map(|grad| floats(grad.into_data())),
    );
    found
}

#[test]
fn output_and_gradients_are_those_of_burns_operations() {
    let mut random = Random(1);
    for _ in 0..150 {
        let case = case(&mut random);
        if case.shape[2] * case.shape[3] < 16 {
            // The variance of so few values may be near zero, and its reciprocal arbitrary.
            continue;
        }
        let (mut got, want) = (run(&case, true), run(&case, false));
        if case.relu {
            // A value near zero may round to either side of it, which changes its gradient.
            got.truncate(1);
        }
        let names = ["output", "x", "weight", "bias", "residual"];
        for ((got, want), name) in got.iter().zip(&want).zip(names) {
            let largest = want
                .iter()
                .fold(1.0f32, |largest, value| largest.max(value.abs()));
            for (got, want) in got.iter().zip(want) {
                // f32 resolves 20 to 2e-6; divided by a standard deviation of about 0.6 and summed, a few times that.
                let bound = 1e-4 * largest;
                assert!(
                    (got - want).abs() <= bound,
                    "{name} of {:?}, {} groups: {got}, not {want}",
                    case.shape,
                    case.groups
                );
            }
        }
    }
}

#[test]
fn two_runs_agree_to_the_bit() {
    let mut random = Random(2);
    for _ in 0..20 {
        let case = case(&mut random);
        let bits = |found: Vec<Vec<f32>>| -> Vec<u32> {
            found.into_iter().flatten().map(f32::to_bits).collect()
        };
        assert_eq!(bits(run(&case, true)), bits(run(&case, true)));
    }
}
