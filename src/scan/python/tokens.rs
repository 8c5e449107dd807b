//! What the tokens of a source show before anything is understood: depth, hidden places, odd names.

use std::collections::BTreeSet;

use ruff_python_ast::token::{Token, TokenKind};
use ruff_python_parser::{Mode, lexer};
use ruff_text_size::Ranged;
use unicode_normalization::UnicodeNormalization as _;

use super::rules::{carriers, intent, obfuscation};
use super::source::{Hit, offset_of};

/// CPython gives up at some thousands of nested expressions, and at a hundred of blocks
/// (`MAXSTACK` in Parser/pegen.c, `MAXINDENT` in Parser/tokenizer.h).
const DEEPEST: usize = 3000;
const MOST_BLOCKS: usize = 110;
/// Blanks in a line that hide what follows.
const HIDING_BLANKS: usize = 80;
const HIDDEN_FROM: usize = 150;
/// A text of so many characters of base64 or hex is a blob.
const BLOB: usize = 2000;

/// Whether expressions or blocks are nested so deeply that a parser may not survive it.
pub(super) fn is_too_deep(text: &str) -> bool {
    let mut lexer = lexer::lex(text, Mode::Module);
    // For each open bracket, the operators since the last comma.
    let mut open: Vec<usize> = vec![0];
    let mut depth = 0;
    let mut blocks = 0;
    loop {
        match lexer.next_token() {
            TokenKind::EndOfFile => return false,
            TokenKind::Newline => {
                open.clear();
                open.push(0);
                depth = 0;
            }
            TokenKind::Indent => blocks += 1,
            TokenKind::Dedent => blocks = usize::saturating_sub(blocks, 1),
            TokenKind::Lpar
            | TokenKind::Lsqb
            | TokenKind::Lbrace
            | TokenKind::FStringStart
            | TokenKind::TStringStart => {
                open.push(1);
                depth += 1;
            }
            TokenKind::Rpar
            | TokenKind::Rsqb
            | TokenKind::Rbrace
            | TokenKind::FStringEnd
            | TokenKind::TStringEnd => {
                if open.len() > 1 {
                    depth -= open.pop().unwrap_or(0);
                }
                // `f()()()` is deep as well.
                if let Some(last) = open.last_mut() {
                    *last += 1;
                    depth += 1;
                }
            }
            TokenKind::Comma | TokenKind::Semi => {
                if let Some(last) = open.last_mut() {
                    depth -= *last;
                    *last = 0;
                }
            }
            TokenKind::Name
            | TokenKind::String
            | TokenKind::Int
            | TokenKind::Float
            | TokenKind::Comment
            | TokenKind::NonLogicalNewline
            | TokenKind::FStringMiddle
            | TokenKind::TStringMiddle => {}
            _ => {
                if let Some(last) = open.last_mut() {
                    *last += 1;
                    depth += 1;
                }
            }
        }
        if depth > DEEPEST || blocks > MOST_BLOCKS {
            return true;
        }
    }
}

/// What is odd about the tokens.
pub(super) fn judge_tokens(text: &str, tokens: &[Token]) -> Vec<(u32, Hit)> {
    let mut odd = Vec::new();
    hidden_columns(text, tokens, &mut odd);
    let mut mangled: BTreeSet<&str> = BTreeSet::new();
    let mut first_mangled = None;
    let mut lookalike = false;
    let mut blob = false;
    for token in tokens {
        let range = token.range();
        match token.kind() {
            TokenKind::Name => {
                let name = text.get(range.to_std_range()).unwrap_or("");
                if is_mangled(name) {
                    mangled.insert(name);
                    first_mangled.get_or_insert(offset_of(range.start()));
                }
                if !lookalike
                    && !name.is_ascii()
                    && let Some(message) = looks_like_another(name)
                {
                    lookalike = true;
                    odd.push((
                        offset_of(range.start()),
                        Hit::of(&obfuscation::PY_LOOKALIKE_NAME, message),
                    ));
                }
            }
            TokenKind::String | TokenKind::FStringMiddle
                if intent::names_a_pool(text.get(range.to_std_range()).unwrap_or("")) =>
            {
                let hit = Hit::of(&intent::PY_MINER, "A pool of miners of coins is named.");
                odd.push((offset_of(range.start()), hit));
            }
            TokenKind::String if !blob && range.len().to_usize() > BLOB => {
                let literal = text.get(range.to_std_range()).unwrap_or("");
                if is_blob(literal) {
                    blob = true;
                    let message = format!("A text of {} characters is encoded.", literal.len());
                    odd.push((
                        offset_of(range.start()),
                        Hit::of(&obfuscation::PY_ENCODED_BLOB, message),
                    ));
                }
            }
            _ => {}
        }
    }
    if let (Some(offset), 3..) = (first_mangled, mangled.len()) {
        let message = format!(
            "{} names are made so that nobody can read them.",
            mangled.len()
        );
        odd.push((offset, Hit::of(&obfuscation::PY_MANGLED_NAMES, message)));
    }
    odd
}

fn hidden_columns(text: &str, tokens: &[Token], odd: &mut Vec<(u32, Hit)>) {
    let blanks = " ".repeat(HIDING_BLANKS);
    let ends = memchr::memchr2_iter(b'\n', b'\r', text.as_bytes()).map(|at| at + 1);
    let mut line_start = 0;
    for end in ends.chain([text.len()]) {
        let (start, line) = (line_start, &text[line_start..end]);
        line_start = end;
        if line.len() < HIDDEN_FROM {
            continue;
        }
        let flat = line.replace('\t', " ");
        let Some(at) = flat.find(&blanks) else {
            continue;
        };
        let after = flat[at..].trim_start_matches(' ');
        let column = flat.len() - after.len();
        let code = after.trim_end();
        if column < HIDDEN_FROM
            || code.is_empty()
            || code.starts_with('#')
            || code.starts_with('\\')
        {
            continue;
        }
        let offset = start + column;
        let index = tokens.partition_point(|t| t.range().end().to_usize() <= offset);
        let inside = tokens.get(index).is_some_and(|t| {
            t.range().start().to_usize() < offset
                && matches!(
                    t.kind(),
                    TokenKind::String
                        | TokenKind::FStringMiddle
                        | TokenKind::TStringMiddle
                        | TokenKind::Comment
                )
        });
        if !inside {
            let message = format!("Code stands at column {}, after many blanks.", column + 1);
            let offset = u32::try_from(offset).unwrap_or(u32::MAX);
            odd.push((offset, Hit::of(&carriers::PY_HIDDEN_COLUMN, message)));
        }
    }
}

fn is_mangled(name: &str) -> bool {
    let only = |set: &str| name.chars().all(|c| set.contains(c));
    let mixed = |a: char, b: char| name.contains(a) && name.contains(b);
    name.len() >= 8
        && (only("O0o") && mixed('O', '0')
            || only("Il1") && mixed('I', 'l')
            || only("_")
            || only("XW") && mixed('X', 'W')
            || only("S2") && mixed('S', '2')
            || only("MN") && mixed('M', 'N'))
        || name.starts_with("_0x")
            && name.len() >= 7
            && name[3..].chars().all(|c| c.is_ascii_hexdigit())
}

/// Why a name that is not ASCII is odd, if it is.
fn looks_like_another(name: &str) -> Option<String> {
    let usual: String = name.nfkc().collect();
    // Subscripts and the like are honest in formulas; words in other letters are not.
    let words = usual.is_ascii() && name.chars().filter(|c| !c.is_ascii()).any(|c| {
        matches!(c, '\u{ff01}'..='\u{ff5e}' | '\u{1d400}'..='\u{1d7ff}' | '\u{2100}'..='\u{214f}' | '\u{249c}'..='\u{24e9}' | '\u{1f100}'..='\u{1f1ff}')
    });
    if words && usual.len() > 1 {
        return Some(format!(
            "The name is `{usual}` to Python, and is written with other letters."
        ));
    }
    let latin = name.chars().any(|c| c.is_ascii_alphabetic());
    let cyrillic = name.chars().any(|c| matches!(c, '\u{400}'..='\u{4ff}'));
    let greek = name.chars().any(|c| {
        matches!(
            c,
            'ο' | 'ν'
                | 'ι'
                | 'Α'
                | 'Β'
                | 'Ε'
                | 'Ζ'
                | 'Η'
                | 'Ι'
                | 'Κ'
                | 'Μ'
                | 'Ν'
                | 'Ο'
                | 'Ρ'
                | 'Τ'
                | 'Υ'
                | 'Χ'
        )
    });
    let joined = !name.contains('_');
    (latin && (cyrillic || greek && joined && name.chars().count() > 3))
        .then(|| "The name mixes letters of two alphabets that look alike.".to_string())
}

fn is_blob(literal: &str) -> bool {
    let inner = literal
        .trim_start_matches(['b', 'r', 'B', 'R', 'u'])
        .trim_matches(['"', '\'']);
    let good = |b: &u8| {
        b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_' | b'\n' | b'\\')
    };
    let count = inner.as_bytes().iter().filter(|b| good(b)).count();
    let words = inner.as_bytes().iter().filter(|b| **b == b' ').count();
    count * 100 >= inner.len() * 98 && words * 200 < inner.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_told_before_it_is_parsed() {
        assert!(is_too_deep(&format!(
            "x = {}1{}",
            "(".repeat(5000),
            ")".repeat(5000)
        )));
        assert!(is_too_deep(&format!("x = {}1", "-".repeat(200_000))));
        assert!(is_too_deep(&format!("x = a{}", ".b".repeat(5000))));
        assert!(is_too_deep(&format!("x = a{}", "()".repeat(5000))));
        assert!(is_too_deep(&format!("x = {}1", "lambda: ".repeat(5000))));
        let blocks: String = (0..200)
            .map(|n| format!("{}if x:\n", " ".repeat(n)))
            .collect();
        assert!(is_too_deep(&format!("{blocks}{}pass\n", " ".repeat(200))));
    }

    #[test]
    fn long_flat_sources_are_not_deep() {
        assert!(!is_too_deep(&format!("x = [{}]", "f(1), ".repeat(50_000))));
        assert!(!is_too_deep(&"x = f(1)\n".repeat(50_000)));
        assert!(!is_too_deep(&format!(
            "x = {{{}}}",
            "'a': [1, -2], ".repeat(50_000)
        )));
    }
}
