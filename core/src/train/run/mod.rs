//! A training run: setup, loop, checkpoints, evaluation, report.

pub(crate) mod builder;
pub(crate) mod checkpoint;
pub(crate) mod dump;
pub(crate) mod failure;
pub(crate) mod folder;
pub(crate) mod handout;
mod left_out;
mod lock;
pub(crate) mod memory_plan;
pub(crate) mod report;
pub(crate) mod setup;
pub(crate) mod state;
pub(crate) mod step;
pub(crate) mod trainer;
pub(crate) mod training_loop;
pub(crate) mod val_loss;
