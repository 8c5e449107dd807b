//! Computes what a whole file holds: its SHA-256, and its BLAKE3 where that is wanted too.

use std::fs::File;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::lock::{Blake3Digest, FileDigests, Sha256Digest};

/// Bytes a read: measured, larger ones are no faster and push the data out of the processor's
/// cache.
pub(crate) const BLOCK: usize = 256 << 10;

/// Hashes that grow with what is read or fetched, in one pass over the bytes.
#[derive(Clone, Default)]
pub(crate) struct ContentHasher {
    sha256: Sha256,
    blake3: Option<Box<blake3::Hasher>>,
    pub bytes: u64,
}

impl ContentHasher {
    /// SHA-256 alone, which is what decides whether a file is the one that is pinned.
    pub(crate) fn sha256() -> ContentHasher {
        ContentHasher::default()
    }

    /// BLAKE3 too, for what becomes a pin.
    pub(crate) fn with_blake3() -> ContentHasher {
        ContentHasher {
            blake3: Some(Box::default()),
            ..ContentHasher::default()
        }
    }

    /// For a file that is pinned to this hash, or that is about to be pinned.
    pub(crate) fn for_pin(pinned: Option<Sha256Digest>) -> ContentHasher {
        match pinned {
            Some(_) => ContentHasher::sha256(),
            None => ContentHasher::with_blake3(),
        }
    }

    /// One of the same kind that has read nothing.
    pub(crate) fn start_again(&self) -> ContentHasher {
        match self.blake3 {
            Some(_) => ContentHasher::with_blake3(),
            None => ContentHasher::sha256(),
        }
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        self.sha256.update(data);
        if let Some(blake3) = &mut self.blake3 {
            blake3.update(data);
        }
        self.bytes += data.len() as u64;
    }

    pub(crate) fn digests(&self) -> FileDigests {
        let blake3 = self.blake3.as_ref();
        FileDigests {
            sha256: Sha256Digest(self.sha256.clone().finalize().into()),
            blake3: blake3.map(|h| Blake3Digest(*h.finalize().as_bytes())),
        }
    }
}

/// Whatever is left of a file. `tick` is told of every block.
///
/// # Errors
/// The file cannot be read, or comfy was interrupted ([`io::ErrorKind::Interrupted`]).
pub(crate) fn rest(
    mut file: &File,
    into: &mut ContentHasher,
    tick: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    loop {
        let n = match file.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        into.update(&block[..n]);
        tick(n as u64);
        if crate::host::signals::is_interrupted() {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
}

/// The whole file, from its beginning, read by `hasher`: its size in bytes, and its hashes.
///
/// # Errors
/// As [`rest`].
pub(crate) fn whole(
    mut file: &File,
    mut hasher: ContentHasher,
    tick: &mut dyn FnMut(u64),
) -> io::Result<(u64, FileDigests)> {
    io::Seek::rewind(&mut file)?;
    rest(file, &mut hasher, tick)?;
    Ok((hasher.bytes, hasher.digests()))
}
