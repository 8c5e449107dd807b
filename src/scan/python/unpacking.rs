//! Constants that are unpacked or decoded: zlib, gzip, bzip2, xz, base32, base85.

use std::io::Read;

use super::values::{LONGEST_TEXT, Value, What};

/// KiB of a decoder's memory.
const DECODER_MEMORY: u32 = 32 << 10;

/// Unpacks `value` as the function of that name does; None if it is not known or not unpackable.
pub(super) fn unpack_with(function: &str, value: &Value) -> Option<Value> {
    let data = value.alternatives().iter().find_map(|what| match what {
        What::Text(text, _) => Some(text.as_bytes().to_vec()),
        What::Bytes(bytes, _) => Some(bytes.to_vec()),
        _ => None,
    })?;
    let bytes = match function {
        "zlib.decompress" => start_of(flate2::read::ZlibDecoder::new(&data[..])),
        "gzip.decompress" => start_of(flate2::read::GzDecoder::new(&data[..])),
        "bz2.decompress" => start_of(bzip2::read::BzDecoder::new(&data[..])),
        "lzma.decompress" => start_of(lzma_rust2::XzReader::new_mem_limit(
            &data[..],
            true,
            DECODER_MEMORY,
        )),
        "base64.b32decode" => decode_base32(&data),
        "base64.b85decode" => decode_base85(&data),
        _ => None,
    }?;
    Some(Value::bytes(&bytes, true))
}

/// What comes out, up to the longest text that is kept.
fn start_of(reader: impl Read) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = LONGEST_TEXT as u64 + 1;
    reader.take(most).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= LONGEST_TEXT).then_some(bytes)
}

/// RFC 4648, section 6.
fn decode_base32(data: &[u8]) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut out) = (0_u32, 0_u64, Vec::new());
    for byte in data.iter().filter(|b| **b != b'=') {
        let digit = match byte.to_ascii_uppercase() {
            b @ b'A'..=b'Z' => b - b'A',
            b @ b'2'..=b'7' => b - b'2' + 26,
            _ => return None,
        };
        held = (held << 5 | u64::from(digit)) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(out)
}

/// Python's `base64.b85decode`, whose alphabet is git's.
fn decode_base85(data: &[u8]) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 85] =
        b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
    let mut out = Vec::new();
    for chunk in data.chunks(5) {
        let mut number = 0_u64;
        for at in 0..5 {
            let byte = chunk.get(at).unwrap_or(&b'~');
            let digit = ALPHABET.iter().position(|a| a == byte)?;
            number = number * 85 + digit as u64;
        }
        let bytes = u32::try_from(number).ok()?.to_be_bytes();
        out.extend(&bytes[..chunk.len().saturating_sub(1)]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_unpacked() {
        let text = |function: &str, data: &[u8]| {
            let value = unpack_with(function, &Value::bytes(data, false));
            value.and_then(|v| v.as_text()).map(|t| t.to_string())
        };
        let os = Some("import os".to_string());
        assert_eq!(text("base64.b32decode", b"NFWXA33SOQQG64Y="), os);
        assert_eq!(
            text("base64.b85decode", b"X>D+Ca&#bX"),
            Some("import o".into())
        );
        assert_eq!(text("base64.b85decode", b"X>D+C "), None);
        let zlib = b"x\x9c\xcb\xcc-\xc8/*Q\xc8/\x06\x00\x12\x87\x03\x9e";
        assert_eq!(text("zlib.decompress", zlib), os);
        assert_eq!(text("zlib.decompress", b"x"), None);
    }
}
