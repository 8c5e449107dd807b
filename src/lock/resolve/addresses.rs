//! Where the locked wheels are to be had. comfy.lock does not say it, since it is the same file on
//! every mirror; other tools want to be told.

use std::collections::BTreeMap;

use super::Resolvers;
use crate::lock::LockedPython;
use crate::lock::markers::platform_marker;
use crate::lock::python::{DEFAULT_VARIANT, LockedPackage};
use crate::lock::uv::request::{self, AgeLimit, PreferredVersion, ResolutionQuestion};
use crate::lock::uv::response;
use crate::lock::uv::variant::LockVariant;
use crate::manifest::PythonSettings;
use crate::manifest::wheel_sources::WHEELS_INDEX;
use crate::problem::Result;
use crate::progress::Reporter;

/// Asks the indexes for the addresses of the locked wheels of machines without an accelerator, by
/// file name and hash.
///
/// # Errors
/// No uv, no answer, or an index that does not have a locked version any more.
pub(crate) fn wheel_addresses(
    settings: &PythonSettings,
    locked: &LockedPython,
    ask: &Resolvers,
    report: &dyn Reporter,
) -> Result<BTreeMap<(String, String), String>> {
    let job = report.start_job("python");
    let packages = || {
        let all = locked.packages.iter();
        all.filter(|p| p.serves_variant(DEFAULT_VARIANT) && !is_own(p))
    };
    let lines = packages().map(|p| {
        let marker = place_marker(locked, p).map(|m| format!(" ; {m}"));
        format!("{}=={}{}", p.name, p.version, marker.unwrap_or_default())
    });
    let members = [(request::OWN.to_string(), lines.collect::<Vec<String>>())];
    let variant = LockVariant::default_of(settings);
    let question = ResolutionQuestion {
        python: settings,
        members: &members,
        variant: &variant,
        purpose: "addresses-",
        constraints: Vec::new(),
        preferred: packages()
            .map(|p| PreferredVersion::of_locked(p, &locked.indexes))
            .collect(),
    };
    let workspace = request::build_workspace(&question, &AgeLimit::default());
    let answer = ask.uv.solve_workspace(&workspace, job.as_ref())?;
    let solved = response::read_solution(&answer, &workspace, &variant, &settings.indexes)?;
    let wheels = solved.packages.into_iter().flat_map(|p| p.wheels);
    Ok(wheels
        .filter_map(|w| Some(((w.file, w.sha256?), w.address)))
        .collect())
}

/// Whether it comes from `[python] wheels`, and from no index.
pub(crate) fn is_own(p: &LockedPackage) -> bool {
    p.index.as_deref() == Some(WHEELS_INDEX)
}

/// Where a package is installed as a marker, where that is not everywhere.
pub(crate) fn place_marker(locked: &LockedPython, p: &LockedPackage) -> Option<String> {
    let everywhere = p.platforms.is_empty() || p.platforms == locked.platforms;
    let places = (!everywhere).then(|| {
        let each = p.platforms.iter();
        let each = each.map(|p| format!("({})", platform_marker(*p)));
        each.collect::<Vec<_>>().join(" or ")
    });
    match (places, &p.marker) {
        (Some(places), Some(marker)) => Some(format!("({places}) and ({marker})")),
        (places, marker) => places.or_else(|| marker.clone()),
    }
}
