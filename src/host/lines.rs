//! Reads lines from a process that must not fill the reader's memory.

use std::io::{BufRead, Error, ErrorKind, Read, Result};

/// The longest message between processes, in bytes.
pub(crate) const WORD: u64 = 64 << 10;
/// The longest request, in bytes.
pub(crate) const REQUEST: u64 = 16 << 20;

/// Reads the next line without its end, of at most `most` bytes; `None` at the end of `from`.
///
/// # Errors
/// If the line is longer or not UTF-8, or reading fails.
pub(crate) fn next_line(from: &mut impl BufRead, most: u64) -> Result<Option<String>> {
    let mut line = String::new();
    if from
        .by_ref()
        .take(most.saturating_add(1))
        .read_line(&mut line)?
        == 0
    {
        return Ok(None);
    }
    if line.len() as u64 > most {
        return Err(Error::new(
            ErrorKind::InvalidData,
            format!("a line is longer than {most} bytes"),
        ));
    }
    if line.ends_with('\n') {
        line.pop();
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_an_end_is_refused_before_it_fills_the_memory() {
        let mut endless = std::io::BufReader::new(std::io::repeat(b'x'));
        assert_eq!(
            next_line(&mut endless, WORD).unwrap_err().to_string(),
            "a line is longer than 65536 bytes"
        );
        let mut words = &b"stop\n12345\n\nlast"[..];
        let heard: Vec<_> = std::iter::from_fn(|| next_line(&mut words, 6).unwrap()).collect();
        assert_eq!(heard, ["stop", "12345", "", "last"]);
        assert!(
            next_line(&mut &b"123456\n"[..], 6).is_err()
                && next_line(&mut &b"\xff\n"[..], 6).is_err()
        );
    }
}
