//! Lines and columns of a text, whatever the length of its lines.

/// Bytes of a block whose characters are counted in advance: a column costs no more than one of
/// them, on a line of megabytes too.
const BLOCK: usize = 1024;

/// Where the lines of a text start, and how many characters come before each block of it.
#[derive(Debug)]
pub(crate) struct LineTable {
    starts: Vec<usize>,
    /// Empty where every byte is a character.
    characters: Vec<usize>,
    length: usize,
}

impl LineTable {
    /// Lines end in LF.
    pub(crate) fn of_text(text: &str) -> LineTable {
        let ends = memchr::memchr_iter(b'\n', text.as_bytes());
        LineTable::new(text, std::iter::once(0).chain(ends.map(|at| at + 1)))
    }

    /// Lines end as Python's do: in LF, CR or both.
    pub(crate) fn of_python(text: &str) -> LineTable {
        let bytes = text.as_bytes();
        let ends = memchr::memchr2_iter(b'\n', b'\r', bytes)
            .filter(|at| bytes[*at] != b'\r' || bytes.get(at + 1) != Some(&b'\n'));
        LineTable::new(text, std::iter::once(0).chain(ends.map(|at| at + 1)))
    }

    fn new(text: &str, starts: impl Iterator<Item = usize>) -> LineTable {
        let mut characters = Vec::new();
        if !text.is_ascii() {
            let mut before = 0;
            for block in text.as_bytes().chunks(BLOCK) {
                characters.push(before);
                before += count_characters(block);
            }
            characters.push(before);
        }
        LineTable {
            starts: starts.collect(),
            characters,
            length: text.len(),
        }
    }

    /// The line that holds `offset`, from 0.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        let after = self.starts.partition_point(|start| *start <= offset);
        after.saturating_sub(1)
    }

    /// The bytes of a line, its end among them.
    pub(crate) fn range_of(&self, line: usize) -> std::ops::Range<usize> {
        let start = self.starts.get(line).copied().unwrap_or(self.length);
        start..self.starts.get(line + 1).copied().unwrap_or(self.length)
    }

    /// The characters of `text` between the start of its line and `offset`. `text` is that which
    /// the table was made of.
    pub(crate) fn characters_before(&self, text: &str, offset: usize) -> usize {
        let offset = offset.min(self.length);
        let start = self.range_of(self.line_of(offset)).start;
        self.characters_up_to(text, offset) - self.characters_up_to(text, start)
    }

    fn characters_up_to(&self, text: &str, offset: usize) -> usize {
        let block = offset / BLOCK;
        match self.characters.get(block) {
            Some(before) => {
                let rest = text.as_bytes().get(block * BLOCK..offset);
                before + count_characters(rest.unwrap_or_default())
            }
            None => offset,
        }
    }
}

/// Bytes that begin a character in UTF-8.
fn count_characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_the_same_as_when_characters_are_counted_one_by_one() {
        let long = "aé€🦀".repeat(700);
        for text in [
            "",
            "a\nb\r\n\rc",
            &format!("{long}\n{long}\r\n\u{2028}{long}"),
            &"x = 1\n".repeat(3000),
        ] {
            let table = LineTable::of_text(text);
            for (offset, _) in text.char_indices() {
                let before = &text[..offset];
                let start = before.rfind('\n').map_or(0, |at| at + 1);
                assert_eq!(table.line_of(offset), before.matches('\n').count());
                let characters = text[start..offset].chars().count();
                assert_eq!(table.characters_before(text, offset), characters);
            }
        }
        let text = "a\r\nb\rc\n";
        let table = LineTable::of_python(text);
        let lines: Vec<&str> = (0..4).map(|n| &text[table.range_of(n)]).collect();
        assert_eq!(lines, ["a\r\n", "b\r", "c\n", ""]);
    }
}
