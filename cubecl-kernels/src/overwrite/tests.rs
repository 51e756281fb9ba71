use super::overwrite;
use crate::test_gpu;
use burn::tensor::{Int, Tensor, TensorData};

/// Other tensors that share the buffer have the new values, too.
#[test]
fn shared_buffers_are_overwritten() {
    let Some((selected, _)) = test_gpu::open() else {
        return;
    };
    let device = &selected.device;
    let floats = |values: Vec<f32>| {
        let length = values.len();
        Tensor::<1>::from_data(TensorData::new(values, [length]), device)
    };
    let integers = |values: Vec<i32>| {
        let length = values.len();
        Tensor::<1, Int>::from_data(TensorData::new(values, [length]), device)
    };
    let targets = [floats(vec![0.0; 5000]), floats(vec![0.0; 3])];
    let words = integers(vec![0; 7]);
    let new = [
        floats(vec![2.5; 5000]),
        floats(vec![1.0, f32::INFINITY, -3.0]),
    ];
    let pairs = targets.clone().into_iter().zip(new.clone()).collect();
    let new_words = integers(vec![7, -1, i32::MIN, 3, 2, 1, i32::MAX]);
    let written = overwrite(pairs, vec![(words.clone(), new_words.clone())]);
    for (target, new) in targets.into_iter().zip(new) {
        assert_eq!(target.into_data(), new.into_data());
    }
    assert_eq!(words.into_data(), new_words.into_data());
    drop(written);
    device.sync().expect("the device works");
}
