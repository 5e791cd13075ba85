//! Programs of others as connectors of the house: an Airbyte source or a Singer tap is started for each stream and read
//! line by line; an Airbyte destination or a Singer target is started for each commit and written to.

mod config;
mod container;
mod discovered;
mod lane;
mod language;
mod lines;
mod process;
mod singer;
mod source;
mod spool;
mod told;
mod writing;

use std::sync::Arc;

use async_trait::async_trait;
use linkspan_core::{Checked, Connector, ConnectorType, Context, Destination, Error, ErrorKind, Result, Role, Source, Spec, UrlForm};
use serde_json::json;

pub use container::{CONTAINERS, Containers};

use config::{ExecConfig, of_url};
use source::Guest;

use crate::program::Encode;

/// Whether programs of others may be started here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// A person's own command: what they name runs as they themselves do.
    Allowed,
    /// A server, whose callers would run code on its machine.
    Refused,
}

/// The type `exec`. Where programs are refused it is in the catalog and cannot be opened. `encode` is how rows look as JSON.
pub fn exec_type(programs: Programs, containers: Containers, encode: Encode) -> ConnectorType {
    let spec = Spec {
        name: "exec".into(),
        title: "A program that speaks Airbyte or Singer".into(),
        docs: include_str!("guest/docs.md").into(),
        aliases: vec!["airbyte_program".into(), "singer_tap".into(), "singer_target".into()],
        roles: vec![Role::Source, Role::Destination],
        example: json!({"command": ["/opt/venv/bin/source-faker"], "config": {"count": 1000}}),
        url: Some(UrlForm { schemes: &["exec"], extensions: &[], config: of_url }),
        ..Spec::empty()
    };
    ConnectorType::new(spec, move |config: ExecConfig, context: Context| {
        if programs == Programs::Refused {
            return Err(Error::new(ErrorKind::PermissionDenied, "this server starts no programs of others")
                .fix("its operator can allow them with LINKSPAN_ALLOW_EXEC=1; or run `linkspan sync` yourself"));
        }
        config.check()?;
        if config.image.is_some() {
            containers.client()?;
        }
        Ok(Opened { guest: Guest::new(config, context, containers.clone()), encode })
    })
}

/// A guest at either end of a connection.
struct Opened {
    guest: Guest,
    encode: Encode,
}

#[async_trait]
impl Connector for Opened {
    async fn check(&self) -> Result<Checked> {
        self.guest.check().await
    }
    fn source(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(self.guest.clone()))
    }
    fn destination(&self) -> Option<Arc<dyn Destination>> {
        Some(Arc::new(writing::Into { guest: self.guest.clone(), encode: self.encode }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_rows(_: &arrow_array::RecordBatch, _: &mut Vec<u8>) -> linkspan_core::Result<()> {
        Ok(())
    }

    #[test]
    fn a_url_is_a_command_and_the_file_of_its_config() {
        let config = of_url("exec:/bin/source -x?config=./c.json").unwrap();
        assert_eq!(config, json!({"command": ["/bin/source", "-x"], "config_file": "./c.json"}));
        assert!(of_url("exec:/bin/source?password=x").is_err());
    }

    #[test]
    fn a_server_opens_no_program_and_a_config_is_given_once() {
        let open = |programs, config| exec_type(programs, Containers::none(), no_rows).open(config, Context::real()).err();
        let refused = open(Programs::Refused, json!({"command": ["/bin/true"]})).unwrap();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        assert!(refused.suggested_fix().unwrap().contains("LINKSPAN_ALLOW_EXEC"));
        assert!(open(Programs::Allowed, json!({"command": ["/bin/true"]})).is_none());
        for bad in [
            json!({"command": []}),
            json!({"command": ["x"], "config": {"a": 1}, "config_file": "y"}),
            json!({"command": ["x"], "line_mb": 0}),
            json!({"command": ["x"], "image": "y"}),
            json!({"image": "--privileged"}),
        ] {
            assert_eq!(open(Programs::Allowed, bad).unwrap().kind(), ErrorKind::ConfigInvalid);
        }
    }

    #[test]
    fn an_image_is_opened_only_where_the_operator_named_a_client() {
        let open = |containers| exec_type(Programs::Allowed, containers, no_rows).open(json!({"image": "a/b:1"}), Context::real()).err();
        assert!(open(Containers::none()).unwrap().suggested_fix().unwrap().contains(CONTAINERS));
        assert!(open(Containers::of(Some("docker".into()))).is_none());
    }

    #[test]
    fn nothing_of_the_programs_config_and_environment_is_shown() {
        let shown = exec_type(Programs::Allowed, Containers::none(), no_rows)
            .redact(&json!({"command": ["x"], "config": {"key": "canary"}, "env": {"KEY": "canary"}}));
        assert!(!shown.to_string().contains("canary"));
    }
}
