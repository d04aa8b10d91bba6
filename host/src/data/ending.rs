//! Whether an image file goes on to its end marker. Decoders fill what is missing with grey.

/// Whether `bytes` begin as a JPEG or PNG file but stop before its end marker. What follows the marker does not count.
pub(super) fn is_truncated(bytes: &[u8]) -> bool {
    if let Some(segments) = bytes.strip_prefix(b"\xff\xd8") {
        jpeg_end(segments).is_none()
    } else if let Some(chunks) = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n") {
        png_end(chunks).is_none()
    } else {
        false
    }
}

/// Skips the segments, by their lengths, since one may hold a whole thumbnail, and the compressed data between them,
/// where 0xff is followed by 0, up to the marker EOI (ITU-T T.81, annex B).
fn jpeg_end(mut rest: &[u8]) -> Option<()> {
    loop {
        let marker = rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff))?;
        let code = rest[marker + 1];
        rest = &rest[marker + 2..];
        match code {
            0xd9 => return Some(()),
            // Without a segment: TEM, restarts, SOI.
            0x01 | 0xd0..=0xd8 => {}
            _ => rest = rest.get(usize::from(u16::from_be_bytes(*rest.first_chunk()?))..)?,
        }
    }
}

/// Skips the chunks up to IEND and its checksum.
fn png_end(mut rest: &[u8]) -> Option<()> {
    loop {
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let kind = rest.get(4..8)?;
        rest = rest.get(8..)?.get(length..)?.get(4..)?;
        if kind == b"IEND" {
            return Some(());
        }
    }
}
