//! The checksum of model files, written apart from the library.

/// Where a model file holds its checksum.
pub const CHECKSUM: std::ops::Range<usize> = 20..24;

/// CRC-32 of each byte.
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0usize;
    while i < 8 * 256 {
        let crc = if i.is_multiple_of(8) { i as u32 / 8 } else { table[i / 8] };
        table[i / 8] = (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        i += 1;
    }
    table
};

fn checksum<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(!0, |crc, byte| (crc >> 8) ^ CRC[(crc as u8 ^ byte) as usize])
}

/// Puts the checksum of a model file right after a change.
pub fn fix_checksum(file: &mut [u8]) {
    if file.len() >= CHECKSUM.end {
        let value = checksum(file[..CHECKSUM.start].iter().chain(&file[CHECKSUM.end..]));
        file[CHECKSUM].copy_from_slice(&value.to_le_bytes());
    }
}
