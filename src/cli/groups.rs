//! `rl container VERB` and `rl image VERB`: the same verbs, by what they are for.

use super::{
    CreateArgs, Verb, containers, events, files, images, lifecycle, pull, run_args, stats, system,
    which,
};

/// Verbs on containers
#[derive(Debug, clap::Args)]
pub struct ContainerArgs {
    #[command(subcommand)]
    verb: ContainerVerb,
}

#[derive(Debug, clap::Subcommand)]
enum ContainerVerb {
    Attach(lifecycle::AttachArgs),
    Commit(files::CommitArgs),
    Cp(files::CpArgs),
    #[command(disable_help_flag = true)]
    Create(Box<CreateArgs>),
    Diff(super::changes::DiffArgs),
    Exec(lifecycle::ExecArgs),
    Exists(which::ExistsArgs),
    Export(files::ExportArgs),
    /// Show what is known about containers, as JSON
    Inspect(images::InspectArgs),
    Kill(lifecycle::KillArgs),
    Logs(lifecycle::LogsArgs),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(containers::PsArgs),
    Pause(lifecycle::PauseArgs),
    Port(lifecycle::PortArgs),
    /// Remove the containers that do not run
    Prune(system::PruneArgs),
    Rename(lifecycle::RenameArgs),
    Restart(lifecycle::RestartArgs),
    #[command(visible_alias = "remove")]
    Rm(containers::RmArgs),
    #[command(disable_help_flag = true)]
    Run(Box<run_args::RunArgs>),
    Start(lifecycle::StartArgs),
    Stats(stats::StatsArgs),
    Stop(lifecycle::StopArgs),
    Top(lifecycle::TopArgs),
    Unpause(lifecycle::UnpauseArgs),
    Update(lifecycle::UpdateArgs),
    Wait(lifecycle::WaitArgs),
}

/// Verbs on images
#[derive(Debug, clap::Args)]
pub struct ImageArgs {
    #[command(subcommand)]
    verb: ImageVerb,
}

#[derive(Debug, clap::Subcommand)]
enum ImageVerb {
    Exists(which::ExistsArgs),
    History(images::HistoryArgs),
    Import(images::ImportArgs),
    /// Show what is known about images, as JSON
    Inspect(images::InspectArgs),
    Load(images::LoadArgs),
    #[command(visible_alias = "list")]
    Ls(images::ImagesArgs),
    /// Remove the images without a name that no container uses
    Prune(system::ImagePruneArgs),
    Pull(pull::PullArgs),
    #[command(visible_alias = "remove")]
    Rm(images::RmiArgs),
    Save(images::SaveArgs),
    Tag(images::TagArgs),
}

/// Verbs on everything that rl keeps
#[derive(Debug, clap::Args)]
pub struct SystemArgs {
    #[command(subcommand)]
    verb: SystemVerb,
}

#[derive(Debug, clap::Subcommand)]
enum SystemVerb {
    Df(system::DfArgs),
    Events(events::EventsArgs),
    Info(system::InfoArgs),
    Prune(system::SystemPruneArgs),
    Reset(system::ResetArgs),
}

impl From<ContainerArgs> for Verb {
    fn from(args: ContainerArgs) -> Verb {
        match args.verb {
            ContainerVerb::Attach(args) => Verb::Attach(args),
            ContainerVerb::Commit(args) => Verb::Commit(args),
            ContainerVerb::Cp(args) => Verb::Cp(args),
            ContainerVerb::Create(args) => Verb::Create(args),
            ContainerVerb::Diff(args) => Verb::Diff(args),
            ContainerVerb::Exec(args) => Verb::Exec(args),
            ContainerVerb::Exists(args) => Verb::Exists(which::Kind::Container, args),
            ContainerVerb::Export(args) => Verb::Export(args),
            ContainerVerb::Inspect(args) => Verb::Inspect(args.only("container")),
            ContainerVerb::Kill(args) => Verb::Kill(args),
            ContainerVerb::Logs(args) => Verb::Logs(args),
            ContainerVerb::Ls(args) => Verb::Ps(args),
            ContainerVerb::Pause(args) => Verb::Pause(args),
            ContainerVerb::Port(args) => Verb::Port(args),
            ContainerVerb::Prune(args) => Verb::Prune(system::Prune::Containers(args)),
            ContainerVerb::Rename(args) => Verb::Rename(args),
            ContainerVerb::Restart(args) => Verb::Restart(args),
            ContainerVerb::Rm(args) => Verb::Rm(args),
            ContainerVerb::Run(args) => Verb::Run(args),
            ContainerVerb::Start(args) => Verb::Start(args),
            ContainerVerb::Stats(args) => Verb::Stats(args),
            ContainerVerb::Stop(args) => Verb::Stop(args),
            ContainerVerb::Top(args) => Verb::Top(args),
            ContainerVerb::Unpause(args) => Verb::Unpause(args),
            ContainerVerb::Update(args) => Verb::Update(args),
            ContainerVerb::Wait(args) => Verb::Wait(args),
        }
    }
}

impl From<ImageArgs> for Verb {
    fn from(args: ImageArgs) -> Verb {
        match args.verb {
            ImageVerb::Exists(args) => Verb::Exists(which::Kind::Image, args),
            ImageVerb::History(args) => Verb::History(args),
            ImageVerb::Import(args) => Verb::Import(args),
            ImageVerb::Inspect(args) => Verb::Inspect(args.only("image")),
            ImageVerb::Load(args) => Verb::Load(args),
            ImageVerb::Ls(args) => Verb::Images(args),
            ImageVerb::Prune(args) => Verb::Prune(system::Prune::Images(args)),
            ImageVerb::Pull(args) => Verb::Pull(args),
            ImageVerb::Rm(args) => Verb::Rmi(args),
            ImageVerb::Save(args) => Verb::Save(args),
            ImageVerb::Tag(args) => Verb::Tag(args),
        }
    }
}

impl From<SystemArgs> for Verb {
    fn from(args: SystemArgs) -> Verb {
        match args.verb {
            SystemVerb::Df(args) => Verb::Df(args),
            SystemVerb::Events(args) => Verb::Events(args),
            SystemVerb::Info(args) => Verb::Info(args),
            SystemVerb::Prune(args) => Verb::Prune(system::Prune::System(args)),
            SystemVerb::Reset(args) => Verb::Reset(args),
        }
    }
}
