//! The steps of the demo in their order, each with what must be true after it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::dotfiles::DotfilesRepository;
use super::stage::{DemoTerminal, OutputDetail};
use super::{files, upstream};
use crate::host::fs::edit;
use crate::problem::{Context, Problem, Result};
use crate::render;

const MANIFEST: &str = include_str!("files/comfy.toml");
const EDIT: &str = "print(\"changed by hand\")";

/// Tells it.
///
/// # Errors
/// A step that did not do what it should, by name; interrupted.
pub(crate) fn tell_story(stage: &mut DemoTerminal) -> Result<()> {
    let place = stage.place;
    render::print_stdout(&format!(
        "The whole cycle on a small example, in {}.",
        place.dir.display()
    ));
    render::print_stdout(
        "No root, no network: three small repositories in it stand in for GitHub, and the comfy \
            that runs is this one.",
    );
    std::fs::create_dir_all(place.home()).context("make a home")?;
    upstream::create_repositories(&place.upstream())?;
    let dotfiles = DotfilesRepository::create(&place.dotfiles())?;

    let port = std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|l| l.local_addr())
        .context("find a free port")?
        .port();
    describe_machine(stage, port)?;
    let pinned = pin_nodes(stage, &dotfiles)?;
    let first = install_nodes(stage)?;
    repair_drift(stage, &first)?;
    update_and_revert(stage, &dotfiles)?;
    go_back(stage, &dotfiles, &pinned, &first)?;
    stage.print_explanation(
        "run starts what was applied: exactly this code, no other node, and nothing from your \
            environment.",
    );
    let stats = stage.serve_once(
        &format!("http://127.0.0.1:{port}"),
        &["is ready at", "2 of 2 nodes loaded"],
    )?;
    stage.ensure_fact(
        "comfy run",
        "the miniature ComfyUI answers",
        stats.contains("comfyui_version"),
    )?;
    stage.run_comfy(
        &["plan", "--exit-code"],
        OutputDetail::Plan,
        0,
        &["No changes. This machine matches comfy.lock."],
    )?;

    stage.print_explanation(
        "That was the cycle. Your own files, such as the one in the output folder, were kept \
            throughout.",
    );
    render::print_stdout(
        "Next: `comfy init` writes a comfy.toml for you, `comfy --help` lists the commands, `comfy \
         man` is the manual.",
    );
    Ok(())
}

fn describe_machine(stage: &mut DemoTerminal, port: u16) -> Result<()> {
    stage.print_explanation(
        "You begin in your dotfiles repository; init writes a commented comfy.toml.",
    );
    stage.run_comfy(&["init"], OutputDetail::All, 0, &["Wrote "])?;
    let path = stage.place.dotfiles().join("comfy.toml");
    stage.ensure_fact(
        "comfy init",
        "comfy.toml exists",
        read_text(&path)?.contains("[comfyui]"),
    )?;
    let python = crate::host::python::minor_of_this_machine().ok_or_else(|| {
        Problem::new("there is no working python3 in PATH")
            .with_hint("the demo needs Python 3 and nothing else")
    })?;
    let manifest = MANIFEST
        .replace("PYTHON", &python)
        .replace("PORT", &port.to_string())
        .replace("DIR", &stage.place.dir.display().to_string());
    edit::write_file(&path, manifest.as_bytes(), 0o644, None)
        .with_context(|| format!("write {}", path.display()))?;
    stage.print_explanation(
        "It declares the real ComfyUI and a second account. The demo replaces it with this one:",
    );
    stage.print_command_line("cat comfy.toml");
    render::print_stdout(manifest.trim_end());
    Ok(())
}

/// The bytes of comfy.lock.
fn pin_nodes(stage: &mut DemoTerminal, dotfiles: &DotfilesRepository) -> Result<String> {
    stage.print_explanation(
        "lock looks up the commits of the branches, and pins them in comfy.lock.",
    );
    stage.run_comfy(
        &["lock"],
        OutputDetail::All,
        0,
        &[
            "Added comfyui",
            "Added demo-hello",
            "Added demo-invert",
            "Locked 3 repositories",
        ],
    )?;
    let lock = read_text(&stage.place.dotfiles().join("comfy.lock"))?;
    stage.ensure_fact(
        "comfy lock",
        "comfy.lock names GitHub, and no folder of this machine",
        lock.contains("https://github.com/comfy-demo/demo-hello") && !lock.contains("file:"),
    )?;
    stage.print_explanation(
        "Commit both files to git. (The demo does this itself: it needs neither a git program nor \
            your name.)",
    );
    stage.print_command_line("git add . && git commit -m \"Pin ComfyUI and two nodes\"");
    render::print_stdout(&dotfiles.commit("Pin ComfyUI and two nodes")?);
    Ok(lock)
}

/// The live code after it.
fn install_nodes(stage: &mut DemoTerminal) -> Result<Tree> {
    let place = stage.place;
    stage.print_explanation("plan shows what would change on this machine, and changes nothing.");
    stage.run_comfy(
        &["plan"],
        OutputDetail::Plan,
        0,
        &[
            "# comfyui will be created",
            "# node.demo-hello will be created",
            "# link.view will be created",
            "0 to destroy.",
        ],
    )?;
    stage.ensure_fact(
        "comfy plan",
        "nothing was changed",
        !place.prefix().exists() && !place.view().exists(),
    )?;
    stage.print_explanation(
        "apply makes these changes. It shows the plan again and asks; --yes is for scripts and \
            this demo.",
    );
    stage.run_comfy(
        &["apply", "--yes"],
        OutputDetail::Outcome,
        0,
        &["Apply complete!", "0 destroyed."],
    )?;
    check_code(stage, "comfy apply --yes", files::HELLO)?;
    stage.print_explanation(
        "Now this machine matches comfy.lock, and a second plan confirms it: exit code 0, not 2.",
    );
    stage.run_comfy(
        &["plan", "--exit-code"],
        OutputDetail::Plan,
        0,
        &["No changes. This machine matches comfy.lock."],
    )?;
    let first = read_tree(&canonical_path(&place.view())?)?;
    stage.print_explanation(
        "ComfyUI saves its output in the output share; this demo puts a file there instead.",
    );
    write_text(&place.view().join("output/picture.txt"), "a picture\n")?;
    stage.ensure_fact(
        "comfy apply --yes",
        "ComfyUI's output folder is the share",
        place.shares().join("output/picture.txt").exists(),
    )?;
    Ok(first)
}

fn repair_drift(stage: &mut DemoTerminal, first: &Tree) -> Result<()> {
    let place = stage.place;
    let nodes = place.view().join("custom_nodes");
    let (hello, stray) = (
        nodes.join("demo-hello/__init__.py"),
        nodes.join("stray-node"),
    );
    stage.print_explanation(
        "Somebody edits a node, and something adds a folder to the nodes that nobody declared.",
    );
    stage.print_command_line(&format!(
        "echo '{EDIT}' >> ../ComfyUI/custom_nodes/demo-hello/__init__.py"
    ));
    write_text(&hello, &format!("{}{EDIT}\n", read_text(&hello)?))?;
    stage.print_command_line(
        "mkdir ../ComfyUI/custom_nodes/stray-node && touch \
        ../ComfyUI/custom_nodes/stray-node/__init__.py",
    );
    std::fs::create_dir(&stray).with_context(|| format!("make {}", stray.display()))?;
    write_text(&stray.join("__init__.py"), "")?;
    stage.print_explanation("comfy compares the content itself; -v shows what was edited.");
    let words = [
        "Drift:",
        "edited: ComfyUI/custom_nodes/demo-hello/__init__.py",
        EDIT,
        "also stray-node",
    ];
    stage.run_comfy(&["plan", "-v"], OutputDetail::Plan, 0, &words)?;
    stage.print_explanation(
        "apply repairs it; the stray folder is moved to quarantine, not deleted.",
    );
    stage.run_comfy(
        &["apply", "--yes"],
        OutputDetail::Outcome,
        0,
        &["Apply complete!"],
    )?;
    stage.ensure_fact(
        "comfy apply --yes",
        "the edit and the stray folder are gone",
        read_tree(&canonical_path(&place.view())?)? == *first,
    )?;
    let kept = std::fs::read_dir(place.prefix().join("comfyui_sandbox/quarantine"))
        .context("open the quarantine")?
        .flatten()
        .any(|e| e.file_name().to_string_lossy().ends_with("stray-node"));
    stage.ensure_fact(
        "comfy apply --yes",
        "the stray folder is in quarantine",
        kept,
    )
}

fn update_and_revert(stage: &mut DemoTerminal, dotfiles: &DotfilesRepository) -> Result<()> {
    let place = stage.place;
    upstream::publish_change(&place.upstream())?;
    stage.print_explanation(
        "The author of demo-hello publishes a change. Nothing updates by itself; outdated shows \
            it.",
    );
    stage.run_comfy(&["outdated"], OutputDetail::All, 0, &["demo-hello"])?;
    stage.print_explanation(
        "update changes the pin in comfy.lock, apply installs it on this machine.",
    );
    stage.run_comfy(
        &["update", "demo-hello"],
        OutputDetail::All,
        0,
        &["Updated demo-hello "],
    )?;
    stage.run_comfy(
        &["apply", "--yes"],
        OutputDetail::Outcome,
        0,
        &["Apply complete!"],
    )?;
    check_code(stage, "comfy apply --yes", files::HELLO_NEXT)?;
    stage.print_command_line("git commit -am \"Update demo-hello\"");
    render::print_stdout(&dotfiles.commit("Update demo-hello")?);
    Ok(())
}

fn go_back(
    stage: &mut DemoTerminal,
    dotfiles: &DotfilesRepository,
    pinned: &str,
    first: &Tree,
) -> Result<()> {
    let place = stage.place;
    stage.print_explanation(
        "The new version is worse? Undo the commit and apply. The old code is still on this \
            machine, so --offline works.",
    );
    stage.print_command_line("git revert HEAD");
    render::print_stdout(&dotfiles.revert_last()?);
    stage.ensure_fact(
        "git revert HEAD",
        "comfy.lock is as it was first",
        read_text(&place.dotfiles().join("comfy.lock"))? == pinned,
    )?;
    stage.run_comfy(
        &["apply", "--yes", "--offline"],
        OutputDetail::Outcome,
        0,
        &["Apply complete!"],
    )?;
    let now = read_tree(&canonical_path(&place.view())?)?;
    stage.ensure_fact(
        "comfy apply --yes --offline",
        "the live code is what it was first, byte for byte",
        now == *first,
    )?;
    stage.ensure_fact(
        "comfy apply --yes --offline",
        "the output folder kept its content",
        place.shares().join("output/picture.txt").exists(),
    )?;
    stage.print_explanation(&format!(
        "Compared: all {} files and links of the live code are the same as after the first apply, \
            byte for byte.",
        first.len()
    ));
    stage.run_comfy(
        &["plan", "--exit-code"],
        OutputDetail::Plan,
        0,
        &["No changes. This machine matches comfy.lock."],
    )
}

/// The live files are those of the repositories, demo-hello's being these.
fn check_code(stage: &DemoTerminal, step: &str, hello: &[files::File]) -> Result<()> {
    let view = stage.place.view();
    // A mount lies over what the tree has there.
    let mounted = |p: &str| {
        ["models/", "input/", "output/"]
            .iter()
            .any(|m| p.starts_with(m))
    };
    let nodes = view.join("custom_nodes");
    for (folder, files) in [
        (view, files::COMFYUI),
        (nodes.join("demo-hello"), hello),
        (nodes.join("demo-invert"), files::INVERT),
    ] {
        for file in files.iter().filter(|f| !mounted(f.path)) {
            let path = folder.join(file.path);
            stage.ensure_fact(
                step,
                &format!("{} is the locked one", path.display()),
                read_text(&path)? == file.text,
            )?;
        }
    }
    Ok(())
}

/// Path to mode and content, or to a link's target.
type Tree = BTreeMap<PathBuf, (u32, Vec<u8>)>;

/// Every file and link below `folder`; links are not followed.
fn read_tree(folder: &Path) -> Result<Tree> {
    let mut out = Tree::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(dir) = todo.pop() {
        let what = || format!("read {}", dir.display());
        for entry in std::fs::read_dir(&dir).with_context(what)? {
            let path = entry.with_context(what)?.path();
            let meta = path.symlink_metadata().with_context(what)?;
            let name = path.strip_prefix(folder).unwrap_or(&path).to_path_buf();
            if meta.is_dir() {
                todo.push(path);
            } else if meta.is_symlink() {
                let target = std::fs::read_link(&path).with_context(what)?;
                out.insert(name, (0, target.into_os_string().into_encoded_bytes()));
            } else {
                out.insert(
                    name,
                    (
                        meta.permissions().mode(),
                        std::fs::read(&path).with_context(what)?,
                    ),
                );
            }
        }
    }
    if out.is_empty() {
        Err(Problem::new(format!("{} is empty", folder.display())))
    } else {
        Ok(out)
    }
}

fn canonical_path(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .with_context(|| format!("open {}", path.display()))
}

fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
