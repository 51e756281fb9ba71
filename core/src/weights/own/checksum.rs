//! The checksum of the tensors of a file.

use std::fmt;

/// The key of the header's entry with the checksum of the tensors.
pub(super) const CHECKSUM: &str = "crc32c";

/// CRC-32C over names and bytes of tensors, in the order of their names.
#[derive(Default)]
pub(super) struct Checksum(u32);

impl Checksum {
    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, name.as_bytes());
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}
