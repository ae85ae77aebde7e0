//! `rl commit`: what a container has become, as an image.

use std::io::Write;
use std::os::fd::AsFd as _;

use serde_json::{Map, Value, json};

use super::super::images::{Compose, compose};
use super::super::{Context, Error, changes, containers, image_for, lifecycle, ports, rungs};
use crate::model::Reference;
use crate::model::spec::{ContainerSpec, RootfsSource};
use crate::state::{Container, Status};
use crate::store::pack::{Packer, Rules};
use crate::store::{Image, MapKey, Store};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The image's name; without one it is kept nameless.
    pub reference: Option<Reference>,
    /// Dockerfile instructions that set the configuration.
    pub changes: Vec<String>,
    /// Who made it.
    pub author: Option<String>,
    /// A comment for the history.
    pub message: Option<String>,
    /// Nothing in the container goes on meanwhile.
    pub pause: bool,
}

/// Makes an image of a container's root file system and configuration, and prints its id: the layers of the container's
/// own image and one of what has changed. Where the root is no overlay, it is one layer of everything.
///
/// # Errors
/// No such container; its image is gone; its files cannot be read; no space.
pub fn commit(context: &Context<'_>, word: &str, request: &Commit) -> Result<(), Error> {
    let container = lifecycle::find(context, word)?;
    if container.spec.rootfs == RootfsSource::Host {
        return Err(Error::Unfit {
            name: word.to_owned(),
            why: "is a view of this machine, which no image holds",
        });
    }
    let pause = request.pause && container.state.status == Status::Running;
    let name = [container.spec.id.clone()];
    if pause {
        for done in lifecycle::pause(context, &name, true) {
            done?;
        }
    }
    let made = make(context, &container, request);
    if pause {
        for done in lifecycle::pause(context, &name, false) {
            // It may have been ended meanwhile.
            let _ = done;
        }
    }
    made
}

fn make(context: &Context<'_>, container: &Container, request: &Commit) -> Result<(), Error> {
    let spec = &container.spec;
    let plan = containers::plan_for(context, spec)?;
    let map = MapKey::of(&plan.uid, &plan.gid);
    let layered =
        matches!(spec.rootfs, RootfsSource::Layers { .. }) && !rungs::is_copy(container.dir());
    image_for::inside(context, &plan, || {
        let store = Store::open(&context.dirs.data)?;
        let base = match &spec.image_id {
            Some(id) => Some(
                store
                    .image_by_id(&id.to_string())?
                    .ok_or_else(|| Error::Vanished(spec.image.clone()))?,
            ),
            None => None,
        };
        let compose_request = Compose {
            reference: request.reference.clone(),
            parent: spec.image_id,
            config: configuration(spec, base.as_ref()),
            changes: request.changes.clone(),
            author: request.author.clone(),
            comment: request.message.clone(),
            created_by: spec.args.join(" "),
        };
        let pack = |out: &mut dyn Write| pack(context, container, layered, out);
        let below = base.as_ref().filter(|_| layered);
        let made = compose(&store, below, &compose_request, &map, pack)?;
        let (id, name) = (made.id.to_string(), spec.name.clone());
        context.event("image", &id, &name, "commit");
        context.ui.data(&id);
        Ok(())
    })
}

fn pack(
    context: &Context<'_>,
    container: &Container,
    layered: bool,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let points = changes::points(container);
    let is_point = |path: &[u8]| points.contains(&[b"/", path].concat());
    let top = match &container.spec.rootfs {
        RootfsSource::Directory(path) => path.clone(),
        _ => container.dir().join("upper"),
    };
    let dir = changes::open_path(&top)?;
    let rules = Rules {
        layer: layered,
        points: &is_point,
    };
    let mut packer = Packer::new(out, rules);
    packer.tree(dir.as_fd(), !layered)?;
    for note in packer.finish()?.1 {
        context.ui.notice(&note);
    }
    Ok(())
}

/// What was said when the container was made, where it differs from its image.
fn configuration(spec: &ContainerSpec, base: Option<&Image>) -> Map<String, Value> {
    let old = base.and_then(|image| image.config.config().clone());
    let old = old.unwrap_or_default();
    let mut config = Map::new();
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let (entrypoint, cmd) = (list(old.entrypoint()), list(old.cmd()));
    if spec.args != [entrypoint.clone(), cmd].concat() {
        match spec.args.strip_prefix(&entrypoint[..]) {
            Some(words) => drop(config.insert("Cmd".into(), json!(words))),
            None => {
                config.insert("Entrypoint".into(), json!([]));
                config.insert("Cmd".into(), json!(spec.args));
            }
        }
    }
    // Made for each container anew.
    let own = ["HOSTNAME", "container", "TERM", "HOME"];
    let inherited = list(old.env());
    let env = spec.env.iter().filter(|variable| {
        let name = variable
            .split_once('=')
            .map_or(&***variable, |(name, _)| name);
        inherited.contains(variable) || !own.contains(&name)
    });
    config.insert("Env".into(), json!(env.collect::<Vec<_>>()));
    if !spec.user.is_empty() {
        config.insert("User".into(), json!(spec.user));
    }
    if spec.cwd != "/" || old.working_dir().is_some() {
        config.insert("WorkingDir".into(), json!(spec.cwd));
    }
    if !spec.exposed.is_empty() {
        let ports = ports::each(&spec.exposed).map(|port| (port, json!({})));
        config.insert("ExposedPorts".into(), ports.collect());
    }
    if !spec.labels.is_empty() {
        config.insert("Labels".into(), json!(spec.labels));
    }
    config
}
