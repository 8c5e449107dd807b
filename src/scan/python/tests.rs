//! Every rule's examples, and what people hide in nodes.

use super::*;
use crate::scan::finding::{LONGEST_SNIPPET, Severity};
use crate::scan::rules::all_rules;

fn scan_one(code: &str) -> Vec<Finding> {
    scan_files(&[("node.py", code.as_bytes())])
}

fn scan_files(files: &[(&str, &[u8])]) -> Vec<Finding> {
    let sources: Vec<PythonSource> = files
        .iter()
        .map(|(path, bytes)| PythonSource {
            path: (*path).to_string(),
            bytes: bytes.to_vec(),
        })
        .collect();
    scan_python(&sources, &mut |_| {})
}

fn worst(findings: &[Finding]) -> Option<Severity> {
    findings.iter().map(|f| f.severity).max()
}

fn shown(findings: &[Finding]) -> String {
    let line = |f: &Finding| {
        let steps: Vec<String> = f
            .steps
            .iter()
            .map(|s| format!("\n    {}:{} {}", s.path, s.line, s.message))
            .collect();
        format!(
            "{}:{}:{} {} {} {}{}\n",
            f.path,
            f.line,
            f.column,
            f.severity,
            f.rule.id,
            f.message,
            steps.concat()
        )
    };
    findings.iter().map(line).collect()
}

#[test]
fn every_example_is_found_and_no_twin_is() {
    let mut wrong = Vec::new();
    for rule in all_rules().filter(|r| r.id.starts_with("py-")) {
        for example in rule.examples {
            let findings = scan_one(example.code);
            let found = findings.iter().any(|f| f.rule.id == rule.id);
            if found != example.found {
                wrong.push(format!(
                    "{} (found: {found})\n{}\n{}",
                    rule.id,
                    example.code,
                    shown(&findings)
                ));
            }
            assert!(findings.iter().all(|f| f.snippet.len() <= LONGEST_SNIPPET));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Scans folders and prints what is found: `COMFY_SCAN_DIR=a:b cargo test scan_a_folder -- --ignored --nocapture`
#[test]
#[ignore = "for people: prints the findings of folders"]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a driver for people"
)]
fn scan_a_folder() {
    let Ok(folders) = std::env::var("COMFY_SCAN_DIR") else {
        return;
    };
    let least = std::env::var("COMFY_SCAN_LEAST").unwrap_or_default();
    let least = Severity::from_word(&least).unwrap_or(Severity::Low);
    for folder in folders.split(':') {
        let mut files = Vec::new();
        collect(std::path::Path::new(folder), &mut files);
        let start = std::time::Instant::now();
        let findings = on_a_large_stack(files);
        let took = start.elapsed();
        let count = |s: Severity| findings.iter().filter(|f| f.severity == s).count();
        println!(
            "== {folder} {took:?} critical {} high {} medium {} low {}",
            count(Severity::Critical),
            count(Severity::High),
            count(Severity::Medium),
            count(Severity::Low)
        );
        for f in findings.iter().filter(|f| f.severity >= least) {
            println!(
                "{}:{}:{} {} {} {}\n      {}",
                f.path,
                f.line,
                f.column,
                f.severity,
                f.rule.id,
                f.message,
                f.snippet.trim()
            );
            for s in &f.steps {
                println!("        {}:{}:{} {}", s.path, s.line, s.column, s.message);
            }
        }
    }
}

fn collect(folder: &std::path::Path, files: &mut Vec<PythonSource>) {
    let root = folder;
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        if next.is_file() {
            let bytes = std::fs::read(&next).unwrap();
            let path = next.strip_prefix(root).unwrap_or(&next);
            let path = path.to_str().unwrap_or("x.py").to_string();
            let path = if path.is_empty() {
                "one.py".to_string()
            } else {
                path
            };
            files.push(PythonSource { path, bytes });
            continue;
        }
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() || path.extension().is_some_and(|e| e == "py" || e == "pyw") {
                open.push(path);
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
}

fn on_a_large_stack(files: Vec<PythonSource>) -> Vec<Finding> {
    std::thread::Builder::new()
        .stack_size(256 << 20)
        .spawn(move || scan_python(&files, &mut |_| {}))
        .unwrap()
        .join()
        .unwrap()
}
