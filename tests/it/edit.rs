//! comfy.toml is edited by commands; what they leave is what its owner would have written.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::python::World;

/// What fails leaves nothing, and says what to give instead.
#[test]
fn what_cannot_be_read_leaves_nothing_behind() {
    let Some(w) = World::new("", &[]) else { return };
    std::fs::write(w.root.join("broken.png"), b"\x89PNG\r\n\x1a\nrest").unwrap();
    std::fs::write(w.root.join("odd.json"), b"{\"a\": 1}").unwrap();
    let said = w.run(&[
        "add --workflow none.json",
        "add --workflow .",
        "add --workflow broken.png",
        "add --workflow odd.json",
    ]);
    insta::assert_snapshot!(said, @"
    $ comfy add --workflow none.json
    error: could not open none.json: No such file or directory (os error 2)
      hint: give a workflow's JSON, or a PNG that ComfyUI saved
    exit 1

    $ comfy add --workflow .
    error: . is not a file
      hint: give a workflow's JSON, or a PNG that ComfyUI saved
    exit 1

    $ comfy add --workflow broken.png
    error: broken.png is a picture that cannot be read: unexpected end of file
      hint: save the workflow in ComfyUI by Workflow > Export, and give that file
    exit 1

    $ comfy add --workflow odd.json
    error: odd.json is JSON, and no workflow of ComfyUI's
      hint: a workflow has `nodes`, or nodes with `class_type`; save it in ComfyUI by Workflow > Save or Export
    exit 1
    ");
    // Root is refused, and others have no such format: either way nothing stays.
    let said = w.run(&["init -C new/deep --isolation none --from odd.json"]);
    assert!(
        said.contains("exit 1") && !w.root.join("new").exists(),
        "{said}"
    );
    // A folder that was there stays.
    std::fs::create_dir(w.root.join("old")).unwrap();
    w.run(&["init -C old/deep --from odd.json"]);
    assert!(w.root.join("old").exists() && !w.root.join("old/deep").exists());
}

#[test]
fn nodes_models_and_shares_come_and_go_and_what_is_wrong_changes_nothing() {
    let Some(w) = World::new("", &[]) else { return };
    let dotfiles = w.root.join("dotfiles");
    fs::create_dir(&dotfiles).unwrap();
    fs::rename(w.toml(), dotfiles.join("comfy.toml")).unwrap();
    // Dotfile managers put a link in its place.
    std::os::unix::fs::symlink(dotfiles.join("comfy.toml"), w.toml()).unwrap();
    let before = fs::read_to_string(w.toml()).unwrap();
    fs::set_permissions(w.toml(), fs::Permissions::from_mode(0o600)).unwrap();
    let said = w.run(&[
        "add node ltdrdata/ComfyUI-Impact-Pack",
        "add node git@github.com:o/r.git --name mine --ref v1",
        "add node o/r --name twice",
        "add node https://github.com/o/other --name mine",
        "add node ../here",
        "add share out ~/out",
        "add share out ~/out --mount output --access write",
        "set nodes.mine.enabled false",
        "set nodes.mine.ref 12",
        "set comfyui.prt 1",
        "set comfyui 1",
        "remove node min",
    ]);
    insta::assert_snapshot!(said, @r#"
    $ comfy add node ltdrdata/ComfyUI-Impact-Pack
    Added node ComfyUI-Impact-Pack to comfy.toml.
    `comfy lock` pins what was added.

    $ comfy add node git@github.com:o/r.git --name mine --ref v1
    Added node mine to comfy.toml.
    `comfy lock` pins what was added.

    $ comfy add node o/r --name twice
    error: with this change: comfy.toml:22:1: nodes `mine` and `twice` are the same repository
      hint: remove one of them: ComfyUI would load its classes twice
      hint: comfy.toml is as it was
    exit 1

    $ comfy add node https://github.com/o/other --name mine
    error: comfy.toml already declares node "mine"
      hint: change it with `comfy set nodes.mine.KEY VALUE`
    exit 1

    $ comfy add node ../here
    error: could not open ../here: No such file or directory (os error 2)
      hint: give the folder of a node of your own; a repository is OWNER/NAME
    exit 1

    $ comfy add share out ~/out
    error: with this change: comfy.toml:23:1: mount "out" is not a place for a share
      hint: only models, models/…, input, output and user/… can be mounted
      hint: comfy.toml is as it was
    exit 1

    $ comfy add share out ~/out --mount output --access write
    Added share out to comfy.toml.
    `comfy plan` shows what would change on this machine.

    $ comfy set nodes.mine.enabled false
    Set nodes.mine.enabled in comfy.toml.

    $ comfy set nodes.mine.ref 12
    Set nodes.mine.ref in comfy.toml.

    $ comfy set comfyui.prt 1
    error: with this change: comfy.toml:10:1: unknown key `prt`
      hint: did you mean `port`?
      hint: comfy.toml is as it was
    exit 1

    $ comfy set comfyui 1
    error: `comfyui` is a section of comfy.toml
      hint: name one of its keys
    exit 1

    $ comfy remove node min
    error: comfy.toml has no node "min"
      hint: did you mean `mine`?
    exit 1
    "#);
    let mode = fs::metadata(w.toml()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "what was private is not opened");
    let after = fs::read_to_string(w.toml()).unwrap();
    insta::assert_snapshot!(after.strip_prefix(&before).unwrap_or(&after), @r#"

    [nodes.ComfyUI-Impact-Pack]
    repo = "https://github.com/ltdrdata/ComfyUI-Impact-Pack"

    [nodes.mine]
    repo = "https://github.com/o/r.git"
    ref = "12"
    enabled = false

    [shares.out]
    path = "~/out"
    mount = "output"
    access = "write"
    "#);
    let back = w.run(&["remove node mine ComfyUI-Impact-Pack", "remove share out"]);
    insta::assert_snapshot!(back, @"
    $ comfy remove node mine ComfyUI-Impact-Pack
    Removed node mine from comfy.toml.
    Removed node ComfyUI-Impact-Pack from comfy.toml.
    `comfy lock` removes the pin; `comfy plan` then shows what would change on this machine.

    $ comfy remove share out
    Removed share out from comfy.toml.
    `comfy plan` shows what would change on this machine.
    ");
    assert_eq!(fs::read_to_string(w.toml()).unwrap(), before);
    assert!(w.toml().is_symlink());
}
