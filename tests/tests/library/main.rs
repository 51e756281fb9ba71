//! The library against torchvision's numbers, and against what a user may throw at it.

mod accumulate;
mod boxes;
mod coco_eval;
mod convert;
mod eval_mode;
mod kernels;
mod model;
mod overfit;
mod precision;
mod reads;
mod recipes;
mod replicas;
mod slot_step;
mod slots;
mod small;
mod stages;
mod survival;
mod train_step;
