//! Protobuf fields and checksums of TensorFlow files.

/// The masked CRC32C of tables and records.
pub fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// A protobuf integer.
pub fn field(tag: u8, value: u64) -> Vec<u8> {
    let mut bytes = vec![tag << 3];
    bytes.extend(varint(value));
    bytes
}

/// A protobuf message within another.
pub fn message(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag << 3 | 2];
    bytes.extend(varint(content.len() as u64));
    bytes.extend(content);
    bytes
}

/// A varint: seven bits per byte, lowest bits first.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
