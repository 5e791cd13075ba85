//! `catalog add`: manifests from files, folders, URLs or the registry into the catalog of this data dir or of a server.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use clap::ArgMatches;
use futures::StreamExt;
use http::Method;
use indicatif::{ProgressBar, ProgressStyle};
use linkspan_app::catalog::from_file;
use linkspan_core::{Error, ErrorKind, Result, file_error};
use serde_json::{Map, Value, json};

use crate::{
    cli::{CatalogAdd, Common},
    errors::{self, Exit},
    remote::{Client, Place},
    terminal::{Terminal, table},
};

/// Folders in folders, no deeper.
const DEEPEST: usize = 8;

/// Manifests that are judged and stored at the same time.
const AT_ONCE: usize = 8;
/// More manifests than this say how far they are.
const FEW: usize = 20;

/// One manifest to add: how it is called here, and the operation's input; or why there is none.
struct Wanted {
    shown: String,
    input: Result<Value>,
}

/// Each is added for itself: one that is refused leaves the others in, and the exit code says so.
pub async fn run(args: &CatalogAdd, below: &ArgMatches, common: &Common, terminal: &Terminal) -> Result<Exit> {
    let mut wanted = Vec::new();
    for what in &args.what {
        wanted.extend(named(what, args.name.as_deref())?);
    }
    if args.name.is_some() && wanted.len() > 1 {
        return Err(Error::new(ErrorKind::ConfigInvalid, "one name cannot stand for several manifests").fix("leave --name out"));
    }
    let client = Client::open(&Place::of(below)?, common).await?;
    refuse_namesakes(&mut wanted);
    let progress = Progress::start(terminal, wanted.len());
    let client = &client;
    let asked = futures::stream::iter(wanted).map(async |one: Wanted| {
        let answer = match one.input {
            Ok(Value::Object(fields)) => client.call(&Method::POST, "/v1/catalog", &fields).await,
            Ok(_) => Err(Error::new(ErrorKind::Internal, "a manifest makes no request")),
            Err(e) => Err(e),
        };
        progress.one_more();
        (one.shown, answer)
    });
    let done = asked.buffered(AT_ONCE).collect().await;
    progress.end();
    client.close().await;
    tell(done, terminal)
}

/// Of two files that would be one type the first is taken: the other would silently be its next version.
fn refuse_namesakes(wanted: &mut [Wanted]) {
    let mut taken: HashMap<String, String> = HashMap::new();
    for one in wanted {
        let Some(name) = one.input.as_ref().ok().and_then(|input| input["name"].as_str()).map(str::to_owned) else { continue };
        match taken.get(&name) {
            Some(first) => {
                let e = Error::new(ErrorKind::AlreadyExists, "another manifest of this command has the same name");
                one.input =
                    Err(e.with("type", &name).with("first", first).fix("rename the file or its folder, or add it alone with --name"));
            }
            None => drop(taken.insert(name, one.shown.clone())),
        }
    }
}

/// How far a long list of manifests is.
struct Progress<'a> {
    terminal: &'a Terminal,
    all: usize,
    bar: Option<ProgressBar>,
    done: AtomicUsize,
}

impl<'a> Progress<'a> {
    fn start(terminal: &'a Terminal, all: usize) -> Self {
        let bar = (all > FEW && terminal.person_watches()).then(|| {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} manifests").expect("the template is well written");
            ProgressBar::new(all as u64).with_style(style)
        });
        Self { terminal, all, bar, done: AtomicUsize::new(0) }
    }
    fn one_more(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        match &self.bar {
            Some(bar) => bar.inc(1),
            // Plain lines where nobody watches: a tenth at a time.
            None if self.all > FEW && !self.terminal.json() && done.is_multiple_of(self.all.div_ceil(10)) => {
                self.terminal.err(&format!("{done} of {} manifests", self.all));
            }
            None => {}
        }
    }
    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn tell(done: Vec<(String, Result<Value>)>, terminal: &Terminal) -> Result<Exit> {
    if done.len() == 1 {
        let (what, answer) = done.into_iter().next().expect("there is one");
        let answer = answer?;
        terminal.show(&json!({ "manifests": [entry(&what, &answer)] }), |paint| {
            let name = answer["type"].as_str().unwrap_or_default();
            let streams = answer["manifest"]["streams"].as_array().map_or(0, Vec::len);
            format!("{} {name} ({streams} streams)", paint.good(answer["action"].as_str().unwrap_or_default()))
        });
        return Ok(Exit::OK);
    }
    let all: Vec<Value> = done
        .iter()
        .map(|(what, answer)| match answer {
            Ok(answer) => entry(what, answer),
            Err(e) => json!({ "from": what, "action": "refused", "error": e.to_json() }),
        })
        .collect();
    terminal.show(&json!({ "manifests": all }), |paint| {
        let rows = done.iter().map(|(what, answer)| match answer {
            Ok(a) => vec![text(a, "action"), text(a, "type"), what.clone()],
            Err(e) => vec!["refused".into(), String::new(), format!("{what}: {}", e.message())],
        });
        table(&["action", "type", "from"], &[], rows.collect(), paint)
    });
    let refused = done.iter().filter(|(_, answer)| answer.is_err()).count();
    match done.iter().find_map(|(what, answer)| answer.as_ref().err().map(|e| (what, e))) {
        None => Ok(Exit::OK),
        Some((_, e)) if refused == done.len() => Ok(Exit::of(e.kind())),
        Some((what, e)) => {
            terminal
                .err(&format!("{refused} were refused; the first one is {what}:\n{}", errors::human(e, terminal.paint_err()).trim_end()));
            Ok(Exit::PARTIAL)
        }
    }
}

fn entry(what: &str, answer: &Value) -> Value {
    let version = answer["manifest"]["versions"].as_array().and_then(|v| v.last()).map_or(Value::Null, |v| v["number"].clone());
    json!({
        "from": what, "action": answer["action"], "type": answer["type"], "version": version, "streams": answer["manifest"]["streams"],
    })
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// What a word means: a URL, a file, a folder of manifests, else a name in the registry.
fn named(what: &str, name: Option<&str>) -> Result<Vec<Wanted>> {
    let with_name = |mut input: Map<String, Value>| {
        if let Some(name) = name {
            input.insert("name".into(), name.into());
        }
        vec![Wanted { shown: linkspan_core::mask_url(what), input: Ok(input.into()) }]
    };
    if what.starts_with("http://") || what.starts_with("https://") {
        return Ok(with_name(Map::from_iter([("url".to_owned(), json!(what))])));
    }
    let path = Path::new(what);
    if path.is_dir() {
        let mut files = Vec::new();
        manifests_in(path, 0, &mut files)?;
        if files.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "there is no manifest in the folder")
                .with("path", what)
                .fix("manifests are YAML files with `type: DeclarativeSource`"));
        }
        return Ok(files.iter().map(|file| Wanted { shown: file.display().to_string(), input: read(file, name) }).collect());
    }
    if path.exists() || what.contains(['/', '\\']) || what.ends_with(".yaml") || what.ends_with(".yml") {
        return Ok(vec![Wanted { shown: path.display().to_string(), input: Ok(read(path, name)?) }]);
    }
    Ok(with_name(Map::from_iter([("registry".to_owned(), json!(what))])))
}

fn read(file: &Path, name: Option<&str>) -> Result<Value> {
    let text = std::fs::read_to_string(file).map_err(|e| file_error("the manifest cannot be read", file, e))?;
    // A bare `manifest.yaml` is called after the folder that it lies in.
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut input = from_file(text, &whole.display().to_string(), name);
    input["from"] = file.file_name().map_or(Value::Null, |f| f.to_string_lossy().into());
    Ok(input)
}

/// YAML files that are manifests, in order; others lie beside them in every connector's folder.
fn manifests_in(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let read = std::fs::read_dir(folder).map_err(|e| file_error("the folder cannot be read", folder, e))?;
    let mut paths: Vec<PathBuf> = read.filter_map(|f| f.ok()).map(|f| f.path()).collect();
    paths.sort();
    for path in paths {
        let is_yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        if path.is_dir() && depth < DEEPEST {
            manifests_in(&path, depth + 1, found)?;
        } else if is_yaml && is_manifest(&path) {
            found.push(path);
        }
    }
    Ok(())
}

fn is_manifest(file: &Path) -> bool {
    let named = file.file_stem().is_some_and(|s| s == "manifest");
    named || std::fs::read_to_string(file).is_ok_and(|text| text.contains("DeclarativeSource") || text.contains("DeclarativeStream"))
}
