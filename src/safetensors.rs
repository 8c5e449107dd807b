//! The header of a safetensors file: whether it is consistent, and the metadata in it.
//!
//! The format (huggingface/safetensors, README): eight bytes of length, JSON of that length, then
//! the tensors' bytes without gaps. Readers differ in what they let pass, so everything that two of
//! them could read differently is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// The format's own limit.
pub(crate) const MOST: u64 = 100_000_000;

/// What a header says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SafetensorsHeader {
    pub tensors: usize,
    /// Numbers in all of them.
    pub parameters: u64,
    /// How many tensors have each type.
    pub types: BTreeMap<String, usize>,
    /// Tensor names, to guess the kind of model.
    pub names: BTreeSet<String>,
    pub metadata: BTreeMap<String, String>,
}

/// Returns whether a file of this name is a safetensors file.
pub(crate) fn is_one(path: &str) -> bool {
    [".safetensors", ".sft"]
        .iter()
        .any(|e| path.to_ascii_lowercase().ends_with(e))
}

/// Returns the header's length, from the first eight bytes of a file of `size`.
///
/// # Errors
/// If it cannot be that long.
pub(crate) fn header_length(first: [u8; 8], size: u64) -> Result<u64, String> {
    let n = u64::from_le_bytes(first);
    if n > MOST || n.saturating_add(8) > size {
        return Err(format!(
            "its header would have {n} bytes, and the file has {size}"
        ));
    }
    Ok(n)
}

/// Reads a header; `size` is the whole file's.
///
/// # Errors
/// If the header is not valid.
pub(crate) fn parse_header(json: &[u8], size: u64) -> Result<SafetensorsHeader, String> {
    if json.first() != Some(&b'{') {
        return Err("its header does not begin with `{`".into());
    }
    let HeaderEntries::<HeaderEntry>(entries) = serde_json::from_slice(json)
        .map_err(|e| format!("readers would not agree on its header: {e}"))?;
    let room = size - 8 - json.len() as u64;
    let mut header = SafetensorsHeader::default();
    let mut spans = Vec::new();
    for (name, value) in entries {
        let shown = crate::text::escape_text(&name);
        let t = match value {
            HeaderEntry::Metadata(m) => {
                header.metadata = m.0.into_iter().collect();
                continue;
            }
            HeaderEntry::Tensor(t) => t,
        };
        let (begin, end) = t.data_offsets;
        let numbers = t
            .shape
            .iter()
            .try_fold(1_u64, |n, d| n.checked_mul(*d))
            .ok_or_else(|| format!("tensor \"{shown}\" is impossibly large"))?;
        let bits = bits_per_element(&t.dtype).ok_or_else(|| {
            format!(
                "tensor \"{shown}\" is of an unknown type {}",
                crate::text::escape_text(&t.dtype)
            )
        })?;
        let bytes = numbers
            .checked_mul(bits)
            .filter(|b| b % 8 == 0)
            .map(|b| b / 8);
        if begin > end || end > room || bytes != Some(end - begin) {
            return Err(format!(
                "tensor \"{shown}\" is at {begin} to {end} of {room} bytes, which does not fit \
                 its shape"
            ));
        }
        spans.push((begin, end, shown));
        header.tensors += 1;
        header.parameters = header.parameters.saturating_add(numbers);
        *header.types.entry(t.dtype).or_default() += 1;
        header.names.insert(name);
    }
    spans.sort();
    let mut at = 0;
    for (begin, end, shown) in spans {
        if begin != at {
            return Err(format!(
                "tensor \"{shown}\" {} the one before it",
                if begin < at {
                    "overlaps"
                } else {
                    "leaves a gap behind"
                }
            ));
        }
        at = end;
    }
    if at != room {
        return Err(format!(
            "{} bytes at its end belong to no tensor",
            room - at
        ));
    }
    Ok(header)
}

#[derive(Deserialize)]
struct TensorEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Bits a number takes (safetensors, `Dtype`).
fn bits_per_element(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" | "F8_E4M3FNUZ"
        | "F8_E5M2FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "F64" | "I64" | "U64" | "C64" => 64,
        _ => return None,
    })
}

/// An object without duplicate keys: with duplicates, each reader would choose the first or the
/// last.
struct HeaderEntries<V>(Vec<(String, V)>);

/// What a header's object holds.
enum HeaderEntry {
    Metadata(HeaderEntries<String>),
    Tensor(TensorEntry),
}

/// How the value of a key is read.
trait HeaderValue<'de>: Sized {
    fn read_value<A: MapAccess<'de>>(key: &str, map: &mut A) -> Result<Self, A::Error>;
}

impl<'de> HeaderValue<'de> for String {
    fn read_value<A: MapAccess<'de>>(_: &str, map: &mut A) -> Result<String, A::Error> {
        map.next_value()
    }
}

impl<'de> HeaderValue<'de> for HeaderEntry {
    fn read_value<A: MapAccess<'de>>(key: &str, map: &mut A) -> Result<HeaderEntry, A::Error> {
        if key == "__metadata__" {
            map.next_value().map(HeaderEntry::Metadata)
        } else {
            map.next_value().map(HeaderEntry::Tensor)
        }
    }
}

impl<'de, V: HeaderValue<'de>> Deserialize<'de> for HeaderEntries<V> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<HeaderEntries<V>, D::Error> {
        struct UniqueMap<V>(PhantomData<V>);
        impl<'de, V: HeaderValue<'de>> Visitor<'de> for UniqueMap<V> {
            type Value = HeaderEntries<V>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<HeaderEntries<V>, A::Error> {
                let (mut out, mut seen) = (Vec::new(), BTreeSet::new());
                while let Some(key) = map.next_key::<String>()? {
                    if !seen.insert(key.clone()) {
                        return Err(serde::de::Error::custom(format!(
                            "\"{}\" exists twice",
                            crate::text::escape_text(&key)
                        )));
                    }
                    let value = V::read_value(&key, &mut map)?;
                    out.push((key, value));
                }
                Ok(HeaderEntries(out))
            }
        }
        d.deserialize_map(UniqueMap(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_could_disagree_on_is_refused() {
        let check = |json: &str, data: u64| {
            parse_header(json.as_bytes(), 8 + json.len() as u64 + data)
                .map(|h| format!("{} {} {:?}", h.tensors, h.parameters, h.metadata))
        };
        let a = r#""a":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]}"#;
        let b = r#""b":{"dtype":"I8","shape":[4],"data_offsets":[8,12]}"#;
        let table = [
            (
                "good",
                format!(r#"{{"__metadata__":{{"k":"v"}},{a},{b}}}"#),
                12,
            ),
            ("spaces at the end", format!("{{{a}}}   "), 8),
            ("a name twice", format!("{{{a},{a}}}"), 8),
            ("bytes at the end", format!("{{{a}}}"), 9),
            ("cut short", format!("{{{a}}}"), 7),
            (
                "overlap",
                format!("{{{a},{}}}", b.replace("[8,12]", "[7,11]")),
                12,
            ),
            (
                "a gap",
                format!("{{{a},{}}}", b.replace("[8,12]", "[9,13]")),
                13,
            ),
            (
                "another shape",
                format!("{{{}}}", a.replace("[2,2]", "[2,3]")),
                8,
            ),
            (
                "an overflow",
                format!("{{{}}}", a.replace("[2,2]", "[9223372036854775807,4]")),
                8,
            ),
            (
                "an unknown type",
                format!("{{{}}}", a.replace("F16", "Q4")),
                8,
            ),
            (
                "metadata of numbers",
                r#"{"__metadata__":{"k":1}}"#.to_string(),
                0,
            ),
            (
                "a type twice",
                format!(
                    "{{{}}}",
                    a.replace("\"shape\"", "\"dtype\":\"F16\",\"shape\"")
                ),
                8,
            ),
            (
                "metadata twice",
                r#"{"__metadata__":{"k":"1","k":"2"}}"#.to_string(),
                0,
            ),
            ("no JSON", "{\"a\"".into(), 0),
            ("a list", "[]".into(), 0),
        ];
        let rows: Vec<String> = table
            .into_iter()
            .map(|(what, json, data)| {
                format!(
                    "{what}: {}",
                    check(&json, data).unwrap_or_else(|e| format!("refused, {e}"))
                )
            })
            .collect();
        insta::assert_snapshot!(rows.join("\n"), @r#"
        good: 2 8 {"k": "v"}
        spaces at the end: 1 4 {}
        a name twice: refused, readers would not agree on its header: "a" exists twice at line 1 column 59
        bytes at the end: refused, 1 bytes at its end belong to no tensor
        cut short: refused, tensor "a" is at 0 to 8 of 7 bytes, which does not fit its shape
        overlap: refused, tensor "b" overlaps the one before it
        a gap: refused, tensor "b" leaves a gap behind the one before it
        another shape: refused, tensor "a" is at 0 to 8 of 8 bytes, which does not fit its shape
        an overflow: refused, tensor "a" is impossibly large
        an unknown type: refused, tensor "a" is of an unknown type Q4
        metadata of numbers: refused, readers would not agree on its header: invalid type: integer `1`, expected a string at line 1 column 22
        a type twice: refused, readers would not agree on its header: duplicate field `dtype` at line 1 column 27
        metadata twice: refused, readers would not agree on its header: "k" exists twice at line 1 column 28
        no JSON: refused, readers would not agree on its header: EOF while parsing an object at line 1 column 4
        a list: refused, its header does not begin with `{`
        "#);
        assert!(
            header_length(u64::MAX.to_le_bytes(), 100).is_err()
                && header_length(93_u64.to_le_bytes(), 100).is_err()
        );
        assert_eq!(header_length(92_u64.to_le_bytes(), 100), Ok(92));
    }
}
