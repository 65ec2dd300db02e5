//! What a picture file is and how large, read from its first bytes: a file can
//! promise more pixels than memory holds, so this is asked before decoding.

/// Bytes that are looked at: enough for the metadata that cameras put before
/// the size of a JPEG.
pub(super) const HEAD: usize = 512 * 1024;

/// Formats that people have and browsers do not read, with what to do.
pub(super) fn unsupported(head: &[u8]) -> Option<&'static str> {
    if head.get(4..8) == Some(b"ftyp") {
        return match head.get(8..12)? {
            b"avif" | b"avis" => None,
            b"heic" | b"heix" | b"mif1" | b"msf1" | b"hevc" | b"heim" | b"heis" => Some(
                "this is a HEIC picture, which browsers do not read: export it as JPEG or PNG (on \
                 an iPhone: Settings, Camera, Formats, Most Compatible)",
            ),
            _ => Some("this is a video: take a still picture from it"),
        };
    }
    if head.starts_with(b"%PDF") {
        return Some("this is a PDF document: export the page as PNG or JPEG");
    }
    if head.starts_with(b"II*\0") || head.starts_with(b"MM\0*") {
        return Some(
            "this is a TIFF or a camera's raw picture, which browsers do not read: export it as \
             JPEG or PNG",
        );
    }
    let start = String::from_utf8_lossy(head.get(..512).unwrap_or(head)).to_lowercase();
    start
        .contains("<svg")
        .then_some("this is an SVG drawing, which is not supported: export it as PNG")
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Width and height, where the first bytes tell them.
pub(super) fn size(head: &[u8]) -> Option<(u32, u32)> {
    if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        let side = |at| number(head, at).map(u32::from_be_bytes);
        return Some((side(16)?, side(20)?));
    }
    if head.starts_with(b"GIF8") {
        let side = |at| number(head, at).map(|b| u32::from(u16::from_le_bytes(b)));
        return Some((side(6)?, side(8)?));
    }
    if head.starts_with(b"BM") {
        let side = |at| number(head, at).map(|b| i32::from_le_bytes(b).unsigned_abs());
        return Some((side(18)?, side(22)?));
    }
    if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") {
        return webp_size(head);
    }
    head.starts_with(&[0xff, 0xd8])
        .then(|| jpeg_size(head))
        .flatten()
}

/// The canvas of an extended WebP, which is the only kind that can be larger
/// than 16383 pixels on a side.
fn webp_size(head: &[u8]) -> Option<(u32, u32)> {
    (head.get(12..16) == Some(b"VP8X")).then_some(())?;
    let side = |at| {
        let [a, b, c] = number(head, at)?;
        Some(u32::from_le_bytes([a, b, c, 0]) + 1)
    };
    Some((side(24)?, side(27)?))
}

/// Walks the segments of a JPEG up to its frame header.
fn jpeg_size(head: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    loop {
        let [mark, kind] = number(head, at)?;
        if mark != 0xff {
            return None;
        }
        // Fill bytes and markers without a body.
        if kind == 0xff {
            at += 1;
            continue;
        }
        let frame = matches!(kind, 0xc0..=0xcf) && !matches!(kind, 0xc4 | 0xc8 | 0xcc);
        let side = |at| number(head, at).map(|b| u32::from(u16::from_be_bytes(b)));
        if frame {
            return Some((side(at + 7)?, side(at + 5)?));
        }
        at += 2 + side(at + 2)? as usize;
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test]
    fn sizes_are_read_before_decoding() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        png.extend([0, 0, 0x9c, 0x40, 0, 0, 0, 7]);
        assert_eq!(size(&png), Some((40_000, 7)));
        assert_eq!(size(b"GIF89a\x05\0\x01\x01"), Some((5, 257)));
        let mut webp = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0".to_vec();
        webp.extend([0xff, 0xff, 0, 1, 0, 0]);
        assert_eq!(size(&webp), Some((65_536, 2)));
        // APP0 of 4 bytes, then SOF2 of 3 rows and 260 columns.
        let jpeg = [
            0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xc2, 0, 11, 8, 0, 3, 1, 4,
        ];
        assert_eq!(size(&jpeg), Some((260, 3)));
        assert_eq!(size(b"hello, this is a text"), None);
        assert_eq!(size(&[0xff, 0xd8, 0xff, 0xe0, 0xff]), None);
    }

    #[wasm_bindgen_test]
    fn what_browsers_do_not_read_is_told_by_name() {
        let told = |head: &[u8], word| unsupported(head).is_some_and(|text| text.contains(word));
        assert!(told(b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"));
        assert!(told(b"\0\0\0\x18ftypmp42\0\0\0\0", "video"));
        assert!(told(b"<?xml?><SVG xmlns=''></SVG>", "SVG"));
        assert!(told(b"MM\0*....", "TIFF"));
        assert_eq!(unsupported(b"\0\0\0\x18ftypavif\0\0\0\0"), None);
    }
}
