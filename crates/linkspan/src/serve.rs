//! `serve`: the operations over HTTP, until somebody stops it. One process a data dir.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use linkspan_app::{LocalFiles, Mode, connectors::Checks, runs, secrets::Keyring};
use linkspan_core::{Context, Error, ErrorKind, Result, file_error};
use linkspan_http::{Network, Policy};
use linkspan_server::{Door, Drained, Listener, Most, Spans};
use linkspan_store::{Role, Store};
use serde_json::json;

use crate::{
    cli::{Common, Serve},
    errors::Exit,
    house::House,
    interrupt, settings,
    terminal::Terminal,
};

/// How long requests and runs under way may take to end.
const DRAIN: Duration = Duration::from_secs(30);

/// Serves until a signal; the answer is how it ended.
pub async fn run(args: &Serve, common: &Common, context: Context, terminal: Arc<Terminal>, spans: Option<Arc<Spans>>) -> Result<Exit> {
    if args.database_url.is_some() {
        return Err(Error::new(ErrorKind::Unsupported, "a hub keeps what it knows in its data dir, and in no database server yet")
            .with("option", "--database-url")
            .fix("leave the option out, and put --data-dir on a disk that is backed up"));
    }
    let address = address(args)?;
    let mode = mode(address.ip());
    keys(mode)?;
    let most = connections()?;
    let stop = interrupt::listen(terminal.clone())?;
    let dir = settings::data_dir(common.data_dir.as_ref())?;
    let store = own(&dir, &context).await?;
    let house = House::on(store, context, mode, files(&dir)?).await?;
    let door = Door::new(house.app.clone());
    if let Some(spans) = spans {
        door.traced(spans);
    }
    let router = linkspan_server::router(&door, linkspan_server::operations());
    let listener = Listener::bind(address).await?.at_most(most);
    let checks = Checks::start(house.app.clone());
    runs::start(&house.app, runs::Schedules::On).await?;
    announce(&terminal, listener.address, &dir, house.app.identity.admin.file());
    let until = async {
        stop.wait().await;
        door.halt();
    };
    // Runs stop at their next commit while requests under way are answered.
    let resting = async {
        stop.wait().await;
        runs::drain(&house.app, DRAIN).await;
    };
    let (drained, ()) = tokio::join!(listener.serve(router, until, DRAIN), resting);
    drop(checks);
    house.close().await;
    if let Drained::Cut(connections) = drained {
        terminal.err(&format!("{connections} connections were cut: they did not end within {} s", DRAIN.as_secs()));
    }
    Ok(Exit::OK)
}

/// The HTTP policy of a server: others say where requests go, so internal addresses are out of reach unless they are named.
pub fn policy() -> Result<Policy> {
    let text = std::env::var("LINKSPAN_EGRESS_ALLOW").unwrap_or_default();
    let allow = text.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::parse::<Network>).collect::<Result<_>>();
    Ok(Policy::Guarded { allow: allow.map_err(|e| e.with("setting", "LINKSPAN_EGRESS_ALLOW"))? })
}

fn address(args: &Serve) -> Result<SocketAddr> {
    let bind = args.bind.trim();
    if let Ok(whole) = bind.parse::<SocketAddr>() {
        return Ok(SocketAddr::new(whole.ip(), args.port.unwrap_or(whole.port())));
    }
    let ip = match bind {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        text => text.trim_matches(['[', ']']).parse().map_err(|_| {
            Error::new(ErrorKind::ConfigInvalid, "this is no address to listen on")
                .with("bind", text)
                .fix("give an address of this machine, such as 127.0.0.1, 0.0.0.0 or [::]:8007")
        })?,
    };
    Ok(SocketAddr::new(ip, args.port.unwrap_or(Serve::PORT)))
}

/// `LINKSPAN_CONNECTIONS` and `LINKSPAN_CONNECTIONS_PER_ADDRESS`: how many callers may be connected at once.
fn connections() -> Result<Most> {
    let usual = Most::default();
    let number = |setting: &'static str, usual: usize| {
        let Some(given) = std::env::var(setting).ok().filter(|v| !v.is_empty()) else { return Ok(usual) };
        given.parse().ok().filter(|n| (1..=1_000_000).contains(n)).ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid, "the number of connections is from 1 to 1000000")
                .with("setting", setting)
                .fix(format!("set it to a number, such as {usual}"))
        })
    };
    Ok(Most {
        in_all: number("LINKSPAN_CONNECTIONS", usual.in_all)?,
        per_address: number("LINKSPAN_CONNECTIONS_PER_ADDRESS", usual.per_address)?,
    })
}

/// Reachable from elsewhere is production, whatever the environment says.
fn mode(ip: IpAddr) -> Mode {
    let said = std::env::var("LINKSPAN_ENV").is_ok_and(|env| env.eq_ignore_ascii_case("production"));
    if said || !ip.is_loopback() { Mode::Production } else { Mode::Development }
}

/// In production, secrets rest under a key that somebody chose and keeps elsewhere.
fn keys(mode: Mode) -> Result<()> {
    match std::env::var("CONNECTOR_ENCRYPTION_KEY") {
        Ok(text) => Keyring::parse(&text).map(drop).map_err(|e| e.with("setting", "CONNECTOR_ENCRYPTION_KEY")),
        Err(_) if mode == Mode::Production => {
            Err(Error::new(ErrorKind::ConfigInvalid, "a server that others can reach needs an encryption key for its secrets")
                .fix("set CONNECTOR_ENCRYPTION_KEY (`linkspan keys generate` makes one) and keep a copy of it; or listen on 127.0.0.1"))
        }
        Err(_) => Ok(()),
    }
}

/// The one folder whose files callers may name; the data dir's own files are not in it.
fn files(dir: &Path) -> Result<LocalFiles> {
    let folder = std::env::var_os("LINKSPAN_FILES_DIR").filter(|d| !d.is_empty()).map_or_else(|| dir.join("files"), PathBuf::from);
    std::fs::create_dir_all(&folder).map_err(|e| file_error("the folder for files cannot be made", &folder, e))?;
    let whole = folder.canonicalize().map_err(|e| file_error("the folder for files cannot be opened", &folder, e))?;
    Ok(LocalFiles::Under(whole))
}

/// The data dir as its one owner.
async fn own(dir: &Path, context: &Context) -> Result<Store> {
    let store = Store::open(dir, context).await?;
    if store.role() == Some(Role::Owner) {
        return Ok(store);
    }
    store.close().await;
    let owner = std::fs::read_to_string(dir.join("owner.lock")).unwrap_or_default();
    let owner = if owner.trim().is_empty() { "another process".to_owned() } else { format!("process {}", owner.trim()) };
    Err(Error::new(ErrorKind::Conflict, format!("{owner} works in this data dir, and a data dir has one owner"))
        .with("data_dir", dir.display())
        .fix("stop that process or wait for it, or serve another --data-dir"))
}

fn announce(terminal: &Terminal, address: SocketAddr, dir: &Path, admin_key: Option<&Path>) {
    let url = format!("http://{address}");
    if terminal.json() {
        return terminal.json_line(&json!({
            "event": "serving", "url": url, "data_dir": dir, "admin_key_file": admin_key, "version": env!("CARGO_PKG_VERSION") }));
    }
    let paint = terminal.paint_out();
    terminal.out(&format!("{} {}", paint.good("linkspan is serving at"), paint.bold(&url)));
    terminal.out(&format!("  docs       {url}/docs"));
    terminal.out(&format!("  data dir   {}", dir.display()));
    match admin_key {
        Some(file) => terminal.out(&format!("  admin key  {}", file.display())),
        None => terminal.out("  admin key  LINKSPAN_ADMIN_KEY"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(bind: &str, port: Option<u16>) -> Result<String> {
        address(&Serve { bind: bind.into(), port, database_url: None }).map(|a| a.to_string())
    }

    #[test]
    fn an_address_may_be_written_in_several_ways() {
        assert_eq!(at("127.0.0.1", None).unwrap(), "127.0.0.1:8007");
        assert_eq!(at("localhost", Some(0)).unwrap(), "127.0.0.1:0");
        assert_eq!(at("0.0.0.0:9000", None).unwrap(), "0.0.0.0:9000");
        assert_eq!(at("[::]:9000", Some(1)).unwrap(), "[::]:1");
        assert_eq!(at("::1", None).unwrap(), "[::1]:8007");
        assert_eq!(at("everywhere", None).unwrap_err().kind(), ErrorKind::ConfigInvalid);
    }

    #[test]
    fn what_others_can_reach_is_production() {
        assert_eq!(mode([0, 0, 0, 0].into()), Mode::Production);
        assert_eq!(mode([10, 0, 0, 1].into()), Mode::Production);
        assert_eq!(mode([127, 0, 0, 1].into()), Mode::Development);
    }
}
