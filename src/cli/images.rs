//! `rl images`, `rmi`, `load`, `save`, `import`, `tag`, `inspect`.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal as _, Read, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{print, table};
use crate::engine::images::{self, Filter, Format, ImageError, Import, Removed};
use crate::engine::pull::PullError;
use crate::engine::{
    Context, Error, containers, image_for, lifecycle, networks, output, rmi, volumes,
};
use crate::model::Reference;
use crate::model::reference::Source;
use crate::model::template::Template;
use crate::model::text::escape_json;
use crate::registry::Address;
use crate::store::{MapKey, Store};
use crate::sys::patient::Patient;
use crate::{state, userns};

/// List images
#[derive(Debug, clap::Args)]
pub struct ImagesArgs {
    /// Show all images (there are no hidden ones, it changes nothing)
    #[arg(short, long)]
    all: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Show ids in full
    #[arg(long)]
    no_trunc: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Print with a template such as `{{.Repository}}:{{.Tag}}`, or `json`
    #[arg(long)]
    format: Option<String>,
    /// Show only what fits: reference=PATTERN, dangling=true|false, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<Filter>,
    /// A repository, or a repository with its tag
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// Remove images
#[derive(Debug, clap::Args)]
pub struct RmiArgs {
    /// Remove all names of an id, and the names of an image that containers use
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Load images from an archive or an OCI layout
#[derive(Debug, clap::Args)]
pub struct LoadArgs {
    /// The archive (compressed or not) or directory; standard input without it
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
}

/// Save images to an archive or an OCI layout
#[derive(Debug, clap::Args)]
pub struct SaveArgs {
    /// The file or directory; standard output without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// docker-archive, oci-archive or oci-dir
    #[arg(long, default_value = "docker-archive", value_name = "FORMAT")]
    format: Format,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Show what an image was made by
#[derive(Debug, clap::Args)]
pub struct HistoryArgs {
    /// Show sizes and times for people (false: bytes, and times as they are)
    #[arg(short = 'H', long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    human: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Show commands in full
    #[arg(long)]
    no_trunc: bool,
    /// Print with a template such as `{{.CreatedBy}}`, or `json`
    #[arg(long)]
    format: Option<String>,
    /// Name or id
    image: String,
}

/// Make an image from a tar of a root file system
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// Set the configuration with a Dockerfile instruction such as `CMD ["sh"]`
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// A comment for the image's history
    #[arg(short, long)]
    message: Option<String>,
    /// The platform the files are for, such as linux/arm64
    #[arg(long)]
    platform: Option<crate::model::Platform>,
    /// The archive, compressed or not: a file, an address (`https://…`, `http://…`), or `-` for standard input
    #[arg(value_name = "FILE|URL|-")]
    file: PathBuf,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<Reference>,
}

/// Give an image another name
#[derive(Debug, clap::Args)]
pub struct TagArgs {
    /// A name or id
    source: String,
    /// The new name
    target: String,
}

/// Show what is known about containers, images, networks and volumes, as JSON
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// Look only among these
    #[arg(long = "type", value_name = "KIND", value_parser = ["container", "image", "network", "volume"])]
    pub(super) kind: Option<String>,
    /// Print with a template such as `{{.Config.Env}}`, or `json`
    #[arg(short, long)]
    format: Option<String>,
    /// Show how much containers have written, too
    #[arg(short, long)]
    size: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl InspectArgs {
    /// Looks only among things of one kind.
    pub(super) fn only(self, kind: &str) -> Self {
        InspectArgs {
            kind: Some(kind.to_owned()),
            ..self
        }
    }
}

fn store(context: &Context<'_>) -> Result<Store, Error> {
    Ok(Store::open(&context.dirs.data)?)
}

/// `rl images`.
///
/// # Errors
/// The store cannot be read, or a bad template.
pub fn images(context: &Context<'_>, args: &ImagesArgs) -> Result<u8, Error> {
    let usual = match (args.quiet, args.digests) {
        (true, _) => "{{.ID}}",
        (_, true) => {
            "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
        }
        _ => "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    };
    let template = table::template(args.format.as_deref(), usual)?;
    let mut rows = images::rows(&store(context)?, args.name.as_deref(), &args.filter)?;
    if args.quiet {
        let mut seen = std::collections::HashSet::new();
        rows.retain(|row| seen.insert(row.id));
    }
    let rows = rows.iter().map(|row| table::Row {
        fields: row.fields(args.no_trunc),
        methods: serde_json::Map::new(),
    });
    Ok(print(table::list(&template, &title, rows)?.as_bytes()))
}

/// The head of a template's column.
fn title(field: &str) -> String {
    match field {
        "ID" => "IMAGE ID".to_owned(),
        "CreatedSince" => "CREATED".to_owned(),
        "CreatedAt" => "CREATED AT".to_owned(),
        other => other.to_uppercase(),
    }
}

/// `rl rmi`: every failure is told, the rest is done.
///
/// # Errors
/// The user namespace for the deletion of layers.
pub fn rmi(context: &Context<'_>, args: &RmiArgs) -> Result<u8, Error> {
    let store = store(context)?;
    let mut status = 0;
    let mut out = String::new();
    let mut deleted = false;
    for word in &args.images {
        match images::remove(&store, word, args.force) {
            Ok(done) => {
                for removed in done {
                    context.image_removed(&removed);
                    out += &match removed {
                        Removed::Untagged(name) => format!("Untagged: {}\n", name.familiar()),
                        Removed::Deleted(id) => {
                            deleted = true;
                            format!("Deleted: {id}\n")
                        }
                    };
                }
            }
            Err(error) => status = context.ui.fail(&error.into()).min(1),
        }
    }
    if deleted {
        rmi::collect(context)?;
    }
    Ok(print(out.as_bytes()).max(status))
}

/// `rl load`.
///
/// # Errors
/// No archive, a broken one, no space.
pub fn load(context: &Context<'_>, args: &LoadArgs) -> Result<u8, Error> {
    if args.input.is_none() && io::stdin().is_terminal() {
        return Err(ImageError::TerminalInput.into());
    }
    let plan = userns::plan(&userns::Mode::Default, context.caller()?)?;
    let map = MapKey::of(&plan.uid, &plan.gid);
    image_for::inside(context, &plan, || {
        let store = store(context)?;
        let loaded = match &args.input {
            Some(path) => images::load(&store, &Source::Rootfs(path.clone()), Some(&map))?,
            None => images::load_stream(
                &store,
                BufReader::new(Patient(io::stdin().lock())),
                Some(&map),
            )?,
        };
        let mut out = String::new();
        for image in loaded {
            context.event("image", &image.id.to_string(), &image.id.hex(), "load");
            for name in &image.references {
                out += &format!("Loaded image: {}\n", name.familiar());
            }
            if image.references.is_empty() {
                out += &format!("Loaded image ID: {}\n", image.id);
            }
        }
        if !args.quiet {
            print(out.as_bytes());
        }
        Ok(())
    })?;
    Ok(0)
}

/// `rl save`.
///
/// # Errors
/// No such image, a terminal on standard output, a failed write.
pub fn save(context: &Context<'_>, args: &SaveArgs) -> Result<u8, Error> {
    let store = store(context)?;
    let written = match (&args.output, args.format) {
        (Some(dir), Format::OciDir) => images::save(
            &store,
            &args.images,
            args.format,
            Some(dir),
            &mut io::sink(),
        ),
        (Some(path), _) => {
            return output::to_file(path, |mut out| {
                images::save(&store, &args.images, args.format, None, &mut out)?;
                out.flush().map_err(|source| Error::Write {
                    path: path.clone(),
                    source,
                })
            })
            .map(|()| 0);
        }
        (None, Format::OciDir) => Err(ImageError::NeedsDirectory),
        (None, _) if io::stdout().is_terminal() => Err(ImageError::TerminalOutput),
        (None, _) => {
            let mut out = output::stdout()?;
            let saved = images::save(&store, &args.images, args.format, None, &mut out);
            match saved {
                Err(ImageError::Io { source, .. })
                    if source.kind() == io::ErrorKind::BrokenPipe =>
                {
                    // Who reads no more has seen enough; there is nobody to tell.
                    let _ = out.into_parts();
                    return Err(Error::Reported(1));
                }
                other => other,
            }
        }
    };
    written.map_err(Error::from)?;
    Ok(0)
}

/// `rl import`.
///
/// # Errors
/// A file that cannot be read or is no tar, a change that cannot be applied.
pub fn import(context: &Context<'_>, args: &ImportArgs) -> Result<u8, Error> {
    let stdin = args.file.as_os_str() == "-";
    if stdin && io::stdin().is_terminal() {
        return Err(ImageError::TerminalInput.into());
    }
    let word = args.file.to_str().unwrap_or_default();
    let address = Address::is_meant(word).then(|| Address::parse(word));
    let address = address.transpose().map_err(PullError::Registry)?;
    let reader: Box<dyn Read> = if stdin {
        Box::new(Patient(io::stdin().lock()))
    } else if address.is_some() {
        Box::new(io::empty())
    } else {
        Box::new(File::open(&args.file).map_err(|source| ImageError::Io {
            call: format!("open(`{}`)", args.file.display()),
            source,
        })?)
    };
    let options = Import {
        reference: args.reference.clone(),
        changes: args.change.clone(),
        message: args.message.clone().or_else(|| {
            let address = address.as_ref()?;
            Some(format!("Imported from {address}"))
        }),
        platform: args.platform.clone(),
        created_by: None,
    };
    let plan = userns::plan(&userns::Mode::Default, context.caller()?)?;
    let map = MapKey::of(&plan.uid, &plan.gid);
    image_for::inside(context, &plan, || {
        let store = store(context)?;
        let reader = match &address {
            Some(address) => Box::new(image_for::file(address)?),
            None => reader,
        };
        let loaded = images::import(&store, reader, &options, Some(&map));
        let loaded = loaded.map_err(|error| {
            // What had been stored of it; where somebody else works on the store, the next removal does it.
            let _ = self::store(context).map(|store| store.gc(false));
            image_for::broken_off(error)
        })?;
        context.event("image", &loaded.id.to_string(), &loaded.id.hex(), "import");
        print(format!("{}\n", loaded.id).as_bytes());
        Ok(())
    })?;
    Ok(0)
}

/// `rl history`: what each step added, the newest first.
///
/// # Errors
/// No such image, or a bad template.
pub fn history(context: &Context<'_>, args: &HistoryArgs) -> Result<u8, Error> {
    let store = store(context)?;
    let image = images::find(&store, &args.image)?;
    let layers = store.unpacked_layers(&image)?;
    let mut sizes = image.diff_ids.iter().map(|id| layers.get(id));
    let steps = image.config.history().clone().unwrap_or_default();
    let mut rows: Vec<table::Row> = steps
        .iter()
        .map(|step| {
            let empty = step.empty_layer().unwrap_or(false);
            let size = if empty { None } else { sizes.next().flatten() };
            let mut command = step.created_by().clone().unwrap_or_default();
            if !args.no_trunc && command.chars().count() > 45 {
                command = command.chars().take(44).chain(['…']).collect();
            }
            let created = step.created().as_deref().and_then(images::parse_rfc3339);
            let since = match args.human {
                true => created.map(|at| images::ago(at, images::now())),
                false => step.created().clone(),
            };
            let size = size.copied().unwrap_or(0);
            let size = match args.human {
                true => images::human_size(size),
                false => size.to_string(),
            };
            table::Row {
                fields: json!({
                    "ID": "<missing>",
                    "CreatedSince": since.unwrap_or_else(|| "N/A".into()),
                    "CreatedAt": step.created(),
                    "CreatedBy": command,
                    "Size": size,
                    "Comment": step.comment().clone().unwrap_or_default(),
                }),
                methods: serde_json::Map::new(),
            }
        })
        .collect();
    rows.reverse();
    if let Some(newest) = rows.first_mut() {
        let id = match args.no_trunc {
            true => image.id.to_string(),
            false => image.id.hex()[..12].to_owned(),
        };
        newest.fields["ID"] = json!(id);
    }
    let usual = match args.quiet {
        true => "{{.ID}}",
        false => "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    };
    let template = table::template(args.format.as_deref(), usual)?;
    let title = |field: &str| match field {
        "ID" => "IMAGE".to_owned(),
        "CreatedSince" => "CREATED".to_owned(),
        "CreatedBy" => "CREATED BY".to_owned(),
        other => other.to_uppercase(),
    };
    Ok(print(table::list(&template, &title, rows)?.as_bytes()))
}

/// `rl tag`.
///
/// # Errors
/// No such image, or a bad name.
pub fn tag(context: &Context<'_>, args: &TagArgs) -> Result<u8, Error> {
    let name = images::tag(&store(context)?, &args.source, &args.target)?;
    context.event("image", &args.source, &name.familiar(), "tag");
    Ok(0)
}

/// A container of this name, else an image.
fn look_at(
    context: &Context<'_>,
    store: &Store,
    args: &InspectArgs,
    name: &str,
) -> Result<Value, Error> {
    let kind = args.kind.as_deref();
    let asked = |word: &str| kind.is_none_or(|kind| kind == word);
    if asked("container") {
        match lifecycle::find(context, name) {
            Ok(container) => {
                let networks = state::Networks::new(context.dirs.networks());
                let mut value = containers::inspect(&container, &networks);
                if args.size {
                    let mut listed = containers::listed(context, true)?;
                    listed.retain(|other| other.spec.id == container.spec.id);
                    if let [(written, whole)] = containers::sizes(context, &listed)?[..] {
                        value["SizeRw"] = written.into();
                        value["SizeRootFs"] = whole.into();
                    }
                }
                return Ok(value);
            }
            Err(
                error @ Error::State(state::Error::Damaged { .. } | state::Error::Ambiguous(_)),
            ) => return Err(error),
            Err(error) if kind.is_some() => return Err(error),
            Err(_) => {}
        }
    }
    if asked("image") {
        let image = images::find(store, name).and_then(|image| images::inspect(store, &image));
        match image {
            Err(ImageError::Store(error)) => return Err(ImageError::Store(error).into()),
            Err(_) if kind.is_none() => {}
            other => return Ok(other?),
        }
    }
    if asked("network") {
        match networks::inspect(context, name) {
            Err(Error::State(state::Error::NoNetwork(_))) if kind.is_none() => {}
            other => return other,
        }
    }
    match volumes::find(context, name) {
        Err(Error::NoVolume(name)) if kind.is_none() => Err(Error::Nothing(name)),
        volume => Ok(super::volumes::fields(&volume?)),
    }
}

/// `rl inspect`: what is there is printed even when something else is not.
///
/// # Errors
/// A bad template.
pub fn inspect(context: &Context<'_>, args: &InspectArgs) -> Result<u8, Error> {
    let template = args.format.as_deref().map(Template::parse).transpose()?;
    let store = store(context)?;
    let mut status = 0;
    let mut found = Vec::new();
    for name in &args.names {
        match look_at(context, &store, args, name) {
            Ok(value) => found.push(value),
            Err(error) => status = context.ui.fail(&error).min(1),
        }
    }
    let out = match template {
        Some(template) => {
            let mut out = String::new();
            for value in &found {
                out += &template.fill(value, &serde_json::Map::new())?;
                out.push('\n');
            }
            out
        }
        None => format!("{}\n", pretty(&Value::Array(found))),
    };
    Ok(print(out.as_bytes()).max(status))
}

/// Indented JSON in which characters that a terminal would obey are written as escapes.
fn pretty(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    escape_json(&text)
}
