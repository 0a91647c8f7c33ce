//! The pixels of a PNG file, without the text that ComfyUI writes beside them.

use anyhow::{Result, bail};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Size, format and pixel data. Text chunks hold the prompt, which differs by our nodes.
///
/// One server compresses equal pixels to equal bytes, so equal chunks are equal images; two
/// servers do too, being the same program.
pub(super) fn pixels(file: &[u8]) -> Result<Vec<u8>> {
    let Some(mut rest) = file.strip_prefix(SIGNATURE) else { bail!("the image is not a PNG file") };
    let mut pixels = Vec::new();
    let mut has_data = false;
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, kind @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d]))?;
        let (Some(body), Some(next)) = (after.get(..length), after.get(length + 4..)) else {
            bail!("the PNG file is cut off")
        };
        if matches!(&kind, b"IHDR" | b"PLTE" | b"tRNS" | b"IDAT") {
            pixels.extend_from_slice(&kind);
            pixels.extend_from_slice(body);
        }
        has_data |= &kind == b"IDAT";
        rest = next;
    }
    if !has_data {
        bail!("the PNG file holds no pixels");
    }
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut file = SIGNATURE.to_vec();
        for (kind, body) in chunks {
            file.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
            file.extend_from_slice(*kind);
            file.extend_from_slice(body);
            file.extend_from_slice(b"crc!");
        }
        file
    }

    #[test]
    fn only_pixels_count() {
        let one = png(&[(b"IHDR", b"4x4"), (b"tEXt", b"prompt one"), (b"IDAT", b"pixels")]);
        let two = png(&[(b"IHDR", b"4x4"), (b"IDAT", b"pixels"), (b"IEND", b"")]);
        let other = png(&[(b"IHDR", b"4x4"), (b"IDAT", b"pixel!")]);
        assert_eq!(pixels(&one).unwrap(), pixels(&two).unwrap());
        assert_ne!(pixels(&one).unwrap(), pixels(&other).unwrap());
    }

    #[test]
    fn a_file_that_is_no_image_is_refused() {
        assert!(pixels(b"").is_err());
        assert!(pixels(&png(&[(b"IHDR", b"4x4")])).is_err());
        let whole = png(&[(b"IHDR", b"4x4"), (b"IDAT", b"pixels")]);
        assert!(pixels(&whole[..whole.len() - 6]).is_err());
    }
}
