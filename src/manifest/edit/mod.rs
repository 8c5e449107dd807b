//! Edits comfy.toml as its owner would: whole lines come and go, every other byte stays.

mod statements;

use std::collections::BTreeSet;

use toml_edit::{DocumentMut, Item, TableLike, Value};

use crate::problem::{Context, Problem, Result};
use crate::text::escape_text;
use statements::{Statement, Statements, is_blank};

/// The keys and values of a section.
pub(crate) type SectionLines = Vec<(&'static str, Value)>;

/// Returns the text with a section for each of these names in the table `table`, after those that it
/// has, else at its end.
///
/// # Errors
/// The text is not TOML, or the table is an inline one.
pub(crate) fn add_sections<'n>(
    text: &str,
    table: &str,
    sections: impl IntoIterator<Item = (&'n str, SectionLines)>,
) -> Result<String> {
    let sections: Vec<_> = sections.into_iter().collect();
    if sections.is_empty() {
        return Ok(text.to_string());
    }
    let found = Statements::parse(text)?;
    let has_header = |s: &Statement| s.path.first().is_some_and(|t| t == table);
    if let Some(whole) = found
        .list
        .iter()
        .find(|s| s.path == [table] && !s.is_header)
    {
        let line = text[..whole.value.start].matches('\n').count() + 1;
        return Err(
            Problem::new(format!("comfy.toml:{line}: `{table}` is an inline table")).with_hint(
                format!("write a section for each of its entries: [{table}.NAME]"),
            ),
        );
    }
    // A library has twenty thousand of them.
    let declared: BTreeSet<&str> = found
        .list
        .iter()
        .filter(|s| s.path.len() > 1 && s.path[0] == table)
        .map(|s| s.path[1].as_str())
        .collect();
    if let Some((name, _)) = sections.iter().find(|(name, _)| declared.contains(name)) {
        let what = table.trim_end_matches('s');
        return Err(Problem::new(format!(
            "comfy.toml already declares {what} \"{}\"",
            escape_text(name)
        ))
        .with_hint(format!(
            "change it with `comfy set {table}.{}.KEY VALUE`",
            key_text(name)
        )));
    }
    // A section cannot follow keys of the file's first, nameless one: they would become its own.
    let first_header = found.list.iter().position(|s| s.is_header);
    let last = found.list.iter().rposition(&has_header);
    let at = match (last, first_header) {
        (Some(i), Some(first)) if i >= first => found.end_of_block(i),
        _ => text.len(),
    };
    let nl = found.line_break();
    let mut block = String::new();
    for (name, lines) in sections {
        block.push_str(&format!("{nl}[{table}.{}]{nl}", key_text(name)));
        for (key, value) in lines {
            block.push_str(&format!("{key} = {value}{nl}"));
        }
    }
    if text.is_empty() {
        return Ok(block[nl.len()..].to_string());
    }
    let is_open = at == text.len() && !text.ends_with('\n');
    if is_open {
        block.truncate(block.len() - nl.len());
        block.insert_str(0, nl);
    }
    Ok(format!("{}{block}{}", &text[..at], &text[at..]))
}

/// Returns the text without what it says of `path`, and without the comments directly above and
/// below; `None` if it says nothing of it.
///
/// # Errors
/// The text is not TOML.
pub(crate) fn remove_path(text: &str, path: &[&str]) -> Result<Option<String>> {
    let found = Statements::parse(text)?;
    let is_gone = |s: &Statement| s.is_within(path);
    let mut out = text.to_string();
    let mut is_found = false;
    let mut i = found.list.len();
    // From the end, so that what is before stays where it is.
    while i > 0 {
        i -= 1;
        if !is_gone(&found.list[i]) {
            continue;
        }
        is_found = true;
        let last = i;
        while i > 0 && is_gone(&found.list[i - 1]) {
            i -= 1;
        }
        // A section goes with its comments, a single key without those of its neighbours.
        let (mut start, mut end) = if found.list[i].is_header {
            (found.start_with_comments(i), found.end_with_comments(last))
        } else {
            (found.list[i].lines.start, found.list[last].lines.end)
        };
        let is_open = end == text.len() && !text.ends_with('\n');
        if found.list[i].is_header {
            let above = found
                .line_above(start)
                .filter(|l| is_blank(&text[l.clone()]));
            match above {
                Some(blank) => start = blank.start,
                None if start == 0 && text[end..].starts_with(found.line_break()) => {
                    end += found.line_break().len();
                }
                None => {}
            }
        }
        if is_open {
            start = text[..start].trim_end_matches(['\n', '\r']).len().max(
                // One line break only.
                start.saturating_sub(found.line_break().len()),
            );
        }
        out.replace_range(start..end, "");
    }
    if is_found {
        return Ok(Some(out));
    }
    edit_values(text, |document| {
        let (name, parents) = path.split_last()?;
        table_at(document, parents)?.remove(name).map(drop)
    })
}

/// Returns the text with `value` at `path`; the comments beside a value that was there stay.
///
/// # Errors
/// The text is not TOML, or there is a section or a value in the way.
pub(crate) fn set_value(text: &str, path: &[&str], value: &Value) -> Result<String> {
    let found = Statements::parse(text)?;
    if let Some(old) = found.list.iter().find(|s| s.path == path && !s.is_header) {
        let span = old.value.clone();
        return Ok(format!(
            "{}{value}{}",
            &text[..span.start],
            &text[span.end..]
        ));
    }
    if found.list.iter().any(|s| s.is_within(path)) {
        return Err(
            Problem::new(format!("`{}` is a section of comfy.toml", path_text(path)))
                .with_hint("name one of its keys"),
        );
    }
    let Some((name, parents)) = path.split_last() else {
        return Err(Problem::new("a key has at least one word"));
    };
    let line = format!("{} = {value}{}", key_text(name), found.line_break());
    let header = found
        .list
        .iter()
        .position(|s| s.path == parents && s.is_header);
    if header.is_some() || parents.is_empty() {
        let own = |s: &&Statement| !s.is_header;
        let first = header.map_or(0, |h| h + 1);
        let values = found.list.iter().skip(first).take_while(own);
        let after = values.last().or_else(|| header.map(|h| &found.list[h]));
        let at = after.map_or(0, |s| s.lines.end);
        let indent = after.filter(|s| !s.is_header).map_or("", |s| {
            let line = &text[s.lines.clone()];
            &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
        });
        let needs_break = at > 0 && !text[..at].ends_with('\n');
        let open = if needs_break { found.line_break() } else { "" };
        let line = if needs_break { line.trim_end() } else { &line };
        return Ok(format!(
            "{}{open}{indent}{line}{}",
            &text[..at],
            &text[at..]
        ));
    }
    let is_known = found.list.iter().any(|s| s.is_within(parents));
    let inline = (1..parents.len() + 1).any(|n| {
        found
            .list
            .iter()
            .any(|s| s.path == parents[..n] && !s.is_header)
    });
    if is_known || inline {
        let changed = edit_values(text, |document| {
            table_at(document, parents)?.insert(name, Item::Value(value.clone()));
            Some(())
        })?;
        return changed.ok_or_else(|| {
            Problem::new(format!(
                "comfy.toml has a value in the place of a section of `{}`",
                path_text(path)
            ))
        });
    }
    let nl = found.line_break();
    let head = format!("[{}]", path_text(parents));
    let end = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        nl
    };
    let gap = if text.is_empty() { "" } else { nl };
    Ok(format!("{text}{end}{gap}{head}{nl}{line}"))
}

/// Returns the keys of a path as TOML writes them, with dots between.
fn path_text(path: &[&str]) -> String {
    let keys: Vec<String> = path.iter().map(|key| key_text(key)).collect();
    keys.join(".")
}

/// Returns the table at `path`, which may be inside a value.
fn table_at<'d>(document: &'d mut DocumentMut, path: &[&str]) -> Option<&'d mut dyn TableLike> {
    let mut here = document.as_item_mut();
    for key in path {
        here = here.get_mut(key)?;
    }
    here.as_table_like_mut()
}

/// Has the library edit what is inside values; `None` if `edit` does not find its place.
fn edit_values(
    text: &str,
    edit: impl FnOnce(&mut DocumentMut) -> Option<()>,
) -> Result<Option<String>> {
    let mut document: DocumentMut = text.parse().context("read comfy.toml")?;
    if edit(&mut document).is_none() {
        return Ok(None);
    }
    let out = document.to_string();
    // The library writes only one kind of line break.
    Ok(Some(if text.contains("\r\n") {
        out.replace("\r\n", "\n").replace('\n', "\r\n")
    } else {
        out
    }))
}

/// Returns a key as TOML writes it.
pub(crate) fn key_text(key: &str) -> String {
    toml_edit::Key::new(key).display_repr().into_owned()
}

/// Returns the parts of a dotted key, such as `nodes."a.b".ref`.
///
/// # Errors
/// It is not a key as TOML writes one.
pub(crate) fn key_path(text: &str) -> Result<Vec<String>> {
    let keys = toml_edit::Key::parse(text).map_err(|e| {
        Problem::new(format!(
            "\"{}\" is not a key: {}",
            escape_text(text),
            e.message()
        ))
        .with_hint(
            "separate its parts by dots, and quote those with other characters than letters, \
             digits, - and _: 'models.\"loras/a.safetensors\".source'",
        )
    })?;
    Ok(keys.iter().map(|k| k.get().to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "nodes";

    fn node(repo: &str) -> SectionLines {
        vec![("repo", repo.into()), ("ref", "main".into())]
    }

    #[test]
    fn comments_and_order_stay() {
        let text = "# mine\nversion = 1 # one\n\n[models.\"b.bin\"] # keep\nsource = \
            \"civitai:1\"\n# a note of b\n\n# shares\n[shares.models]\npath = \"/x\"\n";
        let models: [(&str, SectionLines); 2] = [
            ("a/ü \"x\".safetensors", vec![]),
            ("c.bin", vec![("source", "hf://o/r/c.bin".into())]),
        ];
        let out = add_sections(text, "models", models).unwrap();
        insta::assert_snapshot!(out, @r#"
        # mine
        version = 1 # one

        [models."b.bin"] # keep
        source = "civitai:1"
        # a note of b

        [models.'a/ü "x".safetensors']

        [models."c.bin"]
        source = "hf://o/r/c.bin"

        # shares
        [shares.models]
        path = "/x"
        "#);
        let inline = add_sections("a = 1\nmodels = {}", "models", [("a", vec![])]).unwrap_err();
        insta::assert_snapshot!(inline.to_string(), @"comfy.toml:2: `models` is an inline table (hint: write a section for each of its entries: [models.NAME])");
    }

    /// Files as people write them: what they begin with, their nodes, and how they end.
    fn hand_formatted() -> Vec<String> {
        let heads = [
            "",
            "version = 1\n",
            "# dotfiles\n\nversion = 1\n\n[comfyui]\nref = \"v1\"",
            "version=1\n[comfyui]\n\tref='v1' # tag\n",
            "[comfyui] # core\nref = \"v1\"\nargs = [\n  \"--fast\", # quick\n]\n\n\n",
        ];
        let nodes = [
            "",
            "\n[nodes.a]\nrepo = \"x\"\n",
            "[nodes.a]\nrepo = \"x\" # mine\n# ref = \"main\"\n\n# b is for b\n[nodes.b]\nrepo = \"y\"\n",
            "\n[nodes]\na = { repo = \"x\" }\nb.repo = \"y\"\n",
            "\n  [nodes.\"a.b\"]\n  repo = \"x\"\n    note = '''\n[nodes.fake]\n'''\n",
        ];
        let tails = [
            "",
            "\n# the end",
            "\n[shares.models] # all\npath = \"/m\"\n\n\n",
            "# tight\n[shares.models]\npath = \"/m\"",
        ];
        let mut out = Vec::new();
        for head in heads {
            for nodes in nodes {
                for tail in tails {
                    let gap =
                        |a: &str, b: &str| !a.is_empty() && !b.is_empty() && !a.ends_with('\n');
                    let mut text = head.to_string();
                    for part in [nodes, tail] {
                        if gap(&text, part) {
                            text.push('\n');
                        }
                        text.push_str(part);
                    }
                    out.push(text.replace('\n', "\r\n"));
                    out.push(text);
                }
            }
        }
        out.sort();
        out.dedup();
        out
    }

    #[test]
    fn what_is_added_and_removed_leaves_every_byte_as_it_was() {
        let all = hand_formatted();
        assert!(all.len() > 150, "{}", all.len());
        for text in &all {
            let new: [(&str, SectionLines); 2] = [("new.one", node("n")), ("z", node("z"))];
            let more = add_sections(text, NODE, new).unwrap();
            let read: toml::Table = toml::from_str(&more).unwrap_or_else(|e| panic!("{e}\n{more}"));
            assert_eq!(
                read["nodes"]["new.one"]["repo"].as_str(),
                Some("n"),
                "{more}"
            );
            let before: toml::Table = toml::from_str(text).unwrap();
            for (key, value) in before.iter().filter(|(k, _)| *k != NODE) {
                assert_eq!(&read[key], value, "{more}");
            }
            let less = remove_path(&more, &[NODE, "z"]).unwrap().unwrap();
            let less = remove_path(&less, &[NODE, "new.one"]).unwrap().unwrap();
            assert_eq!(&less, text, "{more:?}");
            let set = set_value(text, &["nodes", "new", "enabled"], &false.into()).unwrap();
            let read: toml::Table = toml::from_str(&set).unwrap_or_else(|e| panic!("{e}\n{set}"));
            assert_eq!(
                read["nodes"]["new"]["enabled"].as_bool(),
                Some(false),
                "{set}"
            );
            assert!(
                set.contains('\r') == text.contains('\r') || !text.contains('\n'),
                "{set:?}"
            );
        }
    }

    #[test]
    fn a_section_goes_with_its_own_comments_only() {
        let text = "# mine\nversion = 1\n\n# about a\n[nodes.a]\nrepo = \"x\"\n# off: ref\n\n# about \
            b\n[nodes.b]\nrepo = \"y\"\n\n[nodes]\nc = { repo = \"z\" } # inline\n";
        let gone = |names: &[&str]| {
            names.iter().fold(text.to_string(), |t, n| {
                remove_path(&t, &[NODE, n]).unwrap().unwrap()
            })
        };
        insta::assert_snapshot!(gone(&["a"]), @r#"
        # mine
        version = 1

        # about b
        [nodes.b]
        repo = "y"

        [nodes]
        c = { repo = "z" } # inline
        "#);
        insta::assert_snapshot!(gone(&["b", "c"]), @r#"
        # mine
        version = 1

        # about a
        [nodes.a]
        repo = "x"
        # off: ref

        [nodes]
        "#);
        assert_eq!(remove_path(text, &[NODE, "d"]).unwrap(), None);
    }

    #[test]
    fn a_key_is_set_where_it_stands() {
        let text = "version = 1\n\n[comfyui]\n  ref = \"v1\" # tag\n# port = 1\n\n[nodes.a]\nrepo = \
            \"x\"\n[run]\nenv = { A = \"1\" } # all\n";
        let steps: [(&[&str], Value); 6] = [
            (&["comfyui", "ref"], "v2".into()),
            (&["comfyui", "port"], 8189.into()),
            (&["nodes", "a", "enabled"], false.into()),
            (&["run", "env", "B"], "2".into()),
            (&["python", "overrides"], "[\"numpy<2\"]".parse().unwrap()),
            (&["hosts", "mac", "comfyui", "port"], 1.into()),
        ];
        let all = steps.iter().fold(text.to_string(), |t, (path, v)| {
            set_value(&t, path, v).unwrap()
        });
        insta::assert_snapshot!(all, @r#"
        version = 1

        [comfyui]
          ref = "v2" # tag
          port = 8189
        # port = 1

        [nodes.a]
        repo = "x"
        enabled = false
        [run]
        env = { A = "1" , B = "2" } # all

        [python]
        overrides = ["numpy<2"]

        [hosts.mac.comfyui]
        port = 1
        "#);
        let section = set_value(text, &["nodes", "a"], &1.into()).unwrap_err();
        insta::assert_snapshot!(section.to_string(), @"`nodes.a` is a section of comfy.toml (hint: name one of its keys)");
        let taken = set_value(text, &["version", "a"], &1.into()).unwrap_err();
        insta::assert_snapshot!(taken.to_string(), @"comfy.toml has a value in the place of a section of `version.a`");
    }
}
