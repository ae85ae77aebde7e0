//! `rl bootstrap`.

use std::path::Path;

use super::progress::Steps;
use super::{Terminal, complain, print};
use crate::build::bootstrap::{Error as BuildError, Options, Recipe};
use crate::build::mmdebstrap::{self, Way};
use crate::engine::images::{self, Import};
use crate::engine::{Context, Error};
use crate::model::{Reference, chain};
use crate::store::{MapKey, Store};
use crate::userns;

/// Make a base image of Debian or Ubuntu from packages, where no registry can be reached
///
/// mmdebstrap(1) does it, as you, inside a user namespace. Packages come from the sources, mirrors and proxies that
/// apt is set to on this machine, checked with its keys. The image is stored under the name it has in
/// the registry, so that `rl run` finds it.
#[derive(Debug, clap::Args)]
pub struct BootstrapArgs {
    /// Which packages: essential, apt, required, minbase, buildd, important or standard
    #[arg(long, value_name = "SET", default_value = "minbase")]
    variant: String,
    /// Further packages, with commas between them
    #[arg(long, value_name = "PACKAGE,…", value_delimiter = ',')]
    include: Vec<String>,
    /// The mirror to use instead of this machine's
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Show everything that mmdebstrap says
    #[arg(short, long)]
    pub verbose: bool,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// A release, such as debian:bookworm, debian:12-slim or ubuntu:24.04
    #[arg(value_name = "IMAGE")]
    reference: Reference,
}

/// Makes the image, prints its id; returns the exit status.
///
/// # Errors
/// The store's and the user namespace's; those of the making are printed here.
pub fn bootstrap(context: &Context<'_>, ui: &Terminal, args: &BootstrapArgs) -> Result<u8, Error> {
    let options = Options {
        variant: args.variant.clone(),
        include: args.include.clone(),
        mirror: args.mirror.clone(),
    };
    let path = context.caller()?.path.as_deref();
    let recipe = match Recipe::new(&args.reference, &options, path, Path::new("/etc/apt")) {
        Ok(recipe) => recipe,
        Err(error) => return Ok(fail(&error)),
    };
    for source in &recipe.sources {
        context.ui.detail(&format!(
            "packages from {} {} {}",
            source.uris.join(" "),
            source.suites.join(" "),
            source.components.join(" ")
        ));
    }
    let plan = userns::plan(&userns::Mode::Default, context.caller()?)?;
    let (way, notice) = Way::choose(&recipe, &plan, path);
    if let Some(notice) = notice {
        context.ui.notice(&notice);
    }
    let status = userns::run_inside_passing_signals(&plan, || {
        match make(context, ui, &args.reference, &recipe, &plan, way) {
            Ok(()) => 0,
            Err(Failure::Build(error)) => fail(&error),
            Err(Failure::Engine(error)) => context.ui.fail(&error),
        }
    })?;
    Ok(status)
}

enum Failure {
    Build(BuildError),
    Engine(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Engine(error.into())
    }
}

/// Inside the user namespace.
fn make(
    context: &Context<'_>,
    ui: &Terminal,
    reference: &Reference,
    recipe: &Recipe,
    plan: &userns::Plan,
    way: Way,
) -> Result<(), Failure> {
    let store = Store::open(&context.dirs.data)?;
    let work = store.work_dir()?;
    let steps = Steps::for_stderr(&reference.familiar(), ui.quiet, ui.verbose);
    let told = steps.clone();
    let mut engine = mmdebstrap::start(recipe, work.path(), plan, way, move |line| told.line(line))
        .map_err(Failure::Build)?;
    // Not earlier: the start forks, and there must be no thread then.
    steps.begin();
    let options = Import {
        reference: Some(reference.clone()),
        changes: vec![
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            "CMD [\"bash\"]".into(),
        ],
        message: Some("made from packages by rl bootstrap".into()),
        platform: None,
        created_by: Some(recipe.history()),
    };
    let map = MapKey::of(&plan.uid, &plan.gid);
    let imported = images::import(&store, &mut engine, &options, Some(&map));
    steps.done();
    if let Some(failure) = engine.failure() {
        return Err(Failure::Build(failure));
    }
    let image = imported?;
    print(format!("{}\n", image.id.hex()).as_bytes());
    Ok(())
}

fn fail(error: &BuildError) -> u8 {
    // Whoever pressed Ctrl-C knows.
    if !matches!(error, BuildError::Interrupted(_)) {
        complain(&chain(error), error.hint().as_deref());
    }
    error.status()
}
