//! When a step has its turn: a plan's steps are sorted by [`Phase`], and inside one phase they keep
//! the order in which the kinds named them.

use super::step::Step;

/// The phases of an apply, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Prepare begins: everything up to `FetchModels` is slow, may fail, and changes nothing that
    /// is live. An interpreter comes first, since environments and bytecode are made with it.
    BuildPython,
    /// An environment needs its interpreter; a generation's link leads to it.
    BuildVenv,
    /// The code is compiled by the interpreter of its environment.
    BuildGeneration,
    /// The largest download comes last: whatever else fails has failed before it.
    FetchModels,
    /// Commit begins. A group exists before the user whose group it is.
    CreateGroups,
    /// The uids that build are noted before the account that they build for is there.
    PrepareUsers,
    /// A member needs both its user and its group.
    AddMembers,
    /// The sandbox user may have no jobs of its own from the moment it exists.
    DenyJobs,
    /// Folders belong to the accounts made before, and hold everything made afterwards.
    MakeDirs,
    /// A share's own folder comes before what is in it.
    MakeShares,
    /// The way to a share is opened once its folder has the right owner.
    GrantSearch,
    /// What is in a share is repaired below a folder that is right.
    MendShares,
    /// A model lands in a share whose modes are already right.
    PlaceModels,
    /// No rule of sudo's or of the boot is there without the program that it names.
    RemoveSystemFiles,
    /// The program goes after its rules; links are set once their targets' folders are there.
    LinksAndLauncher,
    /// A link of another name goes after the one that takes its place.
    RemoveLinks,
    /// A share is given back after no link leads to it.
    ReleaseShares,
    /// The way to a share is closed after the share was given back.
    RevokeSearch,
    /// The filter of an older uid goes first: the records hold one uid.
    RemoveEgressFilter,
    /// The filter is there before anything of the sandbox user's can be launched anew.
    SetEgressFilter,
    /// What nobody declared goes out of a generation before it is put in its place.
    Quarantine,
    /// A generation's link to its environment never leads nowhere.
    InstallVenv,
    /// The generation is whole, and at its place, before it is live.
    InstallGeneration,
    /// Lists of who may have no jobs are restored while the account is still there.
    PermitJobs,
    /// A membership ends before its user or its group does.
    RemoveMembers,
    /// How it is launched is written just before what is launched changes.
    WriteLaunch,
    /// The moment from which the new code is live.
    Switch,
    /// First content is for the code that is live; old generations go once they are not.
    AfterSwitch,
    /// An environment or an interpreter goes after the last generation that used it.
    RemoveUnused,
    /// An account goes after everything of its own.
    DeleteUsers,
    /// A group goes after its last member.
    DeleteGroups,
    /// The program is there before a rule names it.
    InstallLauncher,
    /// A rule comes last: it starts what is then complete.
    WriteSystemFiles,
    /// The records go last: a destroy that was killed can be repeated.
    RemoveInstance,
}

impl Step {
    /// When the step has its turn.
    pub fn phase(&self) -> Phase {
        match self {
            Step::BuildPython { .. } => Phase::BuildPython,
            Step::BuildVenv { .. } => Phase::BuildVenv,
            Step::BuildGeneration { .. } => Phase::BuildGeneration,
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
