//! The order of steps: a plan's steps are sorted by [`Phase`], and keep the order in which the
//! kinds added them within a phase.

use super::step::Step;

/// The phases of an apply, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Prepare begins: everything up to `FetchModels` is slow, may fail, and changes nothing that
    /// is live. An interpreter comes first, since environments and bytecode are made with it.
    BuildPython,
    /// An environment needs its interpreter; a generation's link leads to it.
    BuildVenv,
    /// The code is compiled by the interpreter of its environment.
    BuildGeneration,
    /// What was built is scanned before anything else depends on it.
    ScanGeneration,
    /// The largest download comes last: whatever else fails has failed before it.
    FetchModels,
    /// Commit begins. A group exists before the user whose group it is.
    CreateGroups,
    /// The build uids are recorded before the account that they build for exists.
    PrepareUsers,
    /// A member needs both its user and its group.
    AddMembers,
    /// The sandbox user may have no jobs of its own from the moment it exists.
    DenyJobs,
    /// Folders belong to the accounts made before, and hold everything made afterwards.
    MakeDirs,
    /// A share's own folder comes before what is in it.
    MakeShares,
    /// Search permission on the folders above a share is granted once its folder has the right
    /// owner.
    GrantSearch,
    /// The content of a share is repaired after its folder.
    MendShares,
    /// A model is installed after the modes of its share are repaired.
    PlaceModels,
    /// No sudo rule or boot unit exists without the program that it starts.
    RemoveSystemFiles,
    /// The program is removed after its rules; links are set once the folders of their targets
    /// exist.
    LinksAndLauncher,
    /// An old link is removed after the one that replaces it.
    RemoveLinks,
    /// A share is released after no link leads to it.
    ReleaseShares,
    /// Search permission is revoked after the share was released.
    RevokeSearch,
    /// The filter of an older uid is removed first: the records hold one uid.
    RemoveEgressFilter,
    /// The filter exists before anything can be launched as the sandbox user.
    SetEgressFilter,
    /// Undeclared entries are moved out of a generation before it is installed.
    Quarantine,
    /// An environment is installed before a generation links to it.
    InstallVenv,
    /// A generation is complete and installed before it is live.
    InstallGeneration,
    /// The deny lists are restored while the account still exists.
    PermitJobs,
    /// A membership is removed before its user or its group.
    RemoveMembers,
    /// The launch is written just before the live code changes.
    WriteLaunch,
    /// The moment from which the new code is live.
    Switch,
    /// First content belongs to the live code; an old generation is removed once it is not live.
    AfterSwitch,
    /// An environment or an interpreter is removed after the last generation that used it.
    RemoveUnused,
    /// An account is removed after everything that it owns.
    DeleteUsers,
    /// A group is removed after its last member.
    DeleteGroups,
    /// The program is installed before a rule names it.
    InstallLauncher,
    /// A rule is written last: it starts what is then complete.
    WriteSystemFiles,
    /// The records are removed last, so that a destroy that was killed can be repeated.
    RemoveInstance,
}

impl Step {
    /// Returns the phase of the step.
    pub(crate) fn phase(&self) -> Phase {
        match self {
            Step::BuildPython { .. } => Phase::BuildPython,
            Step::BuildVenv { .. } => Phase::BuildVenv,
            Step::BuildGeneration { .. } => Phase::BuildGeneration,
            Step::ScanGeneration { .. } => Phase::ScanGeneration,
            Step::FetchModels { .. } => Phase::FetchModels,
            Step::CreateGroup { .. } => Phase::CreateGroups,
            Step::ClaimIds { .. } | Step::CreateUser { .. } | Step::ChangeUser { .. } => {
                Phase::PrepareUsers
            }
            Step::AddMember { .. } => Phase::AddMembers,
            Step::DenyCronJobs { .. } => Phase::DenyJobs,
            Step::MakeDir { .. } => Phase::MakeDirs,
            Step::MakeShare { .. } => Phase::MakeShares,
            Step::GrantSearch { .. } => Phase::GrantSearch,
            Step::RepairShare { .. } => Phase::MendShares,
            Step::PlaceModel { .. } => Phase::PlaceModels,
            Step::RemoveSystemFile { .. } => Phase::RemoveSystemFiles,
            Step::SetLink { .. } | Step::RemoveLauncher { .. } => Phase::LinksAndLauncher,
            Step::RemoveLink { .. } => Phase::RemoveLinks,
            Step::ReleaseShare { .. } => Phase::ReleaseShares,
            Step::RevokeSearch { .. } => Phase::RevokeSearch,
            Step::RemoveEgressFilter { .. } => Phase::RemoveEgressFilter,
            Step::InstallEgressFilter { .. } => Phase::SetEgressFilter,
            Step::Quarantine { .. } => Phase::Quarantine,
            Step::InstallVenv { .. } => Phase::InstallVenv,
            Step::Install { .. } => Phase::InstallGeneration,
            Step::AllowCronJobs { .. } => Phase::PermitJobs,
            Step::RemoveMember { .. } => Phase::RemoveMembers,
            Step::WriteLaunch { .. } => Phase::WriteLaunch,
            Step::Switch { .. } => Phase::Switch,
            Step::Seed { .. } | Step::RemoveGeneration { .. } => Phase::AfterSwitch,
            Step::RemoveVenv { .. } | Step::RemovePython { .. } => Phase::RemoveUnused,
            Step::DeleteUser { .. } => Phase::DeleteUsers,
            Step::DeleteGroup { .. } => Phase::DeleteGroups,
            Step::InstallLauncher { .. } => Phase::InstallLauncher,
            Step::WriteSystemFile { .. } => Phase::WriteSystemFiles,
            Step::RemoveInstance { .. } => Phase::RemoveInstance,
        }
    }
}
