//! The bottleneck on GPUs.

use super::BottleneckOps;
use burn_cubecl::CubeBackend;

impl BottleneckOps for CubeBackend {}
