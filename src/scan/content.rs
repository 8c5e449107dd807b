//! The bytes that are scanned, wherever they are.

use std::io;

/// Bytes that are read at any offset: a file of many GiB is never read as a whole.
pub(crate) trait ReadAt {
    /// Returns how many bytes there are.
    fn size(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on, and returns how many there were: fewer than
    /// asked for at the end alone.
    ///
    /// # Errors
    /// What the system says of the read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl ReadAt for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.len());
        let n = buffer.len().min(self.len() - start);
        buffer[..n].copy_from_slice(&self[start..start + n]);
        Ok(n)
    }
}

/// Returns the first bytes, at most `most`.
///
/// # Errors
/// What the system says of the read.
pub(crate) fn read_start(content: &dyn ReadAt, most: u64) -> io::Result<Vec<u8>> {
    let wanted = usize::try_from(content.size().min(most)).unwrap_or(0);
    let mut bytes = vec![0; wanted];
    let mut filled = 0;
    while filled < wanted {
        let n = content.read_at(filled as u64, &mut bytes[filled..])?;
        if n == 0 {
            break;
        }
        filled += n;
    }
    bytes.truncate(filled);
    Ok(bytes)
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.as_slice().size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.as_slice().read_at(offset, buffer)
    }
}
