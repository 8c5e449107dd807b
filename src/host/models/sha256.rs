//! Computes the SHA-256 of a whole file.

use std::fs::File;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::lock::Sha256Digest;

/// Bytes a read: measured, larger ones are no faster and push the data out of the processor's
/// cache.
pub(crate) const BLOCK: usize = 256 << 10;

/// A hash that grows with what is read or fetched.
#[derive(Clone, Default)]
pub(crate) struct Sha256Hasher {
    state: Sha256,
    pub bytes: u64,
}

impl Sha256Hasher {
    pub(crate) fn update(&mut self, data: &[u8]) {
        self.state.update(data);
        self.bytes += data.len() as u64;
    }

    pub(crate) fn sum(&self) -> Sha256Digest {
        Sha256Digest(self.state.clone().finalize().into())
    }
}

/// Whatever is left of a file. `tick` is told of every block.
///
/// # Errors
/// The file cannot be read, or comfy was interrupted ([`io::ErrorKind::Interrupted`]).
pub(crate) fn rest(
    mut file: &File,
    into: &mut Sha256Hasher,
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

/// The whole file, from its beginning.
///
/// # Errors
/// As [`rest`].
pub(crate) fn whole(mut file: &File, tick: &mut dyn FnMut(u64)) -> io::Result<(u64, Sha256Digest)> {
    io::Seek::rewind(&mut file)?;
    let mut hasher = Sha256Hasher::default();
    rest(file, &mut hasher, tick)?;
    Ok((hasher.bytes, hasher.sum()))
}
