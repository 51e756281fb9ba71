//! The masked CRC-32C of TensorFlow files.

/// The masked CRC-32C of `bytes`, little-endian.
pub fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    let crc = crc32c::crc32c(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}
