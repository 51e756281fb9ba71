//! Gradients of weights and bias of which one or both are tracked.

use super::adapter;
use super::random::Random;
use super::{Case, Data, burns, floats};
use burn::tensor::{DType, Device, Tensor};
use mrcnn_kernels::conv3x3;

/// The gradients of weights and bias; empty for one that is not tracked.
fn parameter_gradients(
    case: &Case,
    data: &Data,
    device: &Device,
    tracked: [bool; 2],
) -> [Vec<f32>; 2] {
    let device = device.clone().autodiff();
    let options: (&Device, DType) = (&device, DType::F32);
    let x = Tensor::<4>::from_data(data.x.clone(), options);
    let mut weight = Tensor::<4>::from_data(data.weight.clone(), options);
    let mut bias = Tensor::<1>::from_data(data.bias.clone(), options);
    let grad = Tensor::<4>::from_data(data.grad.clone(), options);
    if tracked[0] {
        weight = weight.require_grad();
    }
    if tracked[1] {
        bias = bias.require_grad();
    }
    let output = conv3x3(
        x,
        weight.clone(),
        Some(bias.clone()),
        case.stride,
        case.relu,
    );
    let gradients = (output * grad).sum().backward();
    let of_weight = tracked[0].then(|| weight.grad(&gradients).map(floats).expect("tracked"));
    let of_bias = tracked[1].then(|| bias.grad(&gradients).map(floats).expect("tracked"));
    [of_weight, of_bias].map(Option::unwrap_or_default)
}

/// One operation computes both gradients, others compute one of them.
#[test]
fn a_gradient_does_not_depend_on_the_tracking_of_the_other() {
    let Some(adapter) = adapter::adapter() else {
        return;
    };
    let mut random = Random(6);
    for (stride, o) in [(1, 64), (2, 64), (1, 12), (2, 5)] {
        let case = Case {
            n: 2,
            c: 16,
            o,
            h: 33,
            w: 17,
            stride,
            bias: true,
            relu: true,
        };
        let data = case.data(|| random.whole(3));
        let [_, _, weight, bias] = burns(&case, &data);
        for tracked in [[true, true], [true, false], [false, true]] {
            let found = parameter_gradients(&case, &data, &adapter.device, tracked);
            let wanted = [(&weight, tracked[0]), (&bias, tracked[1])];
            let wanted = wanted.map(|(gradient, is_tracked)| match is_tracked {
                true => gradient.clone(),
                false => Vec::new(),
            });
            assert!(found == wanted, "{case:?}, tracked: {tracked:?}");
        }
    }
}
