use std::io::Write;

use super::*;

/// How an entry of a zip is written.
#[derive(Clone, Copy, Default)]
pub(super) struct Shape {
    pub deflate: bool,
    /// Sizes behind the bytes, as PyTorch writes them.
    pub behind: bool,
}

/// A zip as PyTorch's writer and Python's make it.
pub(super) fn zip(entries: &[(&str, &[u8])], shape: Shape) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let at = u32::try_from(out.len()).unwrap();
        let packed = if shape.deflate {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Default::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        } else {
            bytes.to_vec()
        };
        let mut sum = flate2::Crc::new();
        sum.update(bytes);
        let sizes = join(&[
            &sum.sum().to_le_bytes(),
            &u32::try_from(packed.len()).unwrap().to_le_bytes(),
            &u32::try_from(bytes.len()).unwrap().to_le_bytes(),
        ]);
        let flags: u16 = if shape.behind { 0x0808 } else { 0 };
        let method: u16 = if shape.deflate { 8 } else { 0 };
        let head = join(&[&flags.to_le_bytes(), &method.to_le_bytes(), &[0; 4]]);
        let length = u16::try_from(name.len()).unwrap().to_le_bytes();
        let own = if shape.behind {
            vec![0; 12]
        } else {
            sizes.clone()
        };
        // PyTorch fills up to 64 bytes with an extra field `FB`.
        let extra = if shape.behind {
            join(&[b"FB\x02\0ZZ"])
        } else {
            Vec::new()
        };
        let extra_length = u16::try_from(extra.len()).unwrap().to_le_bytes();
        out.extend(join(&[
            b"PK\x03\x04\x14\0",
            &head,
            &own,
            &length,
            &extra_length,
            name.as_bytes(),
            &extra,
            &packed,
        ]));
        if shape.behind {
            out.extend(join(&[b"PK\x07\x08", &sizes]));
        }
        directory.extend(join(&[
            b"PK\x01\x02\x14\0\x14\0",
            &head,
            &sizes,
            &length,
            &[0; 12],
            &at.to_le_bytes(),
            name.as_bytes(),
        ]));
    }
    let (at, size) = (out.len() as u64, directory.len() as u64);
    let count = entries.len() as u64;
    out.extend(&directory);
    if shape.behind {
        let wide = out.len() as u64;
        let counts = join(&[&count.to_le_bytes(), &count.to_le_bytes()]);
        out.extend(join(&[
            b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x1e\x03\x2d\0",
            &[0; 8],
            &counts,
            &size.to_le_bytes(),
            &at.to_le_bytes(),
        ]));
        out.extend(join(&[
            b"PK\x06\x07\0\0\0\0",
            &wide.to_le_bytes(),
            &[1, 0, 0, 0],
        ]));
    }
    let count = u16::try_from(count).unwrap().to_le_bytes();
    out.extend(join(&[
        b"PK\x05\x06\0\0\0\0",
        &count,
        &count,
        &u32::try_from(size).unwrap().to_le_bytes(),
        &u32::try_from(at).unwrap().to_le_bytes(),
        &[0, 0],
    ]));
    out
}

/// A checkpoint around a pickle.
pub(super) fn checkpoint(pickle: &[u8], shape: Shape) -> Vec<u8> {
    let entries: [(&str, &[u8]); 5] = [
        ("archive/data.pkl", pickle),
        ("archive/byteorder", b"little"),
        ("archive/data/0", &[0x3f; 16]),
        ("archive/data/1", &[0; 8]),
        ("archive/version", b"3\n"),
    ];
    zip(&entries, shape)
}

/// A checkpoint whose directory calls the pickle something else.
pub(super) fn renamed() -> Vec<u8> {
    let mut bytes = checkpoint(&payload(), Shape::default());
    let at = find(&bytes, b"archive/data.pkl", 1);
    bytes[at + 13..at + 16].copy_from_slice(b"txt");
    bytes
}

fn find(bytes: &[u8], what: &[u8], nth: usize) -> usize {
    let mut found = bytes
        .windows(what.len())
        .enumerate()
        .filter(|(_, w)| *w == what);
    found.nth(nth).unwrap().0
}

/// Changes one byte of the first entry of the directory.
fn patched(offset: usize, change: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut bytes = checkpoint(&state_dict(), Shape::default());
    let at = find(&bytes, b"PK\x01\x02", 0) + offset;
    bytes[at] = change(bytes[at]);
    bytes
}

pub(super) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in members {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
        header[156] = b'0';
        header[257..263].copy_from_slice(b"ustar\0");
        if let Some(target) = name.strip_prefix("link:") {
            header[156] = b'2';
            header[157..157 + target.len()].copy_from_slice(target.as_bytes());
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        out.extend(header);
        out.extend(*bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Default::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), Default::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// [`payload`] as xz(1) writes it, in both of its formats.
const XZ: &[u8] = b"\xfd\x37\x7a\x58\x5a\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x16\x00\x00\x00\x74\x2f\xe5\xa3\x01\x00\x1b\x80\x04\x63\x70\x6f\x73\x69\x78\x0a\x73\x79\x73\x74\x65\x6d\x0a\x58\x04\x00\x00\x00\x74\x72\x75\x65\x85\x52\x2e\x00\x79\x7c\xdb\xb6\xce\xaa\x6b\x22\x00\x01\x34\x1c\x93\x1a\xad\x8f\x1f\xb6\xf3\x7d\x01\x00\x00\x00\x00\x04\x59\x5a";
const LZMA: &[u8] = b"\x5d\x00\x00\x80\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00\x40\x01\x08\x03\xcb\x87\xe6\x0e\x3f\xc6\xdb\xa6\x62\x3a\xd0\xe0\x17\xa4\x13\x4d\x8b\xa6\xb5\x6d\xca\x09\x13\x2a\x4f\x1f\xdc\x40\xff\xff\xd1\x4b\x00\x00";

/// torch's files before 1.6: five pickles, then storages as they are.
pub(super) fn legacy() -> Vec<u8> {
    join(&[
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
        b"\x80\x02M\xe9\x03.",
        &pickle(b"}"),
        &state_dict(),
        &pickle(&join(&[b"](", &text("0"), &text("1"), b"e"])),
        &4_u64.to_le_bytes(),
        &[0x3f; 16],
        &2_u64.to_le_bytes(),
        &[0x3f; 8],
    ])
}

/// What is changed at random.
pub(super) fn samples() -> Vec<Vec<u8>> {
    let hidden = payload();
    let tar = tar(&[("a.pkl", &hidden), ("link:/etc/passwd", b"")]);
    vec![
        gzip(&tar),
        tar,
        zlib(&hidden),
        bzip2(&hidden),
        XZ.to_vec(),
        LZMA.to_vec(),
    ]
}

#[test]
fn what_tools_write_is_safe() {
    let dict = state_dict();
    let plain = pickle(b"}");
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("zip", checkpoint(&dict, Shape::default())),
        (
            "zip of PyTorch",
            checkpoint(
                &dict,
                Shape {
                    behind: true,
                    ..Shape::default()
                },
            ),
        ),
        (
            "zip with deflate",
            checkpoint(
                &dict,
                Shape {
                    deflate: true,
                    ..Shape::default()
                },
            ),
        ),
        (
            "zip that was written to a pipe",
            checkpoint(
                &dict,
                Shape {
                    deflate: true,
                    behind: true,
                },
            ),
        ),
        ("old torch file", legacy()),
        ("tar", tar(&[("a.pkl", &plain), ("weights", &[1; 700])])),
        ("gzip", gzip(&plain)),
        ("zlib", zlib(&plain)),
        ("bzip2", bzip2(&plain)),
        ("numbers in zlib", zlib(&[0; 100_000])),
        ("tar in gzip", gzip(&tar(&[("a.pkl", &plain)]))),
    ];
    for (name, bytes) in &files {
        assert_eq!(
            verdict(name, bytes),
            (Some(Verdict::Safe), String::new()),
            "{name}"
        );
    }
}

#[test]
fn what_an_archive_hides_is_found() {
    let hidden = payload();
    let plain = checkpoint(&state_dict(), Shape::default());
    let bad = checkpoint(&hidden, Shape::default());
    let no_directory = find(&bad, b"PK\x01\x02", 0);
    let entries: [(&str, &[u8]); 2] = [("a", &hidden), ("a", b"x")];
    let twice = zip(&entries, Shape::default());
    let mut gap = plain.clone();
    let directory = find(&gap, b"PK\x01\x02", 0);
    gap.splice(directory..directory, hidden.clone());
    let end = gap.len() - 6;
    let at = u32::from_le_bytes(gap[end..end + 4].try_into().unwrap()) + hidden.len() as u32;
    gap[end..end + 4].copy_from_slice(&at.to_le_bytes());
    let deep = (0..8).fold(gzip(&hidden), |inner, _| gzip(&inner));
    let bomb = zip(
        &[("archive/data/0", &vec![0; 20 << 20])],
        Shape {
            deflate: true,
            ..Shape::default()
        },
    );
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("zip", bad.clone()),
        (
            "zip of PyTorch",
            checkpoint(
                &hidden,
                Shape {
                    behind: true,
                    ..Shape::default()
                },
            ),
        ),
        (
            "zip with deflate",
            checkpoint(
                &hidden,
                Shape {
                    deflate: true,
                    ..Shape::default()
                },
            ),
        ),
        ("zip in a zip", zip(&[("inner", &bad)], Shape::default())),
        ("another name in the directory", renamed()),
        ("another size", patched(24, |b| b ^ 1)),
        ("another sum", patched(16, |b| b ^ 1)),
        ("another compression", patched(10, |_| 8)),
        ("an encrypted entry", patched(8, |b| b | 1)),
        ("no directory", bad[..no_directory].to_vec()),
        ("a name twice", twice),
        ("bytes before", join(&[b"more", &plain])),
        (
            "bytes before a picture's zip",
            join(&[b"\x89PNG\r\n\x1a\n", &bad]),
        ),
        ("bytes behind", join(&[&plain, b"more"])),
        ("bytes between", gap),
        (
            "an absolute name",
            zip(&[("/etc/x", b"x")], Shape::default()),
        ),
        (
            "a name that climbs",
            zip(&[("a/../../x", b"x")], Shape::default()),
        ),
        (
            "TorchScript",
            zip(
                &[
                    ("m/data.pkl", &pickle(b"N")),
                    ("m/code/__torch__.py", b"x = 1"),
                ],
                Shape::default(),
            ),
        ),
        (
            "a library",
            zip(&[("lib", b"\x7fELF\x02\x01\x01")], Shape::default()),
        ),
        ("a bomb", bomb),
        ("tar", tar(&[("a.pkl", &hidden)])),
        ("tar that climbs", tar(&[("../x", b"x")])),
        ("tar with a link", tar(&[("link:/etc/passwd", b"")])),
        (
            "tar with a pickle for a name",
            tar(&[("cposix\nsystem\n(S'true'\ntR.", b"x")]),
        ),
        (
            "tar with more behind",
            join(&[&tar(&[("a", b"x")]), &hidden]),
        ),
        ("gzip", gzip(&hidden)),
        ("zlib", zlib(&hidden)),
        (
            "zlib of an old joblib",
            join(&[b"ZF0x32               ", &zlib(&hidden)]),
        ),
        ("bzip2", bzip2(&hidden)),
        ("xz", XZ.to_vec()),
        ("lzma", LZMA.to_vec()),
        ("gzip that breaks off", gzip(&hidden)[..30].to_vec()),
        ("archives in archives", deep),
        ("7z", b"7z\xbc\xaf\x27\x1c\0\x04".to_vec()),
        ("Zstandard", b"\x28\xb5\x2f\xfd\0\0".to_vec()),
        ("bytes behind an old torch file", join(&[&legacy(), b"x"])),
    ];
    for (name, bytes) in &files {
        assert!(verdict(name, bytes).0 > Some(Verdict::Safe), "{name}");
    }
    insta::assert_snapshot!(verdicts(&files), @"
    zip: hostile !archive/data.pkl pickle-runs-code: loading it calls posix.system('true')
    zip of PyTorch: hostile !archive/data.pkl pickle-runs-code: loading it calls posix.system('true')
    zip with deflate: hostile !archive/data.pkl pickle-runs-code: loading it calls posix.system('true')
    zip in a zip: hostile !inner!archive/data.pkl pickle-runs-code: loading it calls posix.system('true')
    another name in the directory: hostile !archive/data.txt zip-headers-disagree: its name differs between the zip's directory and its own header: its own header says archive/data.pkl; !archive/data.txt pickle-runs-code: loading it calls posix.system('true')
    another size: hostile !archive/data.pkl zip-headers-disagree: its sizes or sums differ between the zip's directory and its own header; !archive/data.pkl zip-headers-disagree: it is stored as it is, in another size
    another sum: hostile !archive/data.pkl zip-headers-disagree: its sizes or sums differ between the zip's directory and its own header
    another compression: hostile !archive/data.pkl zip-headers-disagree: its compression differs between the zip's directory and its own header; !archive/data.pkl archive-unreadable: it cannot be unpacked to its end
    an encrypted entry: hostile !archive/data.pkl zip-headers-disagree: its flags differ between the zip's directory and its own header; !archive/data.pkl zip-odd-flags: its flags are 0x1
    no directory: hostile archive-unreadable: the zip has no directory at its end; !archive/data.pkl pickle-runs-code: loading it calls posix.system('true')
    a name twice: hostile !a pickle-runs-code: loading it calls posix.system('true');  zip-duplicate-name: the zip holds a twice
    bytes before: review zip-extra-bytes: 4 bytes before the zip belong to none of its entries
    bytes before a picture's zip: hostile zip-extra-bytes: 8 bytes before the zip belong to none of its entries; !archive/data.pkl pickle-runs-code: loading it calls posix.system('true')
    bytes behind: review zip-extra-bytes: 4 bytes behind the zip belong to none of its entries
    bytes between: hostile zip-extra-bytes: 28 bytes in the zip belong to no entry;  pickle-runs-code: loading it calls posix.system('true')
    an absolute name: hostile !/etc/x archive-escapes: /etc/x leads out of the archive's folder
    a name that climbs: hostile !a/../../x archive-escapes: a/../../x leads out of the archive's folder
    TorchScript: review !m/code/__torch__.py archive-holds-code: the archive holds code beside its data
    a library: review !lib archive-holds-code: the archive holds code beside its data
    a bomb: review !archive/data/0 archive-bomb: it grows from 20387 to 20971520 bytes
    tar: hostile !a.pkl pickle-runs-code: loading it calls posix.system('true')
    tar that climbs: hostile !../x archive-escapes: ../x leads out of the archive's folder
    tar with a link: hostile !link:/etc/passwd archive-escapes: it is a link to /etc/passwd
    tar with a pickle for a name: hostile pickle-runs-code: loading it calls posix.system('true');  trailing-bytes: 2022 bytes behind its pickles belong to nothing
    tar with more behind: hostile trailing-bytes: 28 bytes behind the tar belong to nothing;  pickle-runs-code: loading it calls posix.system('true')
    gzip: hostile pickle-runs-code: loading it calls posix.system('true')
    zlib: hostile pickle-runs-code: loading it calls posix.system('true')
    zlib of an old joblib: hostile pickle-runs-code: loading it calls posix.system('true')
    bzip2: hostile pickle-runs-code: loading it calls posix.system('true')
    xz: hostile pickle-runs-code: loading it calls posix.system('true')
    lzma: hostile pickle-runs-code: loading it calls posix.system('true')
    gzip that breaks off: hostile archive-unreadable: it cannot be unpacked to its end;  pickle-imports-code: loading it imports posix.system;  pickle-unreadable: the pickle cannot be read to its end: it ends too early
    archives in archives: review archive-too-deep: it holds archives inside of archives, 5 deep
    7z: review archive-unopened: comfy does not open 7z
    Zstandard: review archive-unopened: comfy does not open Zstandard
    bytes behind an old torch file: review trailing-bytes: 41 bytes behind its pickles belong to nothing
    ");
}
