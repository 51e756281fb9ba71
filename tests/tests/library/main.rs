//! The library against torchvision's numbers, and against what a user may throw at it.

mod accumulate;
mod augment;
mod boxes;
mod buckets;
mod coco_eval;
mod convert;
mod eval_mode;
mod formats;
mod found;
mod kernels;
mod layers;
mod model;
mod overfit;
mod own_data;
mod precision;
mod prediction;
mod ranks;
mod reads;
mod recipes;
mod replicas;
mod slot_step;
mod slots;
mod small;
mod stages;
mod survival;
mod train_step;
