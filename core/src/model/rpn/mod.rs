//! Region proposal network: its head, and proposals from its output.

pub(crate) mod head;
pub(crate) mod proposals;
