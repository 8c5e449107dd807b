//! Numbers, texts and bytes, in the forms of six protocols.

use std::borrow::Cow;

use super::super::window::Fault;
use super::machine::Machine;
use super::value::Value;

/// Bytes of a text that are read; the others are passed over.
const READ_TEXT: u64 = 4096;
/// A line of protocol 0; texts of models are shorter.
pub(super) const LONGEST_LINE: usize = 1 << 20;

impl Machine<'_> {
    /// Reads the operand of an opcode that pushes it; None for every other opcode.
    pub(super) fn literal(&mut self, opcode: u8) -> Result<Option<Value>, Fault> {
        let value = match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(self.input.byte()?.into()),
            b'M' => Value::Int(self.input.u16()?.into()),
            b'J' => Value::Int(i32::from_le_bytes(self.input.array()?).into()),
            b'G' => {
                self.input.skip(8)?;
                Value::Number
            }
            b'I' | b'L' | b'F' => self.number_text(opcode)?,
            0x8a => {
                let length = self.input.byte()?;
                self.long(length.into())?
            }
            0x8b => {
                let length = i32::from_le_bytes(self.input.array()?);
                match u64::try_from(length) {
                    Ok(length) => self.long(length)?,
                    Err(_) => return Fault::broken("a number has a negative length"),
                }
            }
            b'S' => self.quoted_line()?,
            b'V' => {
                let line = self.input.line(LONGEST_LINE)?;
                self.heap.add_text(&unescape(&latin(&line), false))?
            }
            b'U' | 0x8c => {
                let length = self.input.byte()?;
                self.text(length.into())?
            }
            b'X' => {
                let length = self.input.u32()?;
                self.text(length.into())?
            }
            b'T' => {
                let length = i32::from_le_bytes(self.input.array()?);
                match u64::try_from(length) {
                    Ok(length) => self.text(length)?,
                    Err(_) => return Fault::broken("a text has a negative length"),
                }
            }
            0x8d => {
                let length = self.input.u64()?;
                self.text(length)?
            }
            b'C' => {
                let length = self.input.byte()?;
                self.bytes(length.into())?
            }
            b'B' => {
                let length = self.input.u32()?;
                self.bytes(length.into())?
            }
            0x8e | 0x96 => {
                let length = self.input.u64()?;
                self.bytes(length)?
            }
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    fn long(&mut self, length: u64) -> Result<Value, Fault> {
        if length > 8 {
            self.input.skip(length)?;
            return Ok(Value::Number);
        }
        let bytes = self.input.take(length as usize)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut whole = if negative { [0xff; 8] } else { [0; 8] };
        whole[..bytes.len()].copy_from_slice(bytes);
        Ok(Value::Int(i64::from_le_bytes(whole)))
    }

    fn text(&mut self, length: u64) -> Result<Value, Fault> {
        if length > self.input.left() {
            return Fault::broken("a text in it is cut off");
        }
        let read = self.input.take(length.min(READ_TEXT) as usize)?.to_vec();
        self.input.skip(length.saturating_sub(READ_TEXT))?;
        // A byte of Python 2's strings may be no UTF-8; such a text names nothing.
        Ok(self.heap.add_text(&String::from_utf8_lossy(&read))?)
    }

    fn bytes(&mut self, length: u64) -> Result<Value, Fault> {
        let at = self.input.offset();
        if length > self.input.left() {
            return Fault::broken("bytes in it are cut off");
        }
        self.input.skip(length)?;
        Ok(self.heap.add_bytes(at, length)?)
    }

    /// A number in text: `I42`, `I01`, `L42L`, `F4.2`.
    fn number_text(&mut self, opcode: u8) -> Result<Value, Fault> {
        let line = self.input.line(LONGEST_LINE)?;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        match (opcode, text) {
            (b'I', "00") => return Ok(Value::Bool(false)),
            (b'I', "01") => return Ok(Value::Bool(true)),
            _ => {}
        }
        if opcode == b'F' {
            return match text.parse::<f64>() {
                Ok(_) => Ok(Value::Number),
                Err(_) => Fault::broken("a number in it is none"),
            };
        }
        let digits = text.strip_suffix('L').unwrap_or(text);
        let plain = digits.strip_prefix(['-', '+']).unwrap_or(digits);
        if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_digit()) {
            return Fault::broken("a number in it is none");
        }
        Ok(digits.parse().map_or(Value::Number, Value::Int))
    }

    /// The line of a decimal number.
    pub(super) fn number_line(&mut self) -> Result<u64, Fault> {
        let line = self.input.line(64)?;
        let text = String::from_utf8_lossy(&line);
        match text.parse() {
            Ok(number) => Ok(number),
            Err(_) => Fault::broken("a place of its memo is no number"),
        }
    }

    /// `S'…'`, with Python's escapes.
    fn quoted_line(&mut self) -> Result<Value, Fault> {
        let line = self.input.line(LONGEST_LINE)?;
        let text = latin(&line);
        let text = text.trim_end();
        let inner = ['\'', '"']
            .iter()
            .find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q));
        match inner {
            Some(inner) => Ok(self.heap.add_text(&unescape(inner, true))?),
            None => Fault::broken("a text in it has no quotes"),
        }
    }
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

/// Resolves Python's escapes: all of a string's (`\n`, `\x41`, `\101`), or `\u0041` and
/// `\U00000041` alone.
fn unescape(text: &str, all: bool) -> Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(kind) = rest.chars().next() else {
            out.push('\\');
            break;
        };
        let after = &rest[kind.len_utf8()..];
        let hex = |n: usize| {
            after
                .get(..n)
                .and_then(|h| u32::from_str_radix(h, 16).ok())
                .map(|c| (char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER), n))
        };
        let simple = match kind {
            'n' => Some('\n'),
            't' => Some('\t'),
            'r' => Some('\r'),
            '\\' | '\'' | '"' => Some(kind),
            _ => None,
        };
        let (c, taken) = match kind {
            'u' if !all => hex(4).unwrap_or(('u', 0)),
            'U' if !all => hex(8).unwrap_or(('U', 0)),
            'x' if all => hex(2).unwrap_or(('x', 0)),
            '0'..='7' if all => {
                let digits = rest
                    .bytes()
                    .take(3)
                    .take_while(|b| matches!(b, b'0'..=b'7'));
                let digits = digits.count();
                let code = u32::from_str_radix(&rest[..digits], 8).unwrap_or(0);
                let c = char::from_u32(code & 0xff).unwrap_or(char::REPLACEMENT_CHARACTER);
                (c, digits - 1)
            }
            _ if all && simple.is_some() => (simple.unwrap_or(kind), 0),
            _ => {
                out.push('\\');
                (kind, 0)
            }
        };
        out.push(c);
        rest = &after[taken..];
    }
    out.push_str(rest);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn escapes_are_those_of_python() {
        let strings = [r"os", r"\x6fs", r"\157s", r"a\\n\n", r"\q", r"\x4", "\\"];
        let texts = [r"\u006fs", r"\U0000006fs", r"\x6f", r"\u00"];
        let rows: Vec<String> = strings
            .iter()
            .map(|s| format!("{s} {:?}", unescape(s, true)))
            .chain(
                texts
                    .iter()
                    .map(|s| format!("V {s} {:?}", unescape(s, false))),
            )
            .collect();
        insta::assert_snapshot!(rows.join("\n"), @r#"
        os "os"
        \x6fs "os"
        \157s "os"
        a\\n\n "a\\n\n"
        \q "\\q"
        \x4 "x4"
        \ "\\"
        V \u006fs "os"
        V \U0000006fs "os"
        V \x6f "\\x6f"
        V \u00 "u00"
        "#);
    }
}
