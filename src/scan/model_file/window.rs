//! Bytes read forward, a window at a time, so that a file of many GiB costs what is looked at.

use std::io;

use super::super::content::ReadAt;

/// Bytes that are read first; a window that goes on grows to [`LARGEST`].
const SMALLEST: usize = 4 << 10;
const LARGEST: usize = 256 << 10;

/// Why reading ended.
#[derive(Debug)]
pub(super) enum Fault {
    /// The system could not read.
    Io(io::Error),
    /// The bytes are not what they should be.
    Broken(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

impl Fault {
    pub(super) fn broken<T>(why: impl Into<String>) -> Result<T, Fault> {
        Err(Fault::Broken(why.into()))
    }

    /// Separates what is wrong with the bytes from what the system says.
    pub(super) fn split<T>(result: Result<T, Fault>) -> io::Result<Result<T, String>> {
        match result {
            Ok(value) => Ok(Ok(value)),
            Err(Fault::Broken(why)) => Ok(Err(why)),
            Err(Fault::Io(error)) => Err(error),
        }
    }
}

/// Reads forward, and can be moved.
pub(super) struct Window<'a> {
    content: &'a dyn ReadAt,
    size: u64,
    buffer: Vec<u8>,
    /// Where the buffer's first byte is.
    start: u64,
    /// Where the next byte is.
    at: u64,
    /// Bytes that the next read asks for.
    ahead: usize,
}

impl<'a> Window<'a> {
    pub(super) fn new(content: &'a dyn ReadAt, at: u64) -> Window<'a> {
        Window {
            content,
            size: content.size(),
            buffer: Vec::new(),
            start: at,
            at,
            ahead: SMALLEST,
        }
    }

    pub(super) fn offset(&self) -> u64 {
        self.at
    }

    pub(super) fn left(&self) -> u64 {
        self.size.saturating_sub(self.at)
    }

    /// Returns the next `n` bytes.
    pub(super) fn take(&mut self, n: usize) -> Result<&[u8], Fault> {
        if n as u64 > self.left() {
            return Fault::broken("it ends too early");
        }
        let inside = usize::try_from(self.at - self.start).unwrap_or(usize::MAX);
        let inside = if inside.saturating_add(n) <= self.buffer.len() {
            inside
        } else {
            self.fill(n)?;
            0
        };
        self.at += n as u64;
        Ok(&self.buffer[inside..inside + n])
    }

    fn fill(&mut self, n: usize) -> Result<(), Fault> {
        self.buffer.resize(n.max(self.ahead), 0);
        self.ahead = (self.ahead * 2).min(LARGEST);
        self.start = self.at;
        let mut have = 0;
        while have < n {
            let got = self
                .content
                .read_at(self.at + have as u64, &mut self.buffer[have..])?;
            if got == 0 {
                self.buffer.clear();
                return Fault::broken("it ends too early");
            }
            have += got;
        }
        self.buffer.truncate(have);
        Ok(())
    }

    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        self.take(1).map(|b| b[0])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    /// Passes over `n` bytes, which must exist.
    pub(super) fn skip(&mut self, n: u64) -> Result<(), Fault> {
        if n > self.left() {
            return Fault::broken("it ends too early");
        }
        self.at += n;
        if self.at - self.start > self.buffer.len() as u64 {
            self.restart();
        }
        Ok(())
    }

    fn restart(&mut self) {
        self.buffer.clear();
        self.start = self.at;
        self.ahead = SMALLEST;
    }

    /// Returns a line without its end, of at most `most` bytes.
    pub(super) fn line(&mut self, most: usize) -> Result<Vec<u8>, Fault> {
        let mut out = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Ok(out),
                _ if out.len() >= most => return Fault::broken("a line in it is too long"),
                b => out.push(b),
            }
        }
    }
}

/// A part of other bytes.
pub(super) struct Part<'a> {
    content: &'a dyn ReadAt,
    start: u64,
    length: u64,
}

impl<'a> Part<'a> {
    /// The part from `start` on; what lies behind the end of `content` is left out.
    pub(super) fn new(content: &'a dyn ReadAt, start: u64, length: u64) -> Part<'a> {
        let room = content.size().saturating_sub(start);
        Part {
            content,
            start,
            length: length.min(room),
        }
    }

    pub(super) fn after(content: &'a dyn ReadAt, start: u64) -> Part<'a> {
        Part::new(content, start, u64::MAX)
    }
}

impl ReadAt for Part<'_> {
    fn size(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(offset);
        let n = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        if n == 0 {
            return Ok(0);
        }
        self.content.read_at(self.start + offset, &mut buffer[..n])
    }
}

/// `std::io::Read` over a part, for decoders.
pub(super) struct Reader<'a> {
    pub(super) content: &'a dyn ReadAt,
    pub(super) at: u64,
}

impl io::Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.content.read_at(self.at, buffer)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Reads up to `most` bytes from `at` on.
pub(super) fn read_some(content: &dyn ReadAt, at: u64, most: usize) -> io::Result<Vec<u8>> {
    let left = usize::try_from(content.size().saturating_sub(at)).unwrap_or(usize::MAX);
    let mut out = vec![0; most.min(left)];
    let mut have = 0;
    while have < out.len() {
        match content.read_at(at + have as u64, &mut out[have..])? {
            0 => break,
            n => have += n,
        }
    }
    out.truncate(have);
    Ok(out)
}
