use super::*;
use burn::tensor::Device;

/// Rows, classes, outputs per class.
type Sizes = [usize; 3];

const SMOOTH_L1: ElementLoss = ElementLoss::SmoothL1 { beta: 0.25 };

struct Problem {
    predicted: Vec<f32>,
    labels: Vec<i32>,
    targets: Vec<f32>,
    weights: Vec<f32>,
}

impl Problem {
    /// Numbers between -3 and 3, targets of 0 and 1, rows of weight 0 among them.
    fn new([rows, classes, outputs]: Sizes) -> Self {
        let mut state = 7u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let mut list = |count: usize, of: &dyn Fn(f32) -> f32| -> Vec<f32> {
            (0..count).map(|_| of(next())).collect()
        };
        Self {
            predicted: list(rows * classes * outputs, &|x| 6.0 * x - 3.0),
            labels: (0..rows).map(|row| (row * 7 % classes) as i32).collect(),
            targets: list(rows * outputs, &|x| f32::from(x > 0.5)),
            weights: list(rows, &|x| if x < 0.3 { 0.0 } else { x }),
        }
    }

    /// Loss and gradient of twice the loss; `is_class_last` if the classes are adjacent in memory.
    fn solve(
        &self,
        sizes: Sizes,
        loss: ElementLoss,
        device: &Device,
        is_class_last: bool,
    ) -> (f32, Vec<f32>) {
        let [rows, classes, outputs] = sizes;
        let plain = device.clone().inner();
        let float = |values: &[f32]| Tensor::<1>::from_floats(values, &plain);
        let predicted = Tensor::<3>::from_inner(float(&self.predicted).reshape(sizes));
        let predicted = match is_class_last {
            true => swapped(swapped(predicted).mul_scalar(1)),
            false => predicted,
        };
        let predicted = predicted.require_grad();
        let labels = Tensor::<1, Int>::from_ints(self.labels.as_slice(), &plain);
        let found = class_loss(
            predicted.clone(),
            (classes > 1).then_some(labels),
            float(&self.targets).reshape([rows, outputs]),
            RowWeights::Given(float(&self.weights)),
            divisor(&plain),
            loss,
        );
        let gradients = (found.clone() * 2.0).backward();
        let gradient = predicted.grad(&gradients).expect("it is tracked");
        assert_eq!(gradient.dims(), sizes);
        let values = gradient.into_data().try_into_vec().expect("f32");
        (found.into_scalar::<f32>(), values)
    }

    /// By the definition, in f64.
    fn wanted(&self, [_, classes, outputs]: Sizes, loss: ElementLoss) -> (f64, Vec<f64>) {
        let (mut sum, mut gradient) = (0.0, vec![0.0; self.predicted.len()]);
        for (i, &target) in self.targets.iter().enumerate() {
            let row = i / outputs;
            let at = (row * classes + self.labels[row] as usize) * outputs + i % outputs;
            let (x, t) = (f64::from(self.predicted[at]), f64::from(target));
            let (loss, slope) = match loss {
                ElementLoss::BinaryCrossEntropy => {
                    let probability = 1.0 / (1.0 + (-x).exp());
                    let likelihood = if t == 1.0 {
                        probability
                    } else {
                        1.0 - probability
                    };
                    (-likelihood.ln(), probability - t)
                }
                ElementLoss::SmoothL1 { beta } => match (x - t).abs() {
                    size if size < beta => (size * size / (2.0 * beta), (x - t) / beta),
                    size => (size - beta / 2.0, (x - t).signum()),
                },
            };
            let weight = f64::from(self.weights[row]);
            sum += weight * loss;
            gradient[at] = 2.0 * weight * slope;
        }
        (sum, gradient)
    }
}

fn swapped(tensor: Tensor<3>) -> Tensor<3> {
    tensor.permute([0, 2, 1])
}

/// Sums are divided by this one of three counts.
const COUNT: Count = Count {
    index: 1,
    min: 2.0,
    factor: 0.25,
};

fn divisor(device: &Device) -> Divisor {
    Divisor {
        counts: Tensor::from_floats([7.0, 10.0, 5.0], device),
        count: COUNT,
    }
}

/// The tests' divisor.
const BY: f64 = 10.0 * 0.25;

fn check(device: &Device) {
    for sizes in [[5, 1, 1], [300, 1, 4], [70, 3, 4], [9, 5, 784]] {
        for loss in [ElementLoss::BinaryCrossEntropy, SMOOTH_L1] {
            let problem = Problem::new(sizes);
            let (sum, gradient) = problem.solve(sizes, loss, device, false);
            let (wanted, wanted_gradient) = problem.wanted(sizes, loss);
            let wanted = wanted / BY;
            // Sums of up to 7,056 terms in f32.
            let error = (f64::from(sum) - wanted).abs() / wanted;
            assert!(error < 1e-5, "{sizes:?} {loss:?}: {sum}, not {wanted}");
            for (found, wanted) in gradient.iter().zip(wanted_gradient) {
                let error = (f64::from(*found) - wanted / BY).abs();
                assert!(error < 2e-6, "{sizes:?} {loss:?}: {found}, not {wanted}");
            }
            for is_class_last in [false, true] {
                let again = problem.solve(sizes, loss, device, is_class_last);
                assert_eq!(again, (sum, gradient.clone()), "{sizes:?}, {is_class_last}");
            }
        }
    }
}

#[test]
fn losses_and_gradients_are_those_of_their_definition() {
    check(&Device::flex().autodiff());
}

/// Large logits do not overflow, and NaN stays NaN.
fn extremes(device: &Device) {
    let loss_of = |x: f32, target: f32| {
        let tensor = |value: f32| Tensor::<1>::from_floats([value], device);
        let predicted = tensor(x).reshape([1, 1, 1]);
        let target = tensor(target).reshape([1, 1]);
        let loss = class_loss(
            predicted,
            None,
            target,
            RowWeights::Given(tensor(1.0)),
            Divisor {
                counts: tensor(0.0),
                count: Count {
                    index: 0,
                    min: 1.0,
                    factor: 1.0,
                },
            },
            ElementLoss::BinaryCrossEntropy,
        );
        loss.into_scalar::<f32>()
    };
    for (x, target, wanted) in [
        (1000.0, 1.0, 0.0),
        (1000.0, 0.0, 1000.0),
        (-1000.0, 1.0, 1000.0),
        (-1000.0, 0.0, 0.0),
    ] {
        assert_eq!(loss_of(x, target), wanted, "{x}, {target}");
    }
    for target in [0.0, 1.0] {
        assert!(!loss_of(f32::NAN, target).is_finite());
    }
}

#[test]
fn large_logits_do_not_overflow() {
    extremes(&Device::flex());
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn gpus_compute_the_same() {
    if let Some((selected, _)) = crate::test_gpu::open() {
        check(&selected.device.clone().autodiff());
        check_cross_entropy(&selected.device.clone().autodiff());
        check_weights_of_objects(&selected.device.clone().autodiff());
        extremes(&selected.device);
    }
}

/// Sum of the cross entropies and the gradient, beside their definition in f64.
fn check_cross_entropy(device: &Device) {
    for [rows, classes] in [[1, 2], [300, 5], [70, 91]] {
        let Problem {
            predicted,
            labels,
            weights,
            ..
        } = Problem::new([rows, classes, 1]);
        let plain = device.clone().inner();
        let float = |values: &[f32]| Tensor::<1>::from_floats(values, &plain);
        let solve = || {
            let logits = float(&predicted).reshape([rows, classes]);
            let logits = Tensor::from_inner(logits).require_grad();
            let labels = Tensor::<1, Int>::from_ints(labels.as_slice(), &plain);
            let loss = cross_entropy(logits.clone(), labels, float(&weights), divisor(&plain));
            let gradients = (loss.clone() * 2.0).backward();
            let gradient = logits.grad(&gradients).expect("it is tracked");
            let gradient: Vec<f32> = gradient.into_data().try_into_vec().expect("f32");
            (loss.into_scalar::<f32>(), gradient)
        };
        let (found, gradient) = solve();
        let mut wanted = 0.0;
        for (row, logits) in predicted.chunks(classes).enumerate() {
            let (label, weight) = (labels[row] as usize, f64::from(weights[row]));
            let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            wanted += weight * (total.ln() - f64::from(logits[label]));
            for (class, &x) in logits.iter().enumerate() {
                let one_hot = if class == label { 1.0 } else { 0.0 };
                let slope = 2.0 * weight * (f64::from(x).exp() / total - one_hot) / BY;
                let found = gradient[row * classes + class];
                assert!(
                    (f64::from(found) - slope).abs() < 2e-6,
                    "{found}, not {slope}"
                );
            }
        }
        let wanted = wanted / BY;
        let error = (f64::from(found) - wanted).abs() / wanted.max(1.0);
        assert!(error < 1e-5, "{rows} rows: {found}, not {wanted}");
        assert_eq!(solve(), (found, gradient));
    }
}

#[test]
fn cross_entropies_are_those_of_their_definition() {
    check_cross_entropy(&Device::flex().autodiff());
}

/// Weights by label are those of a list of zeros and ones.
fn check_weights_of_objects(device: &Device) {
    let sizes = [70, 3, 4];
    let Problem {
        predicted,
        labels,
        targets,
        ..
    } = Problem::new(sizes);
    let plain = device.clone().inner();
    let float = |values: &[f32]| Tensor::<1>::from_floats(values, &plain);
    let ones: Vec<f32> = labels.iter().map(|&label| f32::from(label > 0)).collect();
    let solve = |weights| {
        let predicted = Tensor::<3>::from_inner(float(&predicted).reshape(sizes)).require_grad();
        let labels = Tensor::<1, Int>::from_ints(labels.as_slice(), &plain);
        let targets = float(&targets).reshape([70, 4]);
        let found = class_loss(
            predicted.clone(),
            Some(labels),
            targets,
            weights,
            divisor(&plain),
            SMOOTH_L1,
        );
        let gradient = predicted.grad(&found.backward()).expect("it is tracked");
        let gradient: Vec<f32> = gradient.into_data().try_into_vec().expect("f32");
        (found.into_scalar::<f32>(), gradient)
    };
    assert_eq!(
        solve(RowWeights::OfObjects),
        solve(RowWeights::Given(float(&ones)))
    );
}

#[test]
fn weights_of_objects_are_ones_and_zeros() {
    check_weights_of_objects(&Device::flex().autodiff());
}
