//! The library against torchvision's numbers, and against what a user may throw at it.

mod boxes;
mod coco_eval;
mod convert;
mod eval_mode;
mod kernels;
mod model;
mod overfit;
mod recipes;
mod replicas;
mod slots;
mod small;
mod stages;
mod survival;
mod train_step;
