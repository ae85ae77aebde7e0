use super::*;

fn host<'a>() -> Host<'a> {
    Host {
        program: Path::new("/usr/bin/rl"),
        data_home: None,
        exists: &|_| false,
    }
}

/// A directory with files in it.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = tree.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Services by name, links, errors.
    fn make(&self, directories: &[&str]) -> Generated {
        let directories: Vec<PathBuf> = directories.iter().map(|dir| self.path(dir)).collect();
        let (found, errors) = read(&directories);
        let mut generated = generate(found, &host());
        generated.errors.extend(errors);
        generated
    }
}

fn names(generated: &Generated) -> Vec<&str> {
    let units = generated.units.iter();
    units.map(|(name, _)| name.as_str()).collect()
}

const GOOD: &str = "[Container]\nImage=good\n";

#[test]
fn the_first_directory_counts_and_one_bad_file_is_no_reason_to_stop() {
    let tree = Tree::new(&[
        ("own/web.container", GOOD),
        ("own/deep/er/db.container", GOOD),
        ("own/bad.container", "[Container]\nNo=1\n"),
        (
            "own/x.network",
            "[Network]\nSubnet=10.7.0.0/24\nInternal=yes\nLabel=a=b c\n",
        ),
        ("own/two.network", "[Network]\nSubnet=a\nSubnet=b\n"),
        ("own/odd.network", "[Network]\nIPRange=a\n"),
        ("own/y.pod", "[Pod]\n"),
        ("own/notes.txt", ""),
        ("all/web.container", "[Container]\nImage=other\n"),
        (
            "all/data.volume",
            "[Volume]\nLabel=a=b\nType=none\nDevice=/srv/x\nOptions=bind,ro\n",
        ),
    ]);
    let made = tree.make(&["own", "missing", "all"]);
    assert_eq!(
        names(&made),
        [
            "data-volume.service",
            "db.service",
            "web.service",
            "x-network.service"
        ]
    );
    assert!(made.units[2].1.contains(" good\n"), "{:?}", made.units[2]);
    let network = "ExecStart=/usr/bin/rl network create --ignore --subnet=10.7.0.0/24 --internal --label=a=b --label=c \
                   systemd-x\n";
    assert!(made.units[3].1.contains(network), "{:?}", made.units[3]);
    assert!(
        made.units[0]
            .1
            .contains("ExecStart=/usr/bin/rl volume create --label=a=b --opt=type=none --opt=device=/srv/x --opt=o=bind,ro systemd-data\n"),
        "{:?}",
        made.units[0]
    );
    let mut errors: Vec<_> = made.errors.iter().map(ToString::to_string).collect();
    errors.sort();
    let own = tree.path("own").display().to_string();
    assert_eq!(
        errors,
        [
            format!("{own}/bad.container:2: unknown key `No` in `[Container]`"),
            format!("{own}/odd.network:2: `IPRange=` of podman is not there yet"),
            format!("{own}/two.network:3: `Subnet=b`: one at a time"),
            format!("{own}/y.pod: `.pod` files are not there yet"),
        ]
    );
}

#[test]
fn drop_ins_from_the_general_to_the_special() {
    let tree = Tree::new(&[
        (
            "own/a-b@1.container",
            "[Container]\nImage=i\nExec=file\nLabel=f=1\n",
        ),
        ("own/container.d/10.conf", "[Container]\nLabel=ten=kind\n"),
        (
            "own/container.d/90.conf",
            "[Container]\nLabel=ninety=kind\n",
        ),
        (
            "own/a-.container.d/50.conf",
            "[Container]\nLabel=fifty=prefix\n",
        ),
        (
            "own/a-b@.container.d/50.conf",
            "[Container]\nLabel=fifty=template\n",
        ),
        (
            "own/a-b@1.container.d/90.conf",
            "[Container]\nLabel=ninety=own\nExec=\nExec=other\n",
        ),
        (
            "all/a-b@1.container.d/90.conf",
            "[Container]\nLabel=ninety=all\n",
        ),
        (
            "all/a-b@1.container.d/95.conf",
            "[Install]\nWantedBy=default.target\n",
        ),
        (
            "own/a-b@2.container.d/20.conf",
            "[Container]\nLabel=x=other\n",
        ),
        ("own/a-b@1.container.d/note", "nonsense"),
    ]);
    let made = tree.make(&["own", "all"]);
    assert!(made.errors.is_empty(), "{:?}", made.errors);
    assert_eq!(names(&made), ["a-b@1.service"]);
    let line = "--label=f=1 --label=ten=kind --label=fifty=template --label=ninety=own i other\n";
    assert!(made.units[0].1.contains(line), "{}", made.units[0].1);
    assert_eq!(
        made.links,
        [(
            "default.target.wants/a-b@1.service".into(),
            "../a-b@1.service".into()
        )]
    );
}

#[test]
fn what_install_asks_for_is_linked() {
    let tree = Tree::new(&[
        (
            "q/web.container",
            "[Container]\nImage=i\n[Install]\nWantedBy=a.target b.target\nRequiredBy=c.service\nUpheldBy=d.target\nAlias=e.service\n",
        ),
        (
            "q/t@.container",
            "[Container]\nImage=i\n[Install]\nWantedBy=a.target\nDefaultInstance=7\n",
        ),
        (
            "q/n@.container",
            "[Container]\nImage=i\n[Install]\nWantedBy=a.target\n",
        ),
        (
            "q/w.container",
            "[Container]\nImage=i\n[Install]\nWantedBy=../../x.target\n",
        ),
        (
            "q/v.container",
            "[Container]\nImage=i\n[Install]\nAlso=x.service\n",
        ),
    ]);
    let made = tree.make(&["q"]);
    let mut links: Vec<_> = made
        .links
        .iter()
        .map(|(a, b)| (a.to_str().unwrap(), b.to_str().unwrap()))
        .collect();
    links.sort();
    assert_eq!(
        links,
        [
            ("a.target.wants/t@7.service", "../t@.service"),
            ("a.target.wants/web.service", "../web.service"),
            ("b.target.wants/web.service", "../web.service"),
            ("c.service.requires/web.service", "../web.service"),
            ("d.target.upholds/web.service", "../web.service"),
            ("e.service", "web.service"),
        ]
    );
    assert_eq!(made.errors.len(), 2, "{:?}", made.errors);
    assert_eq!(names(&made), ["n@.service", "t@.service", "web.service"]);
}

#[test]
fn one_service_has_one_file() {
    let tree = Tree::new(&[
        ("q/a.container", GOOD),
        ("q/b.container", "[Container]\nImage=i\nServiceName=a\n"),
        ("q/c.volume", "[Volume]\nServiceName=own\nVolumeName=v\n"),
        (
            "q/d.container",
            "[Unit]\nAfter=c.volume\n[Container]\nImage=i\nVolume=c.volume:/c\n",
        ),
    ]);
    let made = tree.make(&["q"]);
    assert_eq!(names(&made), ["a.service", "own.service", "d.service"]);
    assert!(
        made.units[2]
            .1
            .contains("Requires=own.service\nAfter=own.service\n")
    );
    assert!(made.units[2].1.contains("--volume=v:/c"));
    assert!(matches!(&made.errors[..], [Error::Twice { service, .. }] if service == "a.service"));
}

#[test]
fn what_was_written_goes_away_and_what_is_of_others_stays() {
    let install = format!("{GOOD}[Install]\nWantedBy=x.target\nAlias=y.service\n");
    let tree = Tree::new(&[
        ("q/a.container", &install),
        ("q/b.container", GOOD),
        ("out/b.service", "[Unit]\n"),
        (
            "out/rl-c.service",
            "# Made by rl from container c; what is changed here is lost.\n",
        ),
    ]);
    let out = tree.path("out");
    let write = || {
        let generated = tree.make(&["q"]);
        assert!(generated.errors.is_empty());
        write(&generated, &out)
    };
    for _ in 0..2 {
        let errors = write();
        assert!(
            matches!(&errors[..], [Error::Foreign(path)] if path.ends_with("b.service")),
            "{errors:?}"
        );
        assert!(out.join("a.service").exists() && out.join("x.target.wants/a.service").exists());
    }
    assert_eq!(
        std::fs::read_to_string(out.join("b.service")).unwrap(),
        "[Unit]\n"
    );
    std::fs::remove_file(tree.path("q/a.container")).unwrap();
    write();
    assert!(!out.join("a.service").exists() && !out.join("y.service").is_symlink());
    assert!(!out.join("x.target.wants/a.service").is_symlink());
    assert!(out.join("rl-c.service").exists());
}

#[test]
fn where_files_are_looked_for() {
    let path = search_path(
        Scope::User,
        1000,
        Some(Path::new("/h/.config")),
        Some(Path::new("/run/user/1000")),
    );
    let path: Vec<_> = path.iter().map(|dir| dir.to_str().unwrap()).collect();
    assert_eq!(
        path,
        [
            "/run/user/1000/containers/systemd",
            "/h/.config/containers/systemd",
            "/etc/containers/systemd/users/1000",
            "/etc/containers/systemd/users",
            "/usr/share/containers/systemd/users/1000",
            "/usr/share/containers/systemd/users",
        ]
    );
    // What is another user's in the directory of all is not read.
    let tree = Tree::new(&[
        ("users/1001/a.container", GOOD),
        ("users/b/c.container", GOOD),
    ]);
    assert_eq!(names(&tree.make(&["users"])), ["c.service"]);
}

proptest::proptest! {
    /// Whatever a file holds, it is a service that reads back, or an error.
    #[test]
    fn no_text_is_too_much(text in "(\\[(Container|Unit|Install|Service)\\]\n|(Image|Exec|After|Volume|WantedBy)=[ -~]{0,12}\n|[ -~]{0,6}\n){0,8}") {
        let name = Name::of("w.container").unwrap();
        let file = (PathBuf::from("/q/w.container"), text);
        let made = generate(vec![Found { name, file, drop_ins: Vec::new() }], &host());
        for (_, text) in &made.units {
            proptest::prop_assert!(Unit::parse(Path::new("/x"), text).is_ok(), "{}", text);
        }
        proptest::prop_assert_eq!(made.units.len() + made.errors.len(), 1);
    }
}
