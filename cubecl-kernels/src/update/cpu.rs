//! The loops of the updates. Every term is rounded as by Burn's operations, so both give the same bits.

use super::rates::{AdamwUpdate, ParamFactors, SgdUpdate};
use crate::cpu_conv::Output;
use crate::cpu_tasks::for_each_task;

/// Values per task.
const CHUNK: usize = 16 << 10;

/// Updates `[value, velocity]` in place.
pub fn sgd(update: &SgdUpdate, factors: ParamFactors, tensors: [&mut [f32]; 2], gradient: &[f32]) {
    let [decay, scale] = [factors.decay, factors.scale].map(|factor| factor as f32);
    let [rate, momentum] = [update.rate, update.momentum].map(|factor| factor as f32);
    in_chunks(tensors, gradient, |[value, velocity], gradient| {
        for ((value, velocity), gradient) in value.iter_mut().zip(velocity).zip(gradient) {
            *velocity = *velocity * momentum + (gradient * scale + *value * decay);
            *value -= *velocity * rate;
        }
    });
}

/// Updates `[value, first, second]` in place.
pub fn adamw(
    update: &AdamwUpdate,
    factors: ParamFactors,
    tensors: [&mut [f32]; 3],
    gradient: &[f32],
) {
    let [decay, scale] = [factors.decay, factors.scale].map(|factor| factor as f32);
    let [rate, epsilon] = [update.rate, update.epsilon].map(|factor| factor as f32);
    let [kept1, kept2] = update.betas.map(|beta| beta as f32);
    let [added1, added2] = update.betas.map(|beta| (1.0 - beta) as f32);
    let [correction1, correction2] = update.corrections().map(|correction| correction as f32);
    in_chunks(tensors, gradient, |[value, first, second], gradient| {
        let means = first.iter_mut().zip(second);
        for ((value, (first, second)), gradient) in value.iter_mut().zip(means).zip(gradient) {
            let gradient = gradient * scale;
            *first = *first * kept1 + gradient * added1;
            *second = *second * kept2 + gradient * gradient * added2;
            let root = (*second / correction2).sqrt() + epsilon;
            *value -= (*first / correction1 / root + *value * decay) * rate;
        }
    });
}

/// Calls `work` with the same range of all tensors, on several threads.
fn in_chunks<const N: usize>(
    tensors: [&mut [f32]; N],
    gradient: &[f32],
    work: impl Fn([&mut [f32]; N], &[f32]) + Sync + Send,
) {
    let len = gradient.len();
    for tensor in &tensors {
        assert_eq!(tensor.len(), len, "one gradient per value");
    }
    let tensors = tensors.map(Output::of);
    for_each_task(len.div_ceil(CHUNK), len, |task| {
        let range = task * CHUNK..((task + 1) * CHUNK).min(len);
        // SAFETY: one task per chunk.
        let parts = tensors
            .each_ref()
            .map(|tensor| unsafe { tensor.slice(range.start, range.len()) });
        work(parts, &gradient[range]);
    });
}
