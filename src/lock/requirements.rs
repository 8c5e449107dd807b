//! The requirements of ComfyUI and each node: the lines of their requirements.txt, as
//! ComfyUI-Manager would install them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pep508_rs::Requirement;

use super::python::normalize_name;
use crate::problem::Problem;
use crate::text::escape_text;

/// The file that is read, at the top of a tree.
pub(crate) const FILE: &str = "requirements.txt";
/// Far above any real one.
pub(crate) const MAX_BYTES: usize = 256 << 10;

/// A requirement with its place, written as `requirements.txt:8 numpy<2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequirementLine {
    pub file: String,
    pub line: usize,
    pub text: String,
}

impl fmt::Display for RequirementLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.file, self.line, self.text)
    }
}

impl RequirementLine {
    pub(crate) fn parse(text: &str) -> Option<RequirementLine> {
        let (place, text) = text.split_once(' ')?;
        let (file, line) = place.rsplit_once(':')?;
        let clean = !file.is_empty() && !text.is_empty() && !text.chars().any(char::is_control);
        Some(RequirementLine {
            file: file.into(),
            line: line.parse().ok()?,
            text: text.into(),
        })
        .filter(|_| clean)
    }
}

/// All requirements of one part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PartRequirements {
    /// As its tree has them.
    pub lines: Vec<RequirementLine>,
    /// Lines and packages that `ignore_requirements` leaves out, as the manifest had them.
    pub ignored: Vec<String>,
    /// The files that `requirements_files` named; `None`: [`FILE`], if there is one.
    pub files: Option<Vec<String>>,
}

impl PartRequirements {
    /// Iterates over the lines that are not ignored.
    pub(crate) fn effective_lines(&self) -> impl Iterator<Item = &RequirementLine> {
        self.lines
            .iter()
            .filter(|a| !self.ignored.iter().any(|i| means_line(i, &a.text)))
    }

    /// Returns the entries of `ignore_requirements` that match no line.
    pub(crate) fn unmatched_ignores(&self) -> impl Iterator<Item = &String> {
        self.ignored
            .iter()
            .filter(|i| !self.lines.iter().any(|a| means_line(i, &a.text)))
    }
}

/// pip's comments: a `#` at the start or after white space (pip's documentation, "Requirements File
/// Format").
fn without_comment(line: &str) -> &str {
    let end = line
        .char_indices()
        .find(|(i, c)| {
            *c == '#'
                && line[..*i]
                    .chars()
                    .next_back()
                    .is_none_or(char::is_whitespace)
        })
        .map_or(line.len(), |(i, _)| i);
    line[..end].trim()
}

/// Returns whether an entry of `ignore_requirements` means this line: it has the same words, or is the
/// bare name of its package.
fn means_line(ignored: &str, line: &str) -> bool {
    let ignored = without_hashes(without_comment(ignored));
    ignored == without_hashes(line)
        || (is_name(&ignored) && package_of(line).is_some_and(|p| p == normalize_name(&ignored)))
}

/// Returns whether a text is the name of a package, without bounds, extras and markers.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Returns the normalised name of the package that a line is about, where that can be seen: of
/// `https://host/b-1-py3-none-any.whl` it is `b`.
pub(crate) fn package_of(line: &str) -> Option<String> {
    let what = line.split(';').next().unwrap_or(line).trim();
    let name = match what.split_once(" @ ") {
        Some((name, _)) => name,
        None if what.ends_with(".whl") || what.contains(".whl#") => {
            let file = what.split('#').next()?.rsplit('/').next()?;
            file.split('-').next()?
        }
        None => {
            let end = what.find(|c: char| {
                c.is_whitespace() || matches!(c, '<' | '>' | '=' | '~' | '!' | '[' | '(' | '@')
            });
            &what[..end.unwrap_or(what.len())]
        }
    };
    let name = name.split('[').next()?.trim();
    is_name(name).then(|| normalize_name(name))
}

/// The address of a wheel that a line asks for: `a @ https://…/a-1-py3-none-any.whl ; marker`.
pub(crate) fn wheel_address(line: &str) -> Option<&str> {
    let what = line.split(" ;").next().unwrap_or(line);
    let address = match what.split_once('@') {
        Some((name, address)) if !name.contains("://") => address,
        _ => what,
    };
    let address = address.trim();
    let scheme = address.split_once("://")?.0;
    let path = address.split(['#', '?']).next()?;
    (matches!(scheme, "http" | "https") && path.ends_with(".whl")).then_some(address)
}

/// A requirement without pip's `--hash` options: comfy.lock has the hashes of what it pins. One space
/// is between its words.
fn without_hashes(line: &str) -> String {
    let mut words = line.split_whitespace();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word.strip_prefix("--hash") {
            Some("") if !kept.is_empty() => drop(words.next()),
            Some(rest) if !kept.is_empty() && rest.starts_with('=') => {}
            _ => kept.push(word),
        }
    }
    kept.join(" ")
}

/// The most files that the requirements of one part are spread over.
const MAX_FILES: usize = 50;

/// Reads `files` and those that they include by `-r`, by path; `read` returns `None` for one that the
/// tree does not have.
///
/// # Errors
/// If one cannot be read, or there are too many.
pub(crate) fn collect_texts(
    files: &[String],
    read: &dyn Fn(&str) -> crate::problem::Result<Option<String>>,
) -> crate::problem::Result<BTreeMap<String, String>> {
    let (mut texts, mut todo) = (BTreeMap::new(), files.to_vec());
    while let Some(file) = todo.pop() {
        if texts.contains_key(&file) {
            continue;
        }
        let Some(text) = read(&file)? else { continue };
        let lines = parse_lines(&file, &text);
        todo.extend(lines.iter().filter_map(included_file));
        texts.insert(file, text);
        if texts.len() > MAX_FILES {
            return Err(Problem::new(format!(
                "its requirements are in more than {MAX_FILES} files"
            ))
            .with_hint("choose another commit, or ask the author"));
        }
    }
    Ok(texts)
}

/// The requirements of `files`, with those of each file that one includes in the place of the line that
/// does so; a line that names a file which is not in `texts` stays.
pub(crate) fn parse_files(
    files: &[String],
    texts: &BTreeMap<String, String>,
) -> Vec<RequirementLine> {
    let (mut out, mut seen) = (Vec::new(), BTreeSet::new());
    for file in files {
        push_file(file, texts, &mut seen, &mut out);
    }
    out
}

fn push_file(
    file: &str,
    texts: &BTreeMap<String, String>,
    seen: &mut BTreeSet<String>,
    out: &mut Vec<RequirementLine>,
) {
    let Some(text) = texts.get(file) else { return };
    if !seen.insert(file.to_string()) {
        return;
    }
    for line in parse_lines(file, text) {
        match included_file(&line).filter(|f| texts.contains_key(f)) {
            Some(inner) => push_file(&inner, texts, seen, out),
            None => out.push(line),
        }
    }
}

/// The path in the tree that `-r` names: beside the file that has the line (pip's documentation,
/// "Requirements File Format"). `None`: it is no such line, or leads out of the tree.
fn included_file(line: &RequirementLine) -> Option<String> {
    let option = ["--requirement=", "--requirement ", "-r"];
    let named = option
        .iter()
        .find_map(|o| line.text.strip_prefix(o))?
        .trim();
    // The place of a line is one word in comfy.lock.
    if named.is_empty() || named.contains("://") || named.contains(char::is_whitespace) {
        return None;
    }
    let folder = line.file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut path: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(named.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()?),
            name => path.push(name),
        }
    }
    (!named.starts_with('/') && !path.is_empty()).then(|| path.join("/"))
}

/// The requirements of a file: no comments, no empty lines, continued lines as one, white space
/// that is no space as space.
pub(crate) fn parse_lines(file: &str, text: &str) -> Vec<RequirementLine> {
    let mut out = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (i, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (number, mut line) = open.take().unwrap_or((i + 1, String::new()));
        let own = without_comment(raw);
        line.push_str(own.strip_suffix('\\').unwrap_or(own));
        if own.ends_with('\\') {
            open = Some((number, line));
        } else {
            push_line(&mut out, file, number, &line);
        }
    }
    if let Some((number, line)) = open {
        push_line(&mut out, file, number, &line);
    }
    out
}

fn push_line(out: &mut Vec<RequirementLine>, file: &str, line: usize, text: &str) {
    let text = without_hashes(text);
    if !text.is_empty() {
        out.push(RequirementLine {
            file: file.into(),
            line,
            text,
        });
    }
}

/// Parses a line of `part` as a requirement, or says why comfy cannot lock it and what to do.
///
/// # Errors
/// If it is an option, an address, a path, or not a requirement at all.
pub(crate) fn parse_requirement(
    part: &str,
    asked: &RequirementLine,
) -> Result<Requirement, Problem> {
    let text = &asked.text;
    let refuse = |why: &str, hint: &str| {
        let p = Problem::new(format!(
            "{part}: {}:{}: `{}` {why}",
            asked.file,
            asked.line,
            escape_text(text)
        ));
        // What leaves a node's line out is told once for all of them.
        let core = (part == "comfyui").then_some("choose another `ref` in [comfyui]");
        match core.or(Some(hint).filter(|h| !h.is_empty())) {
            Some(hint) => p.with_hint(hint),
            None => p,
        }
    };
    if text.starts_with("-r") || text.starts_with("--requirement") {
        return Err(refuse(
            "names a file that its repository does not have",
            "what you need from it belongs in [python] requirements",
        ));
    }
    if text.starts_with("-e") || text.starts_with("--editable") {
        return Err(refuse(
            "requires building a package from source",
            "if it is released as a package, name that in [python] requirements",
        ));
    }
    if text.starts_with('-') {
        let and = "if packages must come from there: [python] indexes = \
            [{ name = \"…\", url = \"https://…\", packages = [\"…\"] }]";
        return Err(refuse(
            "is an option, which would change for all parts where packages come from",
            and,
        ));
    }
    if wheel_address(text).is_some() {
        return Err(refuse(
            "is the address of a wheel, which only comfy.toml may name",
            &format!(
                "if you trust that file, instead of leaving it out: [python] wheels = [\"{}\"]",
                escape_text(wheel_address(text).unwrap_or_default())
            ),
        ));
    }
    if text.contains("://")
        || text.starts_with("git+")
        || text.starts_with(['.', '/'])
        || text.ends_with(".whl")
    {
        return Err(refuse(
            "is an address, but comfy pins only released wheels",
            "if it is released as a package, name that in [python] requirements",
        ));
    }
    let parsed: Result<Requirement, _> = text.parse();
    parsed.map_err(|e| {
        refuse(
            &format!(
                "is not a requirement: {}",
                escape_text(e.to_string().lines().next().unwrap_or_default())
            ),
            "",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requirements_file_is_read_as_pip_reads_it() {
        let text = "\u{feff}# a comment\n\nnumpy<2 # old\ntorch \\\n  >= 2 \\\n\n \
            git+https://x/y#egg=z\nlast";
        let shown: Vec<String> = parse_lines("requirements.txt", text)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            shown,
            [
                "requirements.txt:3 numpy<2",
                "requirements.txt:4 torch >= 2",
                "requirements.txt:7 git+https://x/y#egg=z",
                "requirements.txt:8 last"
            ]
        );
        assert!(
            shown
                .iter()
                .all(|s| RequirementLine::parse(s).is_some_and(|a| a.to_string() == *s))
        );
    }

    #[test]
    fn included_files_stand_in_the_place_of_their_line() {
        let tree: BTreeMap<&str, &str> = [
            ("requirements.txt", "a\n-r sub/more.txt\n-r gone.txt\nz"),
            (
                "sub/more.txt",
                "b==1 --hash=sha256:0 \\\n  --hash sha256:1\n--requirement=../last.txt",
            ),
            ("last.txt", "c\n-r./requirements.txt\n-r ../out.txt"),
        ]
        .into();
        let read = |path: &str| Ok(tree.get(path).map(ToString::to_string));
        let texts = collect_texts(&[FILE.into()], &read).unwrap();
        let lines: Vec<String> = parse_files(&[FILE.into()], &texts)
            .iter()
            .map(ToString::to_string)
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        requirements.txt:1 a
        sub/more.txt:1 b==1
        last.txt:1 c
        last.txt:3 -r ../out.txt
        requirements.txt:3 -r gone.txt
        requirements.txt:4 z
        ");
        let asked = PartRequirements {
            lines: parse_files(&[FILE.into()], &texts),
            ignored: vec!["b==1   --hash=sha256:7 # mine".into()],
            files: None,
        };
        assert!(asked.effective_lines().all(|l| l.text != "b==1"));
        assert_eq!(asked.unmatched_ignores().count(), 0);
    }

    #[test]
    fn what_cannot_be_locked_is_refused_with_the_line_that_settles_it() {
        let said = |part: &str, text: &str| {
            let asked = RequirementLine {
                file: FILE.into(),
                line: 4,
                text: text.into(),
            };
            parse_requirement(part, &asked).map_or_else(
                |p| format!("{}\n  hint: {}", p.message, p.hints.join("\n  hint: ")),
                |r| format!("fine: {}", r.name),
            )
        };
        let lines = [
            "Numpy[x]>=1; python_version > '3'",
            "git+https://github.com/a/b",
            "b @ https://x/b-1-py3-none-any.whl",
            "./wheels/c.whl",
            "-e .",
            "-r other.txt",
            "--extra-index-url https://x/simple",
            "numpy=<2",
        ];
        insta::assert_snapshot!(lines.map(|l| said("node.a", l)).join("\n"), @r#"
        fine: numpy
        node.a: requirements.txt:4: `git+https://github.com/a/b` is an address, but comfy pins only released wheels
          hint: if it is released as a package, name that in [python] requirements
        node.a: requirements.txt:4: `b @ https://x/b-1-py3-none-any.whl` is the address of a wheel, which only comfy.toml may name
          hint: if you trust that file, instead of leaving it out: [python] wheels = ["https://x/b-1-py3-none-any.whl"]
        node.a: requirements.txt:4: `./wheels/c.whl` is an address, but comfy pins only released wheels
          hint: if it is released as a package, name that in [python] requirements
        node.a: requirements.txt:4: `-e .` requires building a package from source
          hint: if it is released as a package, name that in [python] requirements
        node.a: requirements.txt:4: `-r other.txt` names a file that its repository does not have
          hint: what you need from it belongs in [python] requirements
        node.a: requirements.txt:4: `--extra-index-url https://x/simple` is an option, which would change for all parts where packages come from
          hint: if packages must come from there: [python] indexes = [{ name = "…", url = "https://…", packages = ["…"] }]
        node.a: requirements.txt:4: `numpy=<2` is not a requirement: no such comparison operator "=<", must be one of ~= == != <= >= < > ===
          hint:
        "#);
    }
}
