//! Sources that are not what they look like, or that nobody can read.

use crate::scan::finding::{Category, Severity};
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[
    PY_UNPARSEABLE,
    PY_ODD_CODING,
    PY_NOT_UTF8,
    PY_NUL_BYTE,
    PY_TOO_DEEP,
    PY_BIDI_CONTROL,
    PY_HIDDEN_COLUMN,
];

/// What cannot be parsed may still run: in another version of Python, or with another coding.
pub(in crate::scan) const PY_UNPARSEABLE: Rule = Rule {
    id: "py-unparseable",
    category: Category::Carrier,
    severity: Severity::Medium,
    intent: None,
    reason: "The file cannot be parsed as Python.",
    why: "What cannot be parsed cannot be scanned, and another version of Python may run it.",
    fix: "Correct the syntax, or remove the file.",
    examples: &[
        Example::found("print 'x'\nexec \"open('x')\"\n"),
        Example::twin("print('x')\n"),
    ],
};

pub(in crate::scan) const PY_ODD_CODING: Rule = Rule {
    id: "py-odd-coding",
    category: Category::Carrier,
    severity: Severity::High,
    intent: None,
    reason: "The file declares a coding that hides what runs.",
    why: "With utf-7, rot13 and the like, Python runs other text than a reader or a scanner sees.",
    fix: "Save the file as UTF-8.",
    examples: &[
        Example::found("# -*- coding: rot13 -*-\nvzcbeg bf\n"),
        Example::twin("# -*- coding: utf-8 -*-\nimport os\n"),
    ],
};

pub(in crate::scan) const PY_NOT_UTF8: Rule = Rule {
    id: "py-not-utf8",
    category: Category::Carrier,
    severity: Severity::Medium,
    intent: None,
    reason: "The file is not UTF-8.",
    why: "Python refuses such a file as source; it may be something else than its name says.",
    fix: "Save the file as UTF-8.",
    examples: &[],
};

pub(in crate::scan) const PY_NUL_BYTE: Rule = Rule {
    id: "py-nul-byte",
    category: Category::Carrier,
    severity: Severity::High,
    intent: None,
    reason: "The source holds a NUL byte.",
    why: "Some versions of Python stop reading there and others refuse the file, so that what is read and what runs differ.",
    fix: "Remove the byte.",
    examples: &[Example::found("x = 1\0\n"), Example::twin("x = '\\0'\n")],
};

pub(in crate::scan) const PY_TOO_DEEP: Rule = Rule {
    id: "py-too-deep",
    category: Category::Carrier,
    severity: Severity::High,
    intent: None,
    reason: "The source is nested too deeply to be read.",
    why: "Nobody writes such code by hand; it makes parsers fail, and a scanner that fails sees nothing.",
    fix: "Remove the file.",
    examples: &[],
};

pub(in crate::scan) const PY_BIDI_CONTROL: Rule = Rule {
    id: "py-bidi-control",
    category: Category::Obfuscation,
    severity: Severity::High,
    intent: None,
    reason: "A character changes the direction of text.",
    why: "Such characters make an editor show code in another order than it runs in (CVE-2021-42574).",
    fix: "Remove the character, or write it as an escape.",
    examples: &[
        Example::found("access = 'user\u{202e} \u{2066}# admin'\n"),
        Example::twin("access = 'user\\u202e'\n"),
    ],
};

pub(in crate::scan) const PY_HIDDEN_COLUMN: Rule = Rule {
    id: "py-hidden-column",
    category: Category::Obfuscation,
    severity: Severity::High,
    intent: None,
    reason: "Code stands far to the right, after many blanks.",
    why: "In an editor that does not wrap lines, and in most reviews, nobody sees it.",
    fix: "Look at the code, and do not run what hides.",
    examples: &[
        Example::found(
            "x = 1                                                                                                                                                                                                         ; y = 2\n",
        ),
        Example::twin(
            "x = 1                                                                                                                                                                                                         # why\n",
        ),
    ],
};
