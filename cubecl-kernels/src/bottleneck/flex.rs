//! The bottleneck on the CPU, for tests.

use super::BottleneckOps;
use burn::backend::Flex;

impl BottleneckOps for Flex {}
