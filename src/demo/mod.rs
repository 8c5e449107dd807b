//! `comfy demo`: the whole cycle on an embedded example, shown by running the real comfy.
//!
//! [`place`] makes the folder, [`upstream`] the repositories that stand for GitHub, [`dotfiles`]
//! the user's own one; [`stage`] runs, shows and checks a command, [`story`] chooses them. Nothing
//! leaves the folder: no root, no network, no git program, no configuration of the user's.

pub(crate) mod dotfiles;
pub mod files;
pub(crate) mod place;
pub(crate) mod stage;
pub(crate) mod story;
pub(crate) mod upstream;

use std::path::PathBuf;

use super::problem::{Context, Result};
use super::render;

use crate::demo::place::DemoFolder;
use crate::demo::stage::DemoTerminal;

/// What the caller asked for.
pub(crate) struct DemoOptions {
    /// Keep the temporary folder.
    pub keep: bool,
    /// Work here instead of in a temporary folder, and keep it.
    pub dir: Option<PathBuf>,
}

/// Runs the story, and deletes the temporary folder afterwards.
///
/// # Errors
/// If the folder cannot be used, a step fails (the folder is then kept), or comfy is interrupted.
pub(crate) fn run(wish: &DemoOptions) -> Result<()> {
    let comfy = std::env::current_exe().context("find comfy's own program file")?;
    let place = DemoFolder::create(wish.dir.as_deref())?;
    let stays = wish.keep || !place.temporary;
    let told = story::tell_story(&mut DemoTerminal::new(&comfy, &place));
    match &told {
        Err(p) if !p.is_interrupted() => {
            return told.map_err(|p| {
                p.with_hint(format!(
                    "everything is kept for you to look at: {}",
                    place.dir.display()
                ))
            });
        }
        Err(_) if stays => render::print_note(&format!("Left {} as it is.", place.dir.display())),
        Ok(()) if stays => place.say_how_to_go_on(),
        told => {
            place.remove()?;
            if told.is_ok() {
                render::print_stdout(&format!(
                    "Deleted {} (--keep keeps it).",
                    place.dir.display()
                ));
            }
        }
    }
    told
}
