//! The name of a user id. A static program cannot load NSS plug-ins: /etc/passwd is read here, and
//! getent(1) is asked for the users of a directory.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// The login name of `uid`, or `None` when neither /etc/passwd nor getent knows it. `path` is the
/// value of PATH.
pub fn user_name(uid: u32, path: Option<&OsStr>) -> Option<String> {
    let local = std::fs::read("/etc/passwd").unwrap_or_default();
    if let Some(name) = name_in(&String::from_utf8_lossy(&local), uid) {
        return Some(name);
    }
    let program = helper_process::find("getent", path)?;
    let output = Command::new(program)
        .args(["passwd", &uid.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    name_in(&String::from_utf8_lossy(&output.stdout), uid)
}

/// The first name with this uid in lines of passwd(5).
fn name_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields
            .next()
            .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        (fields.nth(1)?.parse::<u32>().ok()? == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_passwd_lines() {
        let text =
            "root:x:0:0::/root:/bin/sh\nbad\n#x:x:7:7:::\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_in(text, 1000).as_deref(), Some("ann"));
        assert_eq!(name_in(text, 7), None);
        assert_eq!(user_name(0, None).as_deref(), Some("root"));
    }
}
