//! Filters what a shell inside the sandbox sends to the owner's terminal: colours, cursor and keys
//! pass, as for every program in a terminal; clipboard, title, answers of the program's own
//! choosing and printer do not (ECMA-48; xterm, "Control Sequences").

/// Passes bytes on as they come, without what is not allowed. It knows UTF-8, in which a control of
/// two bytes can hide.
#[derive(Debug, Default)]
pub(crate) struct ShellScreen {
    state: ParserState,
    /// An incomplete sequence, or the first bytes of a character.
    held: Vec<u8>,
    /// The number of bytes that this character still lacks.
    lacking: u8,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ParserState {
    #[default]
    Text,
    Escape,
    /// A control sequence: parameters, then one letter.
    Sequence,
    /// Which letters are shown: ASCII, or lines.
    Letters(u8),
    /// A string for the terminal itself, which is dropped up to its end.
    Dropped(bool),
}

/// Longer sequences have no meaning.
const LONGEST: usize = 64;

impl ShellScreen {
    /// Returns those of the bytes that may go to the terminal.
    pub(crate) fn filter_bytes(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        bytes.iter().for_each(|b| self.push_byte(*b, &mut out));
        out
    }

    fn push_byte(&mut self, b: u8, out: &mut Vec<u8>) {
        match self.state {
            ParserState::Text => self.push_text(b, out),
            ParserState::Escape => self.push_escape(b, out),
            ParserState::Sequence => self.push_sequence(b, out),
            ParserState::Letters(which) => {
                self.state = ParserState::Text;
                match b {
                    b'0' | b'A' | b'B' => out.extend([0x1b, which, b]),
                    _ => self.push_text(b, out),
                }
            }
            // BEL, or ESC and a backslash, ends it; CAN and SUB abort it.
            ParserState::Dropped(_) if matches!(b, 0x07 | 0x18 | 0x1a) => {
                self.state = ParserState::Text
            }
            ParserState::Dropped(true) if b == b'\\' => self.state = ParserState::Text,
            ParserState::Dropped(_) => self.state = ParserState::Dropped(b == 0x1b),
        }
    }

    fn push_text(&mut self, b: u8, out: &mut Vec<u8>) {
        if self.lacking > 0 && (0x80..0xc0).contains(&b) {
            self.held.push(b);
            self.lacking -= 1;
            if self.lacking == 0 {
                let character = std::mem::take(&mut self.held);
                match character.as_slice() {
                    // The same controls as ESC and a letter, as one character of Unicode.
                    [0xc2, c @ 0x80..0xa0] => self.push_escape(c - 0x40, out),
                    _ if std::str::from_utf8(&character).is_ok() => out.extend(character),
                    _ => out.push(b'?'),
                }
            }
            return;
        }
        if self.lacking > 0 {
            self.lacking = 0;
            self.held.clear();
            out.push(b'?');
        }
        match b {
            0x1b => self.state = ParserState::Escape,
            // ENQ: the terminal would answer with a text that somebody has set.
            0x05 => {}
            0x00..0x80 => out.push(b),
            0xc2..0xe0 => self.begin_char(b, 1),
            0xe0..0xf0 => self.begin_char(b, 2),
            0xf0..0xf5 => self.begin_char(b, 3),
            _ => out.push(b'?'),
        }
    }

    fn begin_char(&mut self, b: u8, lacking: u8) {
        (self.held, self.lacking) = (vec![b], lacking);
    }

    fn push_escape(&mut self, b: u8, out: &mut Vec<u8>) {
        self.state = ParserState::Text;
        match b {
            b'[' => {
                self.held.clear();
                self.state = ParserState::Sequence;
            }
            // OSC, DCS, SOS, PM, APC; titles and messages of screen(1).
            b']' | b'P' | b'X' | b'^' | b'_' | b'k' | b'!' => {
                self.state = ParserState::Dropped(false)
            }
            0x1b => self.state = ParserState::Escape,
            b'(' | b')' => self.state = ParserState::Letters(b),
            // Save and restore the cursor, lines, tabulators, keys, full reset.
            b'7' | b'8' | b'D' | b'E' | b'H' | b'M' | b'=' | b'>' | b'c' => out.extend([0x1b, b]),
            // Anything else, such as another encoding (%) or a question for the terminal's name
            // (Z).
            0x20..0x7f => {}
            _ => self.push_text(b, out),
        }
    }

    fn push_sequence(&mut self, b: u8, out: &mut Vec<u8>) {
        match b {
            0x20..0x40 if self.held.len() < LONGEST => self.held.push(b),
            0x40..0x7f => {
                self.state = ParserState::Text;
                let held = std::mem::take(&mut self.held);
                // Windows and titles (t) and the printer (i) are dropped. A sequence with an
                // intermediate byte asks for more than a picture, such as a checksum of the screen,
                // so it is dropped too, except for the cursor's shape and a soft reset.
                let intermediate = held.iter().any(|c| (0x20..0x30).contains(c));
                let fine = !intermediate
                    || (b == b'q' && held.ends_with(b" "))
                    || (b == b'p' && held == b"!");
                if !matches!(b, b't' | b'i') && fine {
                    out.extend([0x1b, b'[']);
                    out.extend(held);
                    out.push(b);
                }
            }
            _ => {
                self.held.clear();
                self.state = ParserState::Text;
                self.push_text(b, out);
            }
        }
    }
}

/// Undoes what a program may have left on: alternate screen, hidden cursor, mouse and paste
/// reports, colours.
pub(crate) const RESTORE: &[u8] = b"\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[?9l\x1b[?1005l\x1b[?1015l\x1b[>4m\x1b[<u\x1b[!p\x1b(B\x0f\x1b>\x1b[?1l\x1b[?6l\x1b[?7h\x1b[4l\x1b[r\x1b[?25h\x1b[0m";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_inside_draws_and_does_not_reach_behind_the_screen() {
        let cases: &[(&str, &[u8])] = &[
            ("colours", b"\x1b[1;31mred\x1b[0m"),
            ("cursor", b"a\x1b[2J\x1b[10;20Hb\x1b[?25l"),
            ("letters", "ä€😀".as_bytes()),
            ("a title", b"a\x1b]0;evil\x07b"),
            ("the clipboard", b"a\x1b]52;c;ZXZpbA==\x1b\\b"),
            ("a link", b"\x1b]8;;http://evil\x1b\\text\x1b]8;;\x1b\\"),
            ("a device's string", b"a\x1bP$qm\x1b\\b"),
            (
                "the same as one character",
                b"a\xc2\x9d0;evil\x07b\xc2\x9b31mc",
            ),
            ("half a character, then a title", b"a\xc2\x1b]0;evil\x07b"),
            ("stray bytes", b"a\x9d0;evil\x07b\xff"),
            ("who are you", b"a\x05\x1bZb"),
            ("move the window, print", b"a\x1b[21tb\x1b[5ic"),
            (
                "an endless sequence",
                b"a\x1b[1111111111222222222233333333334444444444555555555566666666667777777mb",
            ),
            (
                "lines, another encoding, a title of screen's",
                b"\x1b(0lqk\x1b(Ba\x1b%@b\x1bkevil\x1b\\c\x1b!evil\x1b\\d",
            ),
            (
                "what stands on the screen",
                b"a\x1b[1;1;1;1;1;1*yb\x1b[2 qc",
            ),
            ("a sequence in a sequence", b"a\x1b[3\x1b]0;evil\x07b"),
        ];
        let told = cases.iter().map(|(what, bytes)| {
            let whole = ShellScreen::default().filter_bytes(bytes);
            let mut one = ShellScreen::default();
            let single: Vec<u8> = bytes.iter().flat_map(|b| one.filter_bytes(&[*b])).collect();
            assert_eq!(whole, single, "{what}: the same in pieces");
            format!("{what}: {}", whole.escape_ascii())
        });
        insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @r"
        colours: \x1b[1;31mred\x1b[0m
        cursor: a\x1b[2J\x1b[10;20Hb\x1b[?25l
        letters: \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80
        a title: ab
        the clipboard: ab
        a link: text
        a device's string: ab
        the same as one character: ab\x1b[31mc
        half a character, then a title: a?b
        stray bytes: a?0;evil\x07b?
        who are you: ab
        move the window, print: abc
        an endless sequence: a777mb
        lines, another encoding, a title of screen's: \x1b(0lqk\x1b(Ba@bcd
        what stands on the screen: ab\x1b[2 qc
        a sequence in a sequence: ab
        ");
    }
}
