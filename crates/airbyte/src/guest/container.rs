//! A program that comes as a container image: what the container client is told. Whether there is one, its operator says.

use std::{collections::BTreeMap, path::Path};

use linkspan_core::{Error, ErrorKind, Result};

/// The setting that allows images, by the client that runs them.
pub const CONTAINERS: &str = "LINKSPAN_CONTAINERS";

/// The container client (`docker`, `podman` or a path), or nothing: images are refused then.
#[derive(Clone, Debug, Default)]
pub struct Containers(Option<String>);

impl Containers {
    pub fn none() -> Self {
        Self(None)
    }
    /// As the setting says it. Empty is not set.
    pub fn of(setting: Option<String>) -> Self {
        Self(setting.map(|client| client.trim().to_owned()).filter(|client| !client.is_empty()))
    }
    pub(super) fn client(&self) -> Result<&str> {
        self.0.as_deref().ok_or_else(|| {
            Error::new(ErrorKind::PermissionDenied, "container images are not run here")
                .with("setting", CONTAINERS)
                .fix(format!("set {CONTAINERS}=docker (or podman, or the path of such a client) where Linkspan runs; or name a `command`"))
        })
    }
}

/// A container that is to be run, and removed should it outlive its client.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub client: String,
    pub name: String,
}

impl Container {
    pub(super) fn new(client: &str) -> Self {
        Self { client: client.to_owned(), name: format!("linkspan-{}", uuid::Uuid::new_v4().simple()) }
    }

    /// The command that runs the image with its files at the same place as here, as the same user, so that only this one can read
    /// them. Variables are named, not told: an argument can be read by everybody on the machine.
    pub(super) fn command(&self, image: &str, folder: &Path, env: &BTreeMap<String, String>, user: (u32, u32)) -> Vec<String> {
        let folder = folder.display();
        let mut command: Vec<String> =
            [&self.client, "run", "--rm", "--interactive", "--init", "--name", &self.name].map(Into::into).to_vec();
        command.extend(["--user".into(), format!("{}:{}", user.0, user.1)]);
        command.extend(["--volume".into(), format!("{folder}:{folder}:ro")]);
        for name in env.keys() {
            command.extend(["--env".into(), name.clone()]);
        }
        command.push(image.to_owned());
        command
    }

    /// Ends a container whose client is gone. Nobody waits for it.
    pub(super) fn remove(&self) {
        use std::process::{Command, Stdio};
        let mut command = Command::new(&self.client);
        command.args(["rm", "--force", &self.name]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Ok(mut child) = command.spawn() {
            std::thread::spawn(move || drop(child.wait()));
        }
    }
}

/// An image is a name and nothing that the client would take for something else.
pub(super) fn check(image: &str) -> Result<()> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b);
    if !image.is_empty() && !image.starts_with('-') && image.bytes().all(is_plain) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ConfigInvalid, "this is no name of a container image")
        .with("field", "image")
        .fix("write it as `airbyte/source-faker:6.2.0`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_run_with_its_files_as_this_user_and_no_secret_is_an_argument() {
        let container = Container { client: "podman".into(), name: "linkspan-1".into() };
        let env = [("KEY".to_owned(), "canary".to_owned())].into();
        let command = container.command("airbyte/source-faker:6.2.0", Path::new("/tmp/x"), &env, (1000, 100));
        assert_eq!(
            command.join(" "),
            "podman run --rm --interactive --init --name linkspan-1 --user 1000:100 --volume /tmp/x:/tmp/x:ro --env KEY airbyte/source-faker:6.2.0"
        );
    }

    #[test]
    fn without_the_setting_images_are_refused_by_its_name() {
        for none in [Containers::none(), Containers::of(None), Containers::of(Some(" ".into()))] {
            let error = none.client().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(error.suggested_fix().unwrap().contains("LINKSPAN_CONTAINERS=docker"));
        }
        assert_eq!(Containers::of(Some("podman".into())).client().unwrap(), "podman");
        for bad in ["", "--privileged", "a b", "a;b", "x$y"] {
            assert_eq!(check(bad).unwrap_err().kind(), ErrorKind::ConfigInvalid, "{bad}");
        }
    }
}
