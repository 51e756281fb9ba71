//! Region proposal network: its head, and proposals from its output.

pub(crate) mod cache;
pub(crate) mod head;
pub(crate) mod proposals;
#[cfg(feature = "train")]
mod sampled;
#[cfg(feature = "train")]
mod windows;
