//! The steps of the demo in their order, each with what must be true after it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::dotfiles::Dotfiles;
use super::stage::{Show, Stage};
use super::{files, upstream};
use crate::host::fs::edit;
use crate::problem::{Doing, Problem, Result};
use crate::render;

const MANIFEST: &str = include_str!("files/comfy.toml");
const EDIT: &str = "print(\"changed by hand\")";

/// Tells it.
///
/// # Errors
/// A step that did not do what it should, by name; interrupted.
pub fn tell(stage: &mut Stage) -> Result<()> {
    let place = stage.place;
    render::stdout(&format!(
        "The whole loop on a small example, in {}.",
        place.dir.display()
    ));
    render::stdout(
        "No root, no network: three little repositories in there stand for GitHub, and the comfy \
         that runs is this one.",
    );
    std::fs::create_dir_all(place.home()).doing(|| "make a home".into())?;
    upstream::make(&place.upstream())?;
    let dotfiles = Dotfiles::make(&place.dotfiles())?;

    let port = std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|l| l.local_addr())
        .doing(|| "find a free port".into())?
        .port();
    describe(stage, port)?;
    let pinned = pin(stage, &dotfiles)?;
    let first = install(stage)?;
    drift(stage, &first)?;
    update(stage, &dotfiles)?;
    go_back(stage, &dotfiles, &pinned, &first)?;
    stage.explain(
        "run starts what was applied: exactly this code, no other node, nothing of your \
        environment.",
    );
    let stats = stage.serve(
        &format!("http://127.0.0.1:{port}"),
        &["is ready at", "2 of 2 nodes loaded"],
    )?;
    stage.check(
        "comfy run",
        "the miniature ComfyUI answers",
        stats.contains("comfyui_version"),
    )?;
    stage.comfy(
        &["plan", "--exit-code"],
        Show::Plan,
        0,
        &["No changes. This machine matches comfy.lock."],
    )?;

    stage.explain(
        "That was the loop. What you made yourself, such as the file in the output \
        folder, stayed all the while.",
    );
    render::stdout(
        "Next: `comfy init` writes a comfy.toml for you, `comfy --help` lists the commands, `comfy \
         man` is the manual.",
    );
    Ok(())
}

fn describe(stage: &mut Stage, port: u16) -> Result<()> {
    stage.explain("You begin in your dotfiles repository; init writes a commented comfy.toml.");
    stage.comfy(&["init"], Show::All, 0, &["Wrote "])?;
    let path = stage.place.dotfiles().join("comfy.toml");
    stage.check(
        "comfy init",
        "comfy.toml is there",
        text(&path)?.contains("[comfyui]"),
    )?;
    let python = crate::host::python::minor_of_this_machine().ok_or_else(|| {
        Problem::new("there is no python3 in PATH that runs")
            .hint("the demo needs Python 3 and nothing else")
    })?;
    let manifest = MANIFEST
        .replace("PYTHON", &python)
        .replace("PORT", &port.to_string())
        .replace("DIR", &stage.place.dir.display().to_string());
    edit::write_file(&path, manifest.as_bytes(), 0o644, None)
        .doing(|| format!("write {}", path.display()))?;
    stage.explain(
        "That one asks for the real ComfyUI and a second account. The demo makes it this one:",
    );
    stage.typed("cat comfy.toml");
    render::stdout(manifest.trim_end());
    Ok(())
}

/// The bytes of comfy.lock.
fn pin(stage: &mut Stage, dotfiles: &Dotfiles) -> Result<String> {
    stage.explain("lock finds out which commits the branches are, and pins them in comfy.lock.");
    stage.comfy(
        &["lock"],
        Show::All,
        0,
        &[
            "Added comfyui",
            "Added demo-hello",
            "Added demo-invert",
            "Locked 3 repositories",
        ],
    )?;
    let lock = text(&stage.place.dotfiles().join("comfy.lock"))?;
    stage.check(
        "comfy lock",
        "comfy.lock names GitHub, and no folder of this machine",
        lock.contains("https://github.com/comfy-demo/demo-hello") && !lock.contains("file:"),
    )?;
    stage.explain(
        "Both files belong in git. (The demo does git's part itself: it needs no git \
        program and no name of yours.)",
    );
    stage.typed("git add . && git commit -m \"Pin ComfyUI and two nodes\"");
    render::stdout(&dotfiles.commit("Pin ComfyUI and two nodes")?);
    Ok(lock)
}

/// The live code after it.
fn install(stage: &mut Stage) -> Result<Tree> {
    let place = stage.place;
    stage.explain(
        "plan shows the difference between the two files and this machine, and changes nothing.",
    );
    stage.comfy(
        &["plan"],
        Show::Plan,
        0,
        &[
            "# comfyui will be created",
            "# node.demo-hello will be created",
            "# link.view will be created",
            "0 to destroy.",
        ],
    )?;
    stage.check(
        "comfy plan",
        "nothing was changed",
        !place.prefix().exists() && !place.view().exists(),
    )?;
    stage.explain(
        "apply removes the difference. It shows the plan again and asks; --yes is for \
        scripts and this demo.",
    );
    stage.comfy(
        &["apply", "--yes"],
        Show::Outcome,
        0,
        &["Apply complete!", "0 destroyed."],
    )?;
    check_code(stage, "comfy apply --yes", files::HELLO)?;
    stage.explain(
        "Now this machine is as comfy.lock says, and a second look agrees: exit code 0, not 2.",
    );
    stage.comfy(
        &["plan", "--exit-code"],
        Show::Plan,
        0,
        &["No changes. This machine matches comfy.lock."],
    )?;
    let first = tree(&canonical(&place.view())?)?;
    stage.explain(
        "What ComfyUI makes lands in the output share; this demo puts a file there in its stead.",
    );
    write(&place.view().join("output/picture.txt"), "a picture\n")?;
    stage.check(
        "comfy apply --yes",
        "ComfyUI's output folder is the share",
        place.shares().join("output/picture.txt").exists(),
    )?;
    Ok(first)
}

fn drift(stage: &mut Stage, first: &Tree) -> Result<()> {
    let place = stage.place;
    let nodes = place.view().join("custom_nodes");
    let (hello, stray) = (
        nodes.join("demo-hello/__init__.py"),
        nodes.join("stray-node"),
    );
    stage.explain(
        "Somebody edits a node, and something puts a folder among the nodes that nobody asked for.",
    );
    stage.typed(&format!(
        "echo '{EDIT}' >> ../ComfyUI/custom_nodes/demo-hello/__init__.py"
    ));
    write(&hello, &format!("{}{EDIT}\n", text(&hello)?))?;
    stage.typed(
        "mkdir ../ComfyUI/custom_nodes/stray-node && touch \
        ../ComfyUI/custom_nodes/stray-node/__init__.py",
    );
    std::fs::create_dir(&stray).doing(|| format!("make {}", stray.display()))?;
    write(&stray.join("__init__.py"), "")?;
    stage.explain("comfy compares the bytes themselves; -v shows what was edited.");
    let words = [
        "Drift:",
        "edited: ComfyUI/custom_nodes/demo-hello/__init__.py",
        EDIT,
        "also stray-node",
    ];
    stage.comfy(&["plan", "-v"], Show::Plan, 0, &words)?;
    stage.explain("apply heals it; the stray folder is moved to quarantine, not deleted.");
    stage.comfy(&["apply", "--yes"], Show::Outcome, 0, &["Apply complete!"])?;
    stage.check(
        "comfy apply --yes",
        "the edit and the stray folder are gone",
        tree(&canonical(&place.view())?)? == *first,
    )?;
    let kept = std::fs::read_dir(place.prefix().join("comfyui_sandbox/quarantine"))
        .doing(|| "open the quarantine".into())?
        .flatten()
        .any(|e| e.file_name().to_string_lossy().ends_with("stray-node"));
    stage.check(
        "comfy apply --yes",
        "the stray folder is in quarantine",
        kept,
    )
}

fn update(stage: &mut Stage, dotfiles: &Dotfiles) -> Result<()> {
    let place = stage.place;
    upstream::publish(&place.upstream())?;
    stage.explain(
        "The author of demo-hello publishes a change. Nothing moves by itself; outdated tells.",
    );
    stage.comfy(&["outdated"], Show::All, 0, &["demo-hello"])?;
    stage.explain("update moves the pin in comfy.lock, apply brings it to this machine.");
    stage.comfy(
        &["update", "demo-hello"],
        Show::All,
        0,
        &["Updated demo-hello "],
    )?;
    stage.comfy(&["apply", "--yes"], Show::Outcome, 0, &["Apply complete!"])?;
    check_code(stage, "comfy apply --yes", files::HELLO_NEXT)?;
    stage.typed("git commit -am \"Update demo-hello\"");
    render::stdout(&dotfiles.commit("Update demo-hello")?);
    Ok(())
}

fn go_back(stage: &mut Stage, dotfiles: &Dotfiles, pinned: &str, first: &Tree) -> Result<()> {
    let place = stage.place;
    stage.explain(
        "The new version is worse? Undo the commit and apply. The old code is still \
        there: --offline will do.",
    );
    stage.typed("git revert HEAD");
    render::stdout(&dotfiles.revert_last()?);
    stage.check(
        "git revert HEAD",
        "comfy.lock is as it was first",
        text(&place.dotfiles().join("comfy.lock"))? == pinned,
    )?;
    stage.comfy(
        &["apply", "--yes", "--offline"],
        Show::Outcome,
        0,
        &["Apply complete!"],
    )?;
    let now = tree(&canonical(&place.view())?)?;
    stage.check(
        "comfy apply --yes --offline",
        "the live code is what it was first, byte for byte",
        now == *first,
    )?;
    stage.check(
        "comfy apply --yes --offline",
        "the output folder kept its content",
        place.shares().join("output/picture.txt").exists(),
    )?;
    stage.explain(&format!(
        "Compared: all {} files and links of the live code are as after the \
        first apply, byte for byte.",
        first.len()
    ));
    stage.comfy(
        &["plan", "--exit-code"],
        Show::Plan,
        0,
        &["No changes. This machine matches comfy.lock."],
    )
}

/// The live files are those of the repositories, demo-hello's being these.
fn check_code(stage: &Stage, step: &str, hello: &[files::File]) -> Result<()> {
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
            stage.check(
                step,
                &format!("{} is the locked one", path.display()),
                text(&path)? == file.text,
            )?;
        }
    }
    Ok(())
}

/// Path to mode and content, or to a link's target.
type Tree = BTreeMap<PathBuf, (u32, Vec<u8>)>;

/// Every file and link below `folder`; links are not followed.
fn tree(folder: &Path) -> Result<Tree> {
    let mut out = Tree::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(dir) = todo.pop() {
        let what = || format!("read {}", dir.display());
        for entry in std::fs::read_dir(&dir).doing(what)? {
            let path = entry.doing(what)?.path();
            let meta = path.symlink_metadata().doing(what)?;
            let name = path.strip_prefix(folder).unwrap_or(&path).to_path_buf();
            if meta.is_dir() {
                todo.push(path);
            } else if meta.is_symlink() {
                let target = std::fs::read_link(&path).doing(what)?;
                out.insert(name, (0, target.into_os_string().into_encoded_bytes()));
            } else {
                out.insert(
                    name,
                    (meta.permissions().mode(), std::fs::read(&path).doing(what)?),
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

fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .doing(|| format!("open {}", path.display()))
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).doing(|| format!("read {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).doing(|| format!("write {}", path.display()))
}
