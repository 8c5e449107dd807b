//! Files that are changed at random: nothing panics, nothing takes long, nothing takes much memory.
//!
//! `COMFY_FUZZ_SECONDS=300 cargo test --release --lib scan::model_file::tests::mutations --
//! --ignored --nocapture`; `COMFY_FUZZ_FORMAT=pickle` (zip, safetensors, gguf, other) for one of
//! them. Without the variable each has one second.

use std::time::{Duration, Instant};

use super::*;

/// xorshift64*: the same files for the same seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() >> 16) as usize % most.max(1)
    }
}

/// Opcodes, magic numbers and numbers at the edges.
const WORDS: &[&[u8]] = &[
    b"\x80\x04",
    b"cos\nsystem\n",
    b"cbuiltins\nset\n",
    b"(",
    b"t",
    b"R",
    b"o",
    b"\x81",
    b"\x92",
    b"b",
    b"0",
    b"1",
    b"2",
    b"}",
    b"]",
    b")",
    b"a",
    b"e",
    b"s",
    b"u",
    b"\x93",
    b"\x94",
    b"h\0",
    b"q\0",
    b"j\0\0\0\0",
    b"\x8c\x01a",
    b"X\x01\0\0\0a",
    b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
    b"B\xff\xff\xff\x7f",
    b"\x8b\xff\xff\xff\xff",
    b"Q",
    b"P\n",
    b"\x82\x01",
    b"\x85",
    b"\x86",
    b"\x90",
    b"\x91",
    b"\x8f",
    b".",
    b"PK\x01\x02",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"PK\x06\x06",
    b"PK\x06\x07",
    b"PK\x07\x08",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\0\0\0\0\0\0\0\x80",
    b"GGUF",
    b"\x08\0\0\0",
    b"\x09\0\0\0",
    b"{\"",
    b"[0,4]",
    b"data_offsets",
    b"18446744073709551615",
    b"\\u001b",
    b"'|O'",
    b"((((",
];

fn change(chance: &mut Chance, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[chance.below(seeds.len())].clone();
    for _ in 0..=chance.below(6) {
        let at = chance.below(bytes.len() + 1);
        match chance.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            1 if at < bytes.len() => bytes[at] = chance.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let other = &seeds[chance.below(seeds.len())];
                let from = chance.below(other.len());
                let until = (from + chance.below(64)).min(other.len());
                bytes.splice(at..at, other[from..until].to_vec());
            }
            4 => {
                let until = (at + chance.below(16)).min(bytes.len());
                bytes.drain(at..until);
            }
            5 => {
                let word = WORDS[chance.below(WORDS.len())];
                let until = (at + word.len()).min(bytes.len());
                bytes.splice(at..until, word.to_vec());
            }
            _ => {
                let word = WORDS[chance.below(WORDS.len())];
                bytes.splice(at..at, word.to_vec());
            }
        }
    }
    bytes
}

fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let dict = state_dict();
    let plain = archives::Shape::default();
    let behind = archives::Shape {
        behind: true,
        ..plain
    };
    let deflate = archives::Shape {
        deflate: true,
        ..plain
    };
    vec![
        (
            "pickle",
            [
                pickles::samples(),
                evasions::samples(),
                vec![dict.clone(), archives::legacy()],
            ]
            .concat(),
        ),
        (
            "zip",
            vec![
                archives::checkpoint(&dict, plain),
                archives::checkpoint(&dict, behind),
                archives::checkpoint(&dict, deflate),
                archives::zip(&[("a", &archives::checkpoint(&payload(), plain))], plain),
            ],
        ),
        ("safetensors", formats::safetensors_samples()),
        ("gguf", formats::gguf_samples()),
        ("other", [formats::samples(), archives::samples()].concat()),
    ]
}

#[test]
#[ignore = "takes as long as it is told to"]
#[expect(clippy::disallowed_methods, reason = "how long is said by hand")]
fn no_change_of_a_file_breaks_its_reader() {
    let seconds = std::env::var("COMFY_FUZZ_SECONDS").map_or(1, |s| s.parse().unwrap());
    let only = std::env::var("COMFY_FUZZ_FORMAT").ok();
    for (name, seeds) in seeds() {
        if only.as_deref().is_some_and(|o| o != name) {
            continue;
        }
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15 ^ seconds);
        let (mut runs, mut slowest, mut slow) = (0_u64, Duration::ZERO, Vec::new());
        while Instant::now() < end {
            let bytes = change(&mut chance, &seeds);
            let begin = Instant::now();
            let kept = bytes.clone();
            let done = std::panic::catch_unwind(|| verdict("m", &bytes));
            assert!(
                done.is_ok(),
                "{name}: {:?}",
                kept.escape_ascii().to_string()
            );
            if begin.elapsed() > slowest {
                slowest = begin.elapsed();
                slow = kept;
            }
            runs += 1;
        }
        let slow = slow.escape_ascii().to_string();
        let row = format!(
            "{name}: {runs} files, the slowest {slowest:?} ({} bytes)\n",
            slow.len()
        );
        std::io::Write::write_all(&mut std::io::stderr(), row.as_bytes()).unwrap();
        assert!(slowest < Duration::from_secs(10), "{name}: {slow}");
    }
}

/// Every file that is a seed is cut off at every length: a reader that trusts a length would panic.
#[test]
fn files_that_are_cut_off_anywhere_are_read() {
    for (_, seeds) in seeds() {
        for seed in seeds.iter().filter(|s| s.len() < 2000) {
            for length in 0..seed.len() {
                verdict("m", &seed[..length]);
            }
        }
    }
}
